"""Repeat steps that ran out of memory with smaller batches, and keep the size that fits.

Scores and segmentations do not depend on how many tiles or slices are computed at a time. The
weights of a training depend on its batch: a person's round is trained with a smaller one, and its
record says so; the trainings of a study must be alike, so a study ends there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from alunet.errors import OutOfMemory
from alunet.model import hardware
from alunet.schema import Event

if TYPE_CHECKING:
    from alunet.loop.loop import Loop

TRAINING, SCORING = "training", "scoring"
SMALLEST = 1 / 8
_OF_TRAINING = ("time a step", "train")  # steps of `steps.learn`; the other that can be is scoring
_UNCHANGING = ("plan", "preprocess", "refresh labels")


@dataclass(frozen=True)
class MemoryShares:
    """How large batches may be on a computer, as shares of the recipe's.

    Attributes:
        machine: memory of the computer; on another one the usual sizes are tried again.
        shares: of "training" and "scoring"; 1 where it is not there.
    """

    machine: str = ""
    shares: dict[str, float] = field(default_factory=dict)

    def of(self, what: str) -> float:
        """Return the share of `TRAINING` or `SCORING`."""
        return self.shares.get(what, 1.0)


def shares_of(loop: Loop) -> MemoryShares:
    """Return what fitted into the memory of this computer before."""
    kept = loop.memory_shares
    if kept is None and loop.project.settings.memory_shares is not None:
        kept = MemoryShares(**loop.project.settings.memory_shares)
    machine = f"{hardware.memory_limit() >> 20} MiB"
    return kept if kept is not None and kept.machine == machine else MemoryShares(machine)


def reduced(arguments: dict[str, Any], shares: MemoryShares) -> dict[str, Any]:
    """Return the arguments of a child process with the batches that fit."""
    found = dict(arguments)
    for what in (TRAINING, SCORING):
        if what in found and shares.of(what) < 1:
            found[what] = {**found[what], "memory_share": shares.of(what)}
    if TRAINING in found and shares.of(TRAINING) < 1:
        found["threads"] = max(1, round(found["threads"] * shares.of(TRAINING)))
    return found


def make_smaller(loop: Loop, arguments: dict[str, Any], step: str, error: OutOfMemory) -> None:
    """Note that a step needs smaller batches, and say so; raise the error, with what memory there
    was, where it cannot have any.

    Args:
        step: the step that was running, of `alunet.model.child.step`.
    """
    what = TRAINING if step in _OF_TRAINING else SCORING
    shares = shares_of(loop)
    share = shares.of(what) / 2
    if what not in arguments or step in _UNCHANGING or share < SMALLEST:
        raise OutOfMemory(f"{error.message} {_there(shares)}", _HINT) from error
    if what == TRAINING and loop.project.settings.annotation is None:
        raise OutOfMemory(
            f"{error.message} {_there(shares)} Smaller batches would make this training unlike the "
            "others of the study.",
            "Give the study more memory, or begin another one with a smaller preset.",
        ) from error
    loop.memory_shares = MemoryShares(shares.machine, {**shares.shares, what: share})
    if not loop.project.read_only:
        loop.project.settings.memory_shares = asdict(loop.memory_shares)
    text = (
        f"There was not enough memory for the {what}. {_there(shares)} It is tried again with "
        f"batches of 1/{round(1 / share)} of the usual size."
    )
    loop.emit(Event("message", {"text": text}))


_HINT = "End other programs, or use a computer or a card with more memory."


def _there(shares: MemoryShares) -> str:
    free = hardware.memory_free() >> 20
    return f"This computer has {shares.machine} of memory, {free} MiB of it free now."
