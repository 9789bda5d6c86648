"""GIPL (.gipl, .gipl.gz)."""

from __future__ import annotations

import struct
from pathlib import Path

from alunet.imaging.forms.found import Declared
from alunet.imaging.forms.streams import cut_off, first_bytes, is_gzip, odd, verify
from alunet.imaging.limits import SLACK

READER = "GiplImageIO"
_HEADER = 256
_MAGIC = (0xEFFFE9B0, 0x2AE389B8)
_BYTES = {7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}


def examine(path: Path, ending: str) -> Declared:
    """Return what the header declares.

    Raises:
        InputError: it is odd, or there are fewer bytes than it declares.
    """
    packed = is_gzip(path)
    head = first_bytes(path, _HEADER)
    if len(head) < _HEADER:
        raise cut_off(path, len(head), _HEADER)
    if struct.unpack(">I", head[252:256])[0] not in _MAGIC:
        raise odd(path, "its content is no image of that form")
    *extents, kind = struct.unpack(">5H", head[:10])
    if kind not in _BYTES:
        raise odd(path, f"its voxels are of the type {kind}")
    size = _BYTES[kind]
    for extent in extents:
        size *= max(1, extent)
    if not packed and path.stat().st_size < _HEADER + size:
        raise cut_off(path, path.stat().st_size, _HEADER + size)
    return Declared(size, lambda: _verify(path, _HEADER + size) if packed else None)


def _verify(path: Path, need: int) -> None:
    with path.open("rb") as stream:
        verify(path, stream, 31, need, need + SLACK)
