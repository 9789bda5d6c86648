"""What is said and answered where the structures of a project change."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from alunet.errors import InputError


class AnswerNeeded(InputError):
    """A change asks for something that only a person can say.

    Attributes:
        about: the argument that says it: "earlier" or "voxels".
        choices: what can be said, each with what it means.
    """

    def __init__(self, message: str, about: str, choices: dict[str, str]) -> None:
        words = ", or ".join(f"'{choice}' ({meaning})" for choice, meaning in choices.items())
        super().__init__(message, f"Choose: {words}.")
        self.about, self.choices = about, choices


@dataclass(frozen=True)
class Change:
    """What a change did.

    Attributes:
        again: annotated samples that came back into the worklist.
        notes: what it did and what follows, for a person.
    """

    again: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """Who asks for a change; the same request sent again has the same key and digest."""

    author: str = "annotator"
    key: str = ""
    digest: str = ""


def checked_color(color: str) -> str:
    """Return a color as #rrggbb in lower case; raises InputError for anything else."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", color.strip()):
        raise InputError(
            f"'{color[:20]}' is no color.", "Give red, green and blue as #rrggbb, like #e04040."
        )
    return color.strip().lower()


def clean_name(name: str) -> str:
    """Return a name as it is kept: composed (NFC), single blanks."""
    return unicodedata.normalize("NFC", " ".join(name.split()))
