"""Files that are whole or not there, and a folder that one writer has at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from alunet.errors import InputError
from alunet.storage.failures import reporting_failures
from alunet.storage.locks import InUse, lock_stream

_TEMPORARY = re.compile(r"tmp-[0-9a-f]{32}-(.+)")  # strict: a case may be called tmp-1
_PASSING_FOLDER = re.compile(r"tmp-[0-9a-f]{16}")


@contextlib.contextmanager
def atomic_path(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; what was written then replaces `path`, on
    disk.

    The temporary name keeps the ending, because image libraries choose the format by it. Where the
    block raises, `path` stays as it was. Without `sync` the caller makes the rename durable with
    `sync_folder`, once for many files.

    Raises:
        InputError: the disk is full.
    """
    temporary = path.with_name(f"tmp-{uuid.uuid4().hex}-{path.name}")
    try:
        with reporting_failures(path.parent, temporary):
            yield temporary
            with temporary.open("r+b") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


def written_name(path: Path) -> str | None:
    """The name that the temporary file of `atomic_path` was to get; None for a file that is no
    such one.
    """
    match = _TEMPORARY.fullmatch(path.name)
    return match[1] if match else None


def passing_folder(folder: Path, names: Iterable[str]) -> Path:
    """Return where files are written that become those of these names in `folder`, all at once;
    the same names have the same place.
    """
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return folder / f"tmp-{digest[:16]}"


def remove_leftovers(folder: Path, older_than: float = 0.0) -> None:
    """Removes the temporary files and folders that killed writers left in a folder and below.

    Args:
        older_than: seconds since they were written last; 0: the caller knows that nothing is
            being written there.
    """
    for parent, folders, names in os.walk(folder):
        for name in [name for name in folders if _PASSING_FOLDER.fullmatch(name)]:
            if _age(Path(parent, name)) >= older_than:
                shutil.rmtree(Path(parent, name), ignore_errors=True)
                folders.remove(name)
        for name in names:
            file = Path(parent, name)
            if written_name(file) is not None and _age(file) >= older_than:
                file.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since it was written last; 0 where it is gone."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0


def cut_log(file: Path, most: int) -> None:
    """Keep the second half of a log of more than `most` bytes, from the start of a line; lines
    that are written at that moment may be lost.
    """
    with contextlib.suppress(OSError):  # Windows keeps what is being written
        if file.stat().st_size <= most:
            return
        with file.open("r+b") as stream:
            stream.seek(-(most // 2), os.SEEK_END)
            kept = stream.read().partition(b"\n")[2]
            stream.seek(0)
            stream.write(kept)
            stream.truncate()


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` durable, where the system can (Windows needs and offers
    nothing).
    """
    if sys.platform == "win32":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON in UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8", newline="\n")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class FolderLock:
    """An advisory lock of the operating system on a folder; it ends with the process, however that
    ends.

    Args:
        folder: an existing folder; a small file ``lock`` is left in it.

    Raises:
        InUse: somebody else holds the lock.
        InputError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._stream: IO[bytes] | None = None
        try:
            self._stream = (folder / "lock").open("a+b")
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written: {error.strerror}.", "Open it for reading only."
            ) from error
        try:
            lock_stream(self._stream)
        except OSError as error:
            self.release()
            raise InUse(
                f"The project {folder} is in use by another process.",
                "Wait until it ends, or stop it; or open the project for reading only.",
            ) from error

    def release(self) -> None:
        """Gives the folder back; a second call does nothing."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
