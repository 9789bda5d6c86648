"""What kind of file system a folder is on, and what of SQLite holds there."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path

NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "lustre")
    + ("gpfs", "beegfs", "glusterfs", "orangefs", "pvfs2", "panfs", "davfs", "vboxsf", "vmhgfs")
    + ("prl_fs", "fuse.sshfs", "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs")
    + ("fuse.davfs2", "fuse.vmhgfs-fuse", "fuse.gcsfuse")
)
"""File systems that several computers share: none of them has another's shared memory."""

COPY_ON_WRITE = frozenset(("btrfs", "zfs", "bcachefs", "apfs", "f2fs"))
"""File systems on which room that was taken once does not stay taken."""

_REMOTE_DRIVE = 4  # of GetDriveTypeW


def kind_of(folder: Path) -> str:
    """Return the type of the file system of an existing folder, as a table of mounts names it;
    empty where the system does not tell.
    """
    if sys.platform == "win32":
        return "cifs" if _is_remote_drive(folder) else ""
    if sys.platform != "linux":
        return "apfs" if sys.platform == "darwin" else ""
    return _kind_of_device(folder.stat().st_dev, str(folder))


@lru_cache(maxsize=1024)
def _kind_of_device(device: int, folder: str) -> str:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    return kind_in(mounts, Path(folder).resolve())


def kind_in(mounts: str, folder: Path) -> str:
    """Return the type of the file system that holds `folder`, in a table like /proc/self/mounts."""
    found, length = "", -1
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _unescaped(fields[1])
        # of two on one folder the later one hides the other
        if folder.is_relative_to(point) and len(Path(point).parts) >= length:
            found, length = fields[2], len(Path(point).parts)
    return found


def is_network(folder: Path) -> bool:
    """Whether other computers may write the same files: SQLite's write-ahead log does not hold."""
    return kind_of(folder) in NETWORK


def _unescaped(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text


def _is_remote_drive(folder: Path) -> bool:
    if sys.platform != "win32":
        return False
    import ctypes

    anchor = folder.absolute().anchor
    return anchor.startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(anchor) == (
        _REMOTE_DRIVE
    )
