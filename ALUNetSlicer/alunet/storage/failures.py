"""Why a disk or a database cannot be used, whichever library met it first: one class a cause.

Python says it with a number; SQLite, SimpleITK, torch and Blosc2 say that something failed. Where
they do, a file that is written for nothing tells what the system says. All of these may pass, once
a person or the time has done something about the cause; what was finished is kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

from alunet.errors import InputError
from alunet.storage.locks import InUse


class StorageFailure(InputError):
    """Files or the database cannot be used for now."""


class DiskFull(StorageFailure):
    """There is no room for what was to be written."""


class ReadOnly(StorageFailure):
    """The disk is read-only, or its files belong to others."""


class NoDescriptors(StorageFailure):
    """The system opens no more files for this process."""


class DiskError(StorageFailure):
    """The disk fails to read or write."""


class DamagedDatabase(StorageFailure):
    """SQLite's own check found damage in the database."""


class Locked(InUse, StorageFailure):
    """Another process has the database or the file for longer than one waits."""


_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_BY_NUMBER: dict[int, type[StorageFailure]] = {
    **dict.fromkeys(_FULL, DiskFull),
    **dict.fromkeys((errno.EROFS, *_FORBIDDEN), ReadOnly),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), NoDescriptors),
    **dict.fromkeys((errno.EIO, getattr(errno, "ESTALE", errno.EIO)), DiskError),
}
# of Windows, which maps several of them to EACCES or EINVAL
_BY_WINDOWS: dict[int, type[StorageFailure]] = {
    **dict.fromkeys((39, 112, 1295), DiskFull),  # HANDLE_DISK_FULL, DISK_FULL, quota
    19: ReadOnly,  # WRITE_PROTECT
    **dict.fromkeys((32, 33), Locked),  # SHARING_VIOLATION, LOCK_VIOLATION
    4: NoDescriptors,  # TOO_MANY_OPEN_FILES
    **dict.fromkeys((23, 483, 1117), DiskError),  # CRC, DEVICE_HARDWARE_ERROR, IO_DEVICE
}
_OTHER_PATHS = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}

# SQLite's primary codes and, for Python 3.10, which does not tell them, their words
_SQLITE = {
    5: "database is locked",
    6: "database table is locked",
    8: "attempt to write a readonly database",
    10: "disk I/O error",
    11: "database disk image is malformed",
    13: "database or disk is full",
    14: "unable to open database file",
    15: "locking protocol",
    26: "file is not a database",
}
_SQLITE_FAILURES: dict[int, type[StorageFailure]] = {
    5: Locked,
    6: Locked,
    8: ReadOnly,
    10: DiskError,
    13: DiskFull,
    15: Locked,
}
_SQLITE_VAGUE = {10, 14}
_SQLITE_DAMAGE = {11, 26}

_PROBE_BYTES = 1 << 20
_SPARE_FILES = 8  # more than a connection to a database opens
_AGAIN = "Make room, then repeat the command: what was finished is kept."
_HINTS: dict[type[StorageFailure], str] = {
    DiskFull: _AGAIN,
    ReadOnly: "Make it writable, then try again: what was finished is kept, and can be read.",
    NoDescriptors: "Try again in a moment, or raise the limit of open files.",
    DiskError: "Check the disk, then try again: what was finished is kept.",
    Locked: "Try again in a moment.",
}


@contextlib.contextmanager
def reporting_failures(folder: Path, partial: Path | None = None) -> Iterator[None]:
    """Raise a StorageFailure where the block fails for a cause of the disk; other errors pass.

    Args:
        folder: where the block reads or writes.
        partial: the file that it writes and that is thrown away after an error.
    """
    try:
        yield
    except (OSError, RuntimeError, sqlite3.Error) as error:
        failure = _failure(error, folder, partial)
        if failure is None:
            raise
        raise failure from error


def known_failure(error: BaseException) -> InputError | None:
    """Return the one line for a failing disk, or for a path that cannot be used; None for any
    other error.

    It is for errors of the system that `reporting_failures` did not see.
    """
    name = getattr(error, "filename", None)
    path = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else None
    cause, reason = _cause(error)
    if cause is not None and not (_is_forbidden(error) and path is None):
        return _told(cause, reason, None if path is None else path.parent, path, error)
    if isinstance(error, OSError) and error.errno in _OTHER_PATHS and path is not None:
        return InputError(
            f"{path} cannot be used: {error.strerror}.", "Check the path and who may use it."
        )
    return None


def failure_of_reading(path: Path) -> StorageFailure | None:
    """Return why the system does not let a file be read, which a library could not; None where it
    does, so that the file itself must be wrong.
    """
    spare: list[int] = []
    try:
        with path.open("rb") as stream:
            while stream.read(_PROBE_BYTES):
                pass
            for _ in range(_SPARE_FILES):
                spare.append(os.dup(stream.fileno()))
    except OSError as error:
        known = known_failure(error)
        return known if isinstance(known, NoDescriptors | DiskError | Locked) else None
    finally:
        for number in spare:
            os.close(number)
    return None


def means_damage(error: BaseException) -> bool:
    """Whether SQLite says that a file is no database, or a damaged one."""
    return isinstance(error, sqlite3.Error) and sqlite_code(error) in _SQLITE_DAMAGE


def sqlite_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code of an error; 0 where it is not known."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return int(code) & 0xFF
    return next((known for known, words in _SQLITE.items() if words in str(error)), 0)


def _failure(
    error: OSError | RuntimeError | sqlite3.Error, folder: Path, partial: Path | None
) -> StorageFailure | None:
    cause, reason = _cause(error)
    if _is_vague(error):
        number = _refusal(partial or folder / f"tmp-{uuid.uuid4().hex}")
        if number in _BY_NUMBER:
            cause, reason = _BY_NUMBER[number], os.strerror(number)
    path = getattr(error, "filename", None)
    file = Path(os.fsdecode(path)) if isinstance(path, str | bytes) else None
    if cause is None or (_is_forbidden(error) and file is None):
        return None
    return _told(cause, reason, folder, file, error)


def _cause(error: BaseException) -> tuple[type[StorageFailure] | None, str]:
    """The cause that an error names itself, and the system's words for it."""
    if isinstance(error, sqlite3.Error):
        cause = _SQLITE_FAILURES.get(sqlite_code(error))
        return cause, os.strerror(errno.ENOSPC) if cause is DiskFull else str(error)
    if isinstance(error, OSError):
        windows = _BY_WINDOWS.get(getattr(error, "winerror", None) or 0)
        cause = windows or _BY_NUMBER.get(error.errno or 0)
        return cause, error.strerror or str(error)
    for number in sorted(_BY_NUMBER.keys() - _FORBIDDEN):
        if os.strerror(number) in str(error):
            return _BY_NUMBER[number], os.strerror(number)
    return None, ""


def _told(
    cause: type[StorageFailure],
    reason: str,
    folder: Path | None,
    path: Path | None,
    error: BaseException,
) -> StorageFailure:
    """A failure in words."""
    where = "" if folder is None else f" of {folder}"
    if _is_forbidden(error):
        hint = "Check the path and who may use it."
        return ReadOnly(f"{path} cannot be used: {reason}.", hint)
    texts = {
        DiskFull: f"The disk{where} is full{_free(folder)}: {reason}.",
        ReadOnly: f"The disk{where} is read-only: {reason}.",
        NoDescriptors: f"Too many files are open: {reason}.",
        DiskError: f"The disk{where} failed: {reason}.",
        Locked: f"{path or folder or 'A file'} is locked by another process.",
    }
    return cause(texts[cause], _HINTS[cause])


def _free(folder: Path | None) -> str:
    if folder is None:
        return ""
    with contextlib.suppress(OSError):
        return f" ({shutil.disk_usage(folder).free >> 20} MiB free)"
    return ""


def _is_forbidden(error: BaseException) -> bool:
    return (
        isinstance(error, OSError)
        and error.errno in _FORBIDDEN
        and (getattr(error, "winerror", None) or 0) not in _BY_WINDOWS
    )


def _is_vague(error: BaseException) -> bool:
    """Whether the disk may be the cause of an error although it does not say so."""
    if isinstance(error, sqlite3.Error):
        return sqlite_code(error) in _SQLITE_VAGUE
    return not isinstance(error, OSError) and _cause(error)[0] is None


def _refusal(file: Path) -> int:
    """The system's number for why it takes no more bytes into `file`, which is removed, or opens no
    more files; 0 where it does.
    """
    spare: list[int] = []
    try:
        with file.open("ab") as stream:
            stream.write(bytes(_PROBE_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
            for _ in range(_SPARE_FILES):
                spare.append(os.dup(stream.fileno()))
    except OSError as error:
        return error.errno or 0
    finally:
        for number in spare:
            os.close(number)
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
    return 0
