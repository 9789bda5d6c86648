"""The second file of a pair: it is beside its header, and nothing but data."""

from __future__ import annotations

import os
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.forms.streams import odd

_DATA = (".raw", ".zraw", ".gz", ".bz2", ".bin", ".img", ".dat")


def named_sibling(header: Path, name: str) -> Path:
    """Return the file of voxels that a header names, its bytes as letters of Latin-1.

    Raises:
        InputError: the name is more than a plain name of a file of voxels, or the file is missing.
    """
    name = os.fsdecode(name.encode("latin-1"))
    if not name or Path(name).name != name or "\\" in name or ":" in name or "%" in name:
        raise odd(header, "its header names a file elsewhere")
    if not name.isprintable() or not name.lower().endswith(_DATA):
        raise odd(header, f"its header names '{name[:60]}', which is no file of voxels")
    return checked_sibling(header, header.with_name(name))


def checked_sibling(header: Path, file: Path) -> Path:
    """Return a file beside a header; raise InputError where it is missing or a link."""
    if file.is_symlink():  # it could lead to any file of the computer
        raise odd(header, f"its voxels ({file.name}) are a link to another place")
    if not file.is_file():
        raise InputError(
            f"{header} cannot be read: its voxels are missing ({file.name}).",
            "Copy both files again.",
        )
    return file
