"""The file that connections of SQLite's write-ahead log share, ``-shm``, with room that is really
taken.

SQLite maps this file into memory and writes to the map. It makes the file long by one byte a page:
on a file system with small blocks, or after a while, the rest is a hole, and where the disk is full
when it is written to, the system ends the process (SIGBUS). So the file is written in full first.
SQLite empties the file where no other process has the database open, which it sees by a lock on one
byte; that lock is held here until its own is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import struct
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from alunet.storage.file_systems import COPY_ON_WRITE, kind_of

if sys.platform == "linux":
    import fcntl

SIZE = 2 << 15  # of SQLite's unit: 8,000 pages in the log, before it is written back
_OPEN_BYTE = 128  # SQLite's UNIX_SHM_DMS: locked for reading while the file is in use
_PATIENCE_SECONDS = 5.0
_UNSURE_BYTES = 16 << 20
"""What must be free where room cannot be taken for good."""


@dataclass
class _Kept:
    """A file that is open here for as long as a connection of this process uses it: closing it
    would give back SQLite's own locks on it.
    """

    number: int
    users: int


_kept: dict[tuple[int, int], _Kept] = {}
_guard = threading.Lock()


class SharedMemory:
    """The shared memory of one database, for one connection of this process.

    Args:
        database: the database file.
    """

    def __init__(self, database: Path) -> None:
        self._database, self._path = database, Path(f"{database}-shm")
        self._key: tuple[int, int] | None = None

    def take(self) -> None:
        """Take the room before SQLite opens the file; raise OSError where there is none.

        It is taken on Linux alone, which has the lock for it. On macOS, and on file systems that
        copy what is written again, there must be plenty of room instead. Windows fails in words.
        """
        folder = self._path.parent
        unsure = sys.platform == "darwin" or kind_of(folder) in COPY_ON_WRITE
        if unsure and shutil.disk_usage(folder).free < _UNSURE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        if sys.platform == "linux":
            self._take()

    def _take(self) -> None:
        with _guard:
            with contextlib.suppress(FileNotFoundError):
                about = self._path.stat()
                self._key = about.st_dev, about.st_ino
                if self._key in _kept:
                    _kept[self._key].users += 1
                    return
            self._key = None
            number = self._opened()
            try:
                _fill(number)
            except OSError as error:
                os.close(number)
                raise OSError(error.errno, error.strerror, str(self._path)) from error
            about = os.fstat(number)
            self._key = about.st_dev, about.st_ino
            _kept[self._key] = _Kept(number, 1)

    def is_current(self) -> bool:
        """Whether the file is still the one that was taken: the last user removes it."""
        if sys.platform != "linux":
            return True
        with contextlib.suppress(FileNotFoundError):
            about = self._path.stat()
            return self._key == (about.st_dev, about.st_ino)
        return False

    def release(self) -> None:
        """Give the file back, after SQLite has; a second call does nothing."""
        with _guard:
            key, self._key = self._key, None
            if key is None:
                return
            kept = _kept[key]
            kept.users -= 1
            if not kept.users:
                del _kept[key]
                os.close(kept.number)

    def _opened(self) -> int:
        """Open the file as SQLite does: with the rights of the database."""
        about = self._database.stat()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        number = os.open(self._path, flags, about.st_mode & 0o777)
        if os.geteuid() == 0:
            os.fchown(number, about.st_uid, about.st_gid)
        return number


def _fill(number: int) -> None:
    """Give a file all its room, and hold the lock that says so."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        if _lock(number, fcntl.F_WRLCK):  # it is unused: its content does not matter
            os.ftruncate(number, 0)
            _write(number)
        if _lock(number, fcntl.F_RDLCK):
            break
        if time.monotonic() > end:  # another process begins to use it for longer than that takes
            raise BlockingIOError("SQLite's shared memory is locked.")
        time.sleep(0.01)
    os.posix_fallocate(number, 0, SIZE)  # where another program made it, without all its room


def _write(number: int) -> None:
    """Fill an empty file with zeros, or leave it empty."""
    try:
        written = os.pwrite(number, bytes(SIZE), 0)
        if written < SIZE:
            os.pwrite(number, bytes(SIZE - written), written)  # says why it was cut short
    except OSError:
        os.ftruncate(number, 0)
        raise


def _lock(number: int, kind: int) -> bool:
    """Lock SQLite's byte for this open file, not for the process as SQLite does; whether it is
    locked now.
    """
    wish = struct.pack("hhqqi4x", kind, os.SEEK_SET, _OPEN_BYTE, 1, 0)
    try:
        fcntl.fcntl(number, fcntl.F_OFD_SETLK, wish)
    except BlockingIOError:
        return False
    except PermissionError:  # POSIX allows either
        return False
    return True
