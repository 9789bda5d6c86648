"""Who annotates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Person:
    """Who works here, with what: the author's name, and the folder for drafts and for labels on
    their way.
    """

    author: str
    folder: Path
