"""The room that long work leaves on a disk, so that what people do always fits."""

from __future__ import annotations

import shutil
from pathlib import Path

from alunet.storage.failures import DiskFull

RESERVE = 512 << 20
"""Bytes that uploads and jobs leave free: annotations and the database need them."""


def check_room(folder: Path, size: int = 0, reserve: int = RESERVE) -> None:
    """Raise DiskFull where `size` more bytes would leave less than `reserve` free in `folder`."""
    free = shutil.disk_usage(folder).free
    if free - size < reserve:
        raise DiskFull(
            f"The disk of {folder} has {free >> 20} MiB free; {reserve >> 20} MiB of them are kept "
            "for annotations.",
            "Make room, then start it again: what was finished is kept.",
        )
