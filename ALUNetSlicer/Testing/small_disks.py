"""Small file systems of their own that can be filled up; root on Linux can make them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

KINDS = ("tmpfs", "ext4")
"""In memory; and a file with blocks of 1 KiB, smaller than a page, so that files have holes."""


class NoMount(Exception):
    """No file system can be mounted here."""


@contextlib.contextmanager
def mounted(folder: Path, mebibytes: int, kind: str = "tmpfs", options: str = "") -> Iterator[Path]:
    """Mount an empty file system at `folder`, and take it away at the end.

    Args:
        options: of mount, more than are needed, like "errors=remount-ro".

    Raises:
        NoMount: this computer or this user cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image = folder.with_name(f"{folder.name}.image")
    if kind == "tmpfs":
        source, more = "tmpfs", f"size={mebibytes}m"
    else:
        source, more = str(image), "loop"
        with image.open("wb") as stream:
            stream.truncate(mebibytes << 20)
        # nothing kept for root, which the tests are
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "1024", source)
    more = ",".join(filter(None, (more, options)))
    _run("mount", "-t", kind, "-o", more, source, str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        image.unlink(missing_ok=True)


def _run(*command: str) -> None:
    if sys.platform != "linux":
        raise NoMount("only Linux can mount a small file system for a test")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoMount(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise NoMount(f"no small file system can be mounted here: {done.stderr.strip()}")


def fill(disk: Path, kibibytes: int) -> Path:
    """Fill a disk up to so many KiB that are left; returns the file to remove."""
    filler, size = disk / "filler", 0
    with filler.open("wb") as stream:
        step = _free(disk) - (kibibytes << 10)
        while step >= 1024:
            try:
                os.posix_fallocate(stream.fileno(), size, step)
            except OSError:  # the file's own description takes some of it
                step //= 2
                continue
            size += step
            os.fsync(stream.fileno())
            step = min(step, _free(disk) - (kibibytes << 10))
    return filler


def _free(disk: Path) -> int:
    usage = os.statvfs(disk)
    return usage.f_bavail * usage.f_frsize
