"""Files that are whole or not there, and a folder that one writer has at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from alunet.errors import InputError
from alunet.storage.failures import reporting_failures
from alunet.storage.locks import InUse, lock_stream

_TEMPORARY = re.compile(r"tmp-[0-9a-f]{32}-(.+)")  # strict: a case may be called tmp-1


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


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that killed writers left in a folder and below; nobody may be
    writing there.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            if written_name(Path(name)) is not None:
                Path(parent, name).unlink(missing_ok=True)


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
