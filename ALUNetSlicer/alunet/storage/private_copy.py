"""A database as it is now, in memory: for reading where SQLite cannot have its own files."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

from alunet.storage.failures import Locked

_LOGS = ("-wal", "-journal")
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.05

_State = list[tuple[int, int] | None]


def read_copy(database: Path) -> sqlite3.Connection:
    """Return a connection to a copy in memory of a database, with what its log holds.

    Nothing is written beside the database. Where it has a log, both are copied to the folder for
    temporary files first, for a moment.

    Raises:
        Locked: others write it all the time.
        OSError, sqlite3.Error: it cannot be read, or there is no room for the copy either.
    """
    for _ in range(_ATTEMPTS):
        before = _state(database)
        memory = _copied(database, with_log=any(part and part[1] for part in before[1:]))
        if _state(database) == before:
            memory.execute("PRAGMA query_only = ON")
            return memory
        memory.close()
        time.sleep(_PAUSE_SECONDS)
    raise Locked(f"{database} is being written all the time.", "Try again in a moment.")


def _state(database: Path) -> _State:
    """When each file of the database was written last, and its size; None where it is not there."""
    found: _State = []
    for part in ("", *_LOGS):
        try:
            about = Path(f"{database}{part}").stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((about.st_mtime_ns, about.st_size))
    return found


def _copied(database: Path, with_log: bool) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        if with_log:
            with tempfile.TemporaryDirectory(prefix="alunet-") as folder:
                copy = Path(folder) / database.name
                _back_up(f"{database.absolute().as_uri()}?immutable=1", str(copy))
                for part in _LOGS:
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copyfile(f"{database}{part}", f"{copy}{part}")
                _back_up(copy.as_uri(), memory)
        else:
            _back_up(f"{database.absolute().as_uri()}?immutable=1", memory)
    except BaseException:
        memory.close()
        raise
    return memory


def _back_up(source: str, target: str | sqlite3.Connection) -> None:
    """Copy a database's pages by SQLite, never by opening its file: closing that again would give
    back the locks of this process's other connections.

    A source that is immutable is read without its log, and without a lock.
    """
    opened = target if isinstance(target, sqlite3.Connection) else sqlite3.connect(target)
    reading = sqlite3.connect(source, uri=True)
    try:
        reading.backup(opened)
    finally:
        reading.close()
        if opened is not target:
            opened.close()
