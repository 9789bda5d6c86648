"""Folders for files on their way to the viewer: one for each agent, as long as it lives."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from pathlib import Path

from alunet.agent.file_lock import AgentLock
from alunet.schema.private import private_folder

SPOOL_DAYS = 2.0
"""Files of an agent that was killed stay for this long: its viewer may still read them."""
_LOCK = "in-use"


class Spool:
    """A folder of this agent's own, which no other agent removes while this one lives.

    Args:
        folder: of the spool folders of all agents; what agents that ended long ago left there is
            removed.

    Attributes:
        folder: of this agent.
    """

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        for old in folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > SPOOL_DAYS * 86400:
                    _remove_unused(old)
        self.folder = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.folder.mkdir(mode=0o700)
        self._lock = AgentLock(self.folder / _LOCK)
        self._lock.take()

    def file(self, name: str) -> Path:
        """Return a new path for a file."""
        safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
        return self.folder / f"{uuid.uuid4().hex[:8]}-{safe[-_LONGEST:]}"

    def close(self) -> None:
        """Remove the folder."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)


_LONGEST = 100


def _remove_unused(folder: Path) -> None:
    """Remove the spool folder of an agent that has ended.

    A folder of an earlier version has no lock; its name begins with the number of the process.
    """
    if not (folder / _LOCK).exists() and _lives(folder.name.partition("-")[0]):
        return
    lock = AgentLock(folder / _LOCK)
    if lock.take():
        lock.release()  # Windows removes no open file
        shutil.rmtree(folder)


def _lives(number: str) -> bool:
    if not number.isdecimal() or os.name == "nt":
        return False
    try:
        os.kill(int(number), 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
