"""Locks of the operating system on files: they end with the process that holds them, however
that ends.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from alunet.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_POLL_SECONDS = 0.02


class InUse(InputError):
    """Another process has what is asked for; it may be free later."""


class FileLock:
    """An exclusive lock on a file, which is left behind, empty.

    Args:
        path: the file; its folder exists.
        wait: how long `with` waits for others, in seconds.
    """

    def __init__(self, path: Path, wait: float = 60.0) -> None:
        self._path, self._wait = path, wait
        self._stream: IO[bytes] | None = None

    def take(self) -> bool:
        """Takes the lock if nobody has it; whether this lock is held then."""
        if self._stream is not None:
            return True
        stream = self._path.open("a+b")
        try:
            lock_stream(stream)
        except OSError:
            stream.close()
            return False
        self._stream = stream
        return True

    def release(self) -> None:
        """Gives the lock back; a second call does nothing."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> FileLock:
        """Takes the lock, waiting for it; raises InUse where others hold it for too long."""
        end = time.monotonic() + self._wait
        while not self.take():
            if time.monotonic() > end:
                raise InUse(f"{self._path} is locked by another process.", "Try again in a moment.")
            time.sleep(_POLL_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock on that file now."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    free = lock.take()
    lock.release()
    return not free


def lock_stream(stream: IO[bytes]) -> None:
    """Takes the lock on an open file, or raises OSError at once."""
    if sys.platform == "win32":
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
