"""BMP."""

from __future__ import annotations

import struct
from pathlib import Path

from alunet.imaging.forms.found import Declared
from alunet.imaging.forms.streams import cut_off, odd

READER = "BMPImageIO"
_BITS = (8, 24, 32)
_MOST_PIXELS = 1 << 16  # a side


def examine(path: Path, ending: str) -> Declared:
    """Return what the header declares.

    Raises:
        InputError: it is odd, or there are fewer bytes than it declares.
    """
    length = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(54)
    if head[:2] != b"BM":
        raise odd(path, "its content is no image of that form")
    if len(head) < 54:
        raise cut_off(path, len(head), 54)
    stated, start, own = struct.unpack("<I4xII", head[2:18])
    width, height, planes, bits, packing = struct.unpack("<iiHHI", head[18:34])
    if own < 40 or planes != 1 or bits not in _BITS or packing:
        raise odd(path, f"it has {bits} bits a pixel, packed in the way {packing}")
    if not (0 < width <= _MOST_PIXELS and 0 < abs(height) <= _MOST_PIXELS):
        raise odd(path, f"it declares {width} x {height} pixels")
    colors = struct.unpack("<I", head[46:50])[0]
    if start < 14 + own + (4 * min(colors, 256) if bits == 8 else 0) or colors > 256:
        raise odd(path, f"its pixels begin at {start}, within its header")
    row = (width * bits // 8 + 3) // 4 * 4
    need = max(stated, start + row * abs(height))
    if length < need:
        raise cut_off(path, length, need)
    return Declared(width * abs(height) * (3 if bits == 8 else bits // 8))
