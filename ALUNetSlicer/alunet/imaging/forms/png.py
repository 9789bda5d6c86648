"""PNG."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO

from alunet.errors import InputError
from alunet.imaging.forms.found import Declared
from alunet.imaging.forms.streams import BLOCK, COPY_AGAIN, cut_off, damaged, odd

READER = "PNGImageIO"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_SEVEN_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row of each pass of Adam7, and its steps."""
_MOST_PIXELS = 1 << 16  # a side


def examine(path: Path, ending: str) -> Declared:
    """Return what the header declares.

    Raises:
        InputError: it is odd, or it declares more than its bytes could unpack to.
    """
    with path.open("rb") as stream:
        head = stream.read(33)
    if head[:8] != _SIGNATURE or head[12:16] != b"IHDR":
        raise odd(path, "its content is no image of that form")
    if len(head) < 33:
        raise cut_off(path, len(head), 33)
    width, height, bits, color, _, _, interlaced = struct.unpack(">IIBBBBB", head[16:29])
    if not (0 < width <= _MOST_PIXELS and 0 < height <= _MOST_PIXELS):
        raise odd(path, f"it declares {width} x {height} pixels")
    if color not in _SAMPLES or bits not in (1, 2, 4, 8, 16) or interlaced > 1:
        raise odd(path, f"it has {bits} bits of the color type {color}")
    rows = _rows(width, height, bits * _SAMPLES[color], bool(interlaced))
    if rows > 1100 * path.stat().st_size:  # deflate makes at most 1032 bytes of one
        raise cut_off(path, path.stat().st_size, rows // 1032)
    samples = 4 if color == 3 else _SAMPLES[color]
    return Declared(
        width * height * samples * (2 if bits == 16 else 1), lambda: _verify(path, rows)
    )


def _rows(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Return the bytes of all rows, each with the one that names its filter."""
    total = 0
    for left, top, step, jump in _SEVEN_PASSES if interlaced else ((0, 0, 1, 1),):
        columns = (width - left + step - 1) // step
        total += (
            ((columns * bits + 7) // 8 + 1) * ((height - top + jump - 1) // jump) * (columns > 0)
        )
    return total


def _verify(path: Path, rows: int) -> None:
    """Check the checksum of every chunk, and that of the packed rows."""
    machine, found = zlib.decompressobj(), 0
    with path.open("rb") as stream:
        stream.seek(len(_SIGNATURE))
        while True:
            kind, content = _chunk(path, stream)
            if kind == b"IEND":
                break
            if kind != b"IDAT":
                continue
            while content and not machine.eof:
                try:
                    found += len(machine.decompress(content, BLOCK))
                except zlib.error as error:
                    raise damaged(path, "its packed pixels cannot be unpacked") from error
                if found > rows:
                    raise damaged(path, f"it unpacks to more than {rows} bytes")
                content = machine.unconsumed_tail
    if found < rows or not machine.eof:
        raise cut_off(path, found, rows)


def _chunk(path: Path, stream: IO[bytes]) -> tuple[bytes, bytes]:
    head = stream.read(8)
    length = int.from_bytes(head[:4], "big")
    if len(head) < 8 or stream.tell() + length + 4 > path.stat().st_size:
        raise InputError(f"{path} is cut off: it ends within a chunk.", COPY_AGAIN)
    content = stream.read(length)
    if int.from_bytes(stream.read(4), "big") != zlib.crc32(head[4:] + content):
        raise damaged(path, "a chunk does not fit its checksum")
    return head[4:], content
