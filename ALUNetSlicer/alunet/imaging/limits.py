"""Limits for reading foreign images: size, memory and time."""

from __future__ import annotations

from alunet.errors import InputError

MIB = 1 << 20
MOST_BYTES = 16 << 30
"""Bytes of the voxels of one image after unpacking, unless a caller sets a lower limit."""
MOST_HEADER = 4 * MIB
"""Bytes of a text header; segmentations of 3D Slicer name hundreds of structures there."""
SLACK = MIB
"""Bytes that a packed file may hold beyond the voxels that its header declares."""

_MEMORY = 256 * MIB
_COPIES = 4  # of the voxels: packed, unpacked, in another type, on their way
_SECONDS = 15.0
_BYTES_A_SECOND = 8 * MIB
_FILES_A_SECOND = 50  # of a DICOM folder; a usual computer looks at ten times as many
_WALL = 10.0  # a busy computer gives a process a tenth of its time


class TooLarge(InputError):
    """An image has more voxels than may be read; nothing of it was unpacked into memory."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The image has more than {limit} bytes of voxels.", "Crop or split it.")


def memory_for(size: int) -> int:
    """Return how many bytes of memory reading an image of `size` bytes of voxels may take."""
    return _MEMORY + _COPIES * size


def seconds_for(size: int, files: int = 1) -> float:
    """Return how many seconds of a processor reading an image of `size` bytes may take, where so
    many files are looked at.
    """
    return _SECONDS + size / _BYTES_A_SECOND + files / _FILES_A_SECOND


def patience_for(size: int, files: int = 1) -> float:
    """Return after how many seconds a reader of so many files, of `size` bytes together, is
    ended.
    """
    return _WALL * seconds_for(_COPIES * size, files)


def in_mib(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / MIB:,.0f} MiB"
