"""What the labels that cases come with are for: hidden reference, or annotations to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alunet.errors import InputError
from alunet.imaging.labels import LabelSource
from alunet.project.settings import Settings
from alunet.storage.database import Database

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


def mark_training_labels(database: Database, settings: Settings, names: Sequence[str]) -> None:
    """Note the cases of these names whose label becomes annotations, within the caller's
    transaction.
    """
    wanted = {name.casefold() for name in names}
    rows = database.rows("SELECT name FROM cases WHERE role = 'pool' AND label IS NOT NULL")
    found = [name for (name,) in rows if name.casefold() in wanted]
    if found:
        settings.training_labels = list(dict.fromkeys([*settings.training_labels, *found]))
