"""A lock of the operating system on a file; it ends with the process, however that ends."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class AgentLock:
    """A lock on a file, which is made where it is missing and left behind, empty.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: IO[bytes] | None = None

    def take(self) -> bool:
        """Take the lock if it is free; return whether this process has it now."""
        stream = None
        try:
            stream = self._path.open("a+b")
            if sys.platform == "win32":
                stream.seek(0)
                msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if stream is not None:
                stream.close()
            return False
        self._stream = stream
        return True

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
