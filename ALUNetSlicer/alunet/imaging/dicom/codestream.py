"""Sizes that a compressed image states in itself, looked at before a decoder is let near it."""

from __future__ import annotations

import struct

_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {
    0xC4,
    0xC8,
    0xCC,
}  # JPEG's and JPEG-LS' start of frame
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def stated_size(stream: bytes) -> tuple[int, int] | None:
    """Return columns and rows that a JPEG, JPEG-LS or JPEG 2000 image states, or None."""
    if stream[:2] == b"\xff\xd8":
        return _jpeg(stream)
    if stream[4:8] == b"jP  ":  # a JP2 file around it
        stream = stream[max(0, stream.find(b"\xff\x4f\xff\x51")) :]
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 24:
        right, bottom, left, top = struct.unpack(">4I", stream[8:24])
        return right - left, bottom - top
    return None


def _jpeg(stream: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 < len(stream):
        if stream[place] != 0xFF:
            return None
        marker = stream[place + 1]
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack(">2H", stream[place + 5 : place + 9])
            return columns, rows
        place += 2 + max(2, struct.unpack(">H", stream[place + 2 : place + 4])[0])
    return None
