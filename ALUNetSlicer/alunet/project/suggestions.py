"""A sample that is suggested for annotation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suggestion:
    """A sample that a strategy suggested or a person chose, in its order.

    Attributes:
        state: of the sample now: "suggested", "labelled", or "unlabelled" where it went back to the
            pool.
        skipped: whether a person does not want to be asked about it.
        uncertainty: share of the other candidates that were less uncertain, None where nothing of
            that is known.
        author: who chose it, None where a strategy did.
        ahead: whether it was chosen behind the batch, for people who go on while the model trains.
    """

    sample: int
    gain: float | None
    reason: str
    state: str
    skipped: bool = False
    uncertainty: float | None = None
    author: str | None = None
    ahead: bool = False

    @property
    def in_batch(self) -> bool:
        """Whether a strategy chose it for the batch proper; then a person may have chosen it,
        too.
        """
        return not self.ahead and (self.author is None or self.gain is not None)


def chosen_by(author: str) -> str:
    """Why a sample that a person chose is in the worklist."""
    return f"chosen by {author}"
