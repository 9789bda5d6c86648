"""A full disk, or a path that cannot be used, told in one line, whichever library met it first.

Python says it with a number; SQLite, SimpleITK, torch and Blosc2 say that something failed. Where
they do, a file that is written for nothing tells whether the system still takes bytes.
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

_FULL: set[int] = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_PROBE_BYTES = 1 << 20
_PATH = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}
_HINT = "Make room, then repeat the command: what was finished is kept."


class DiskFull(InputError):
    """There is no room for what was to be written."""


@contextlib.contextmanager
def reporting_full_disk(folder: Path, partial: Path | None = None) -> Iterator[None]:
    """Raises DiskFull where the block fails because the disk of `folder` is full; other errors
    pass.

    Args:
        folder: where the block writes.
        partial: the file that it writes and that is thrown away after an error.
    """
    try:
        yield
    except (OSError, RuntimeError, sqlite3.Error) as error:
        reason = _reason(error) or (
            _refusal(partial or folder / f"tmp-{uuid.uuid4().hex}") if _vague(error) else ""
        )
        if reason:
            free = shutil.disk_usage(folder).free >> 20
            raise DiskFull(
                f"The disk of {folder} is full ({free} MiB free): {reason}.", _HINT
            ) from error
        raise


def known_failure(error: BaseException) -> InputError | None:
    """Return the one line for a full disk, or for a path that cannot be used; None for any other
    error.

    It is for errors of the system that `reporting_full_disk` did not see.
    """
    reason, name = _reason(error), getattr(error, "filename", None)
    if reason:
        where = f" of {Path(os.fsdecode(name)).parent}" if isinstance(name, str | bytes) else ""
        return DiskFull(f"The disk{where} is full: {reason}.", _HINT)
    if isinstance(error, OSError) and error.errno in _PATH and isinstance(name, str | bytes):
        path = os.fsdecode(name)
        return InputError(
            f"{path} cannot be used: {error.strerror}.", "Check the path and who may use it."
        )
    return None


def _reason(error: BaseException) -> str:
    """What the system says about room, where the error passes it on; empty where it does not."""
    if isinstance(error, sqlite3.Error):
        return os.strerror(errno.ENOSPC) if "disk is full" in str(error) else ""
    if isinstance(error, OSError) and error.errno in _FULL:
        return os.strerror(error.errno)
    return next(
        (os.strerror(code) for code in sorted(_FULL) if os.strerror(code) in str(error)), ""
    )


def _vague(error: BaseException) -> bool:
    """Whether an error may be a full disk although it does not say so."""
    return not isinstance(error, OSError)


def _refusal(file: Path) -> str:
    """Why the system takes no more bytes into `file`, which is removed; empty where it does."""
    try:
        with file.open("ab") as stream:
            stream.write(bytes(_PROBE_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return os.strerror(error.errno) if error.errno in _FULL else ""
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
    return ""
