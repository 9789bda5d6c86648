"""Report and keep what was found damaged and put right."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from alunet.project.events import Events

log = logging.getLogger("alunet.project")


def tell(events: Events, file: str, text: str) -> None:
    """Store the event "repaired", within the caller's transaction, and log it.

    Args:
        file: name of what was damaged, below the project.
    """
    log.warning("%s", text)
    events.add("repaired", {"file": file, "text": text})


def keep_apart(root: Path, file: Path) -> None:
    """Copy a damaged file into the project's folder ``damaged``, for people to look at."""
    folder = root / "damaged"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(file, folder / file.name)
