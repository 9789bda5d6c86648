"""Folders that their owner alone can enter. Standard library alone.

On Windows folders keep the rights of the one they are in, which below a person's own folder are
that person's; nothing is changed or checked there.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from alunet.errors import InputError

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def close_to_others() -> None:
    """Let all files and folders that this process and its children make be their owner's alone."""
    os.umask(OTHERS)


def private_folder(folder: Path) -> str:
    """Make a folder that its owner alone can enter, or close one that is there.

    Returns:
        What was repaired, in a sentence; empty where there was nothing to repair.

    Raises:
        InputError: it is another user's, or it cannot be closed.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
    if os.name == "nt":
        return ""
    if not _is_own(folder):
        raise InputError(
            f"The folder {folder} belongs to another user.",
            "Choose another place, or have that user remove it.",
        )
    if not open_to_others(folder):
        return ""
    folder.chmod(stat.S_IRWXU)
    if open_to_others(folder):
        raise InputError(
            f"Other users can enter the folder {folder}, and the disk it is on keeps no rights.",
            "Choose a folder on another disk.",
        )
    return f"Other users could enter {folder}; it is closed now."


def open_to_others(path: Path) -> bool:
    """Return whether other users than its owner have any right on a file or folder."""
    return os.name != "nt" and bool(path.stat().st_mode & OTHERS)


def _is_own(folder: Path) -> bool:
    """Whether a folder is this user's: of the same owner as a file that is made there now, for on
    some network disks that is another number than ours.
    """
    if folder.is_symlink():
        return False
    owner = folder.stat().st_uid
    if owner == os.geteuid():
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_uid == owner
    except OSError:
        return False
