"""MetaImage (.mha, .mhd)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO

from alunet.imaging.forms.found import Declared
from alunet.imaging.forms.sibling import named_sibling
from alunet.imaging.forms.streams import cut_off, odd, verify
from alunet.imaging.limits import MOST_HEADER, SLACK

READER = "MetaImageIO"
_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_]{0,63})\s*=\s*(.*)")
_LAST = "elementdatafile"
_LONGEST = 4096  # letters of a line
_MOST_AXES = 6


def examine(path: Path, ending: str) -> Declared:
    """Return what the header declares.

    Raises:
        InputError: it is odd, names another file than its own or its sibling, or there are fewer
            bytes than it declares.
    """
    with path.open("rb") as stream:
        fields = _fields(path, stream)
        start = stream.tell()
    value, sibling, file = fields[_LAST], None, path
    if ending == ".mhd":
        sibling = file = named_sibling(path, value)
        start = 0
    elif value != "LOCAL":
        raise odd(path, "its header names another file")
    size = _declared(path, fields)
    if not _is_true(path, fields, "compresseddata", "False"):
        there = file.stat().st_size - start
        if there < size:
            raise cut_off(file, there, size)
        return Declared(size, sibling=sibling)
    return Declared(size, lambda: _verify(file, start, size), sibling)


def _fields(path: Path, stream: IO[bytes]) -> dict[str, str]:
    """Return the keys in lower case with their values; `ElementDataFile` ends them."""
    fields: dict[str, str] = {}
    while stream.tell() < MOST_HEADER:
        raw = stream.readline(_LONGEST)
        if not raw.endswith(b"\n"):
            raise odd(path, "its header has no end, or a line of more than 4096 letters")
        line = raw.decode("latin-1").rstrip("\r\n")
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", line):
            raise odd(path, "its header has characters that cannot be printed")
        match = _LINE.fullmatch(line)
        if match is None:
            raise odd(path, "its content is no image of that form")
        key, value = match[1].lower(), match[2].strip()
        if key in fields:
            raise odd(path, f"its header has the key {match[1]} twice")
        if _LAST in re.sub(r"[^a-z]", "", value.lower()):
            raise odd(path, "its header names a file within another value")
        fields[key] = value
        if key == _LAST:
            return fields
    raise odd(path, "its header has no end")


def _declared(path: Path, fields: dict[str, str]) -> int:
    if fields.get("headersize", "0") != "0":
        raise odd(path, f"its header has the HeaderSize {fields['headersize'][:20]}")
    if not _is_true(path, fields, "binarydata", "False"):
        raise odd(path, "its voxels are written in letters")
    kind = fields.get("elementtype", "").removesuffix("_ARRAY")
    if kind not in _BYTES:
        raise odd(path, f"its voxels are of the type '{kind[:30]}'")
    axes = _whole(path, fields.get("ndims", ""))
    extents = fields.get("dimsize", "").split()
    if not 1 <= axes <= _MOST_AXES or len(extents) != axes:
        raise odd(path, f"it declares {axes} axes and {len(extents)} extents")
    size = _BYTES[kind] * _whole(path, fields.get("elementnumberofchannels", "1"))
    for extent in extents:
        size *= _whole(path, extent)
    return size


def _whole(path: Path, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise odd(path, f"its header has '{text[:20]}' where a whole number is needed")
    return int(text)


def _is_true(path: Path, fields: dict[str, str], key: str, usual: str) -> bool:
    value = fields.get(key, usual)
    if value not in ("True", "False", "true", "false", "1", "0"):
        raise odd(path, f"its header has the {key} '{value[:20]}'")
    return value in ("True", "true", "1")


def _verify(file: Path, start: int, size: int) -> None:
    with file.open("rb") as stream:
        stream.seek(start)
        head = stream.read(2)
        stream.seek(start)
        verify(file, stream, 31 if head == b"\x1f\x8b" else 15, size, size + SLACK)
