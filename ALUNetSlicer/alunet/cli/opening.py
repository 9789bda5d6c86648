"""Open a project for reading, also one that an earlier version made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alunet.project import Project


def opened_to_read(folder: Path) -> Project:
    """Open a project for reading only; one of an earlier version is brought up to date first.

    Raises:
        InputError: there is none, or it cannot be opened.
    """
    from alunet.project import Project
    from alunet.storage.database import OldSchema

    try:
        return Project.open(folder, read_only=True)
    except OldSchema:
        Project.open(folder, shared=True).close()
        return Project.open(folder, read_only=True)
