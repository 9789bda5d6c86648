"""What the labels that cases come with are for: hidden reference, or annotations to learn from."""

from __future__ import annotations

from dataclasses import dataclass

from alunet.errors import InputError
from alunet.imaging.labels import LabelSource

LABEL_USES = HIDDEN, TRAIN, NONE = ("hidden", "train", "none")
"""A reference that no training sees; besides, annotations once the case is planned; not taken."""


@dataclass(frozen=True)
class LabelUse:
    """What the labels of new cases mean, and what they are for.

    Attributes:
        source: what values of the label files mean.
        purpose: one of `LABEL_USES`.
        silent: numbers of structures of which the label files say nothing.
    """

    source: LabelSource
    purpose: str = HIDDEN
    silent: tuple[int, ...] = ()

    def check(self, role: str) -> None:
        """Raise InputError where there is no such purpose, or not for cases of that role."""
        if self.purpose not in LABEL_USES:
            raise InputError(
                f"{self.purpose!r} is no use of labels.", f"Use one of {', '.join(LABEL_USES)}."
            )
        if role == "test" and self.purpose == TRAIN:
            raise InputError(
                "Labels of cases to evaluate on are not learned from.",
                "Add these cases to learn from, or keep their labels hidden.",
            )
