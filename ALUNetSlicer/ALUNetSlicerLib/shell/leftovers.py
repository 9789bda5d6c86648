"""Files on their way that a crash of Slicer left behind: they hold patients' images and labels."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

_SUFFIXES = (".raw", ".nrrd")
"""Of labels that are handed in, and of volumes that are sent."""
_SECONDS = 24 * 3600.0
"""Younger ones may be on their way, from another Slicer too."""


def remove_leftovers(folder: Path) -> None:
    """Remove files that no running program needs; keep drafts."""
    for file in folder.iterdir():
        with contextlib.suppress(OSError):
            old = time.time() - file.stat().st_mtime > _SECONDS
            if old and file.suffix in _SUFFIXES:
                file.unlink()
