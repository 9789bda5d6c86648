"""The temporary folder in which a backup is made, or restored; it holds images."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alunet.storage.locks import FileLock

_PREFIX, _LOCK = "tmp-backup-", "lock"
"""People may have files and folders in a project that begin with "backup-"."""


@contextmanager
def held_files(folder: Path) -> Iterator[Path]:
    """Make a temporary folder in `folder` for the block; its lock says that it is in use."""
    place = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder, ignore_cleanup_errors=True)
    with place as name, FileLock(Path(name) / _LOCK):
        yield Path(name)


def remove_held_files(root: Path) -> None:
    """Remove what killed backups and restorations left in a folder, and nothing of one that goes
    on.
    """
    for file in root.glob(f"{_PREFIX}*/{_LOCK}"):
        lock = FileLock(file)
        if lock.take():
            lock.release()
            shutil.rmtree(file.parent, ignore_errors=True)
