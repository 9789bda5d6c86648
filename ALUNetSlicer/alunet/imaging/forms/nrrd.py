"""NRRD (.nrrd, .nhdr, .seg.nrrd)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO

from alunet.imaging.forms.found import Declared
from alunet.imaging.forms.sibling import named_sibling
from alunet.imaging.forms.streams import cut_off, odd, verify
from alunet.imaging.limits import MOST_HEADER, SLACK

READER = "NrrdImageIO"
_TYPES = (
    (1, "signed char,int8,int8_t,uchar,unsigned char,uint8,uint8_t"),
    (2, "short,short int,signed short,signed short int,int16,int16_t"),
    (2, "ushort,unsigned short,unsigned short int,uint16,uint16_t"),
    (4, "int,signed int,int32,int32_t,uint,unsigned int,uint32,uint32_t,float"),
    (8, "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t"),
    (8, "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t,double"),
)
_BYTES = {name: size for size, names in _TYPES for name in names.split(",")}
_PACKED: dict[str, int | str] = {"gzip": 31, "gz": 31, "bzip2": "bz2", "bz2": "bz2"}
_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
_DETACHED = re.compile(r"\s*data\s*file\s*:", re.IGNORECASE)
_LONGEST_FIELD = 512  # letters; teem writes beyond its buffer in longer ones
_LONGEST_ENTRY = 1 << 16  # of what is kept for other programs (key:=value), and of comments
_MOST_AXES = 8


def examine(path: Path, ending: str) -> Declared:
    """Return what the header declares.

    Raises:
        InputError: it is odd, names another file than its own or its sibling, or there are fewer
            bytes than it declares.
    """
    with path.open("rb") as stream:
        fields, data_file = _fields(path, stream)
        start = stream.tell()
    sibling, file = None, path
    if ending == ".nhdr":
        sibling = file = named_sibling(path, data_file or "")
        start = 0
    elif data_file is not None:
        raise odd(path, "its header names another file")
    size = _declared(path, fields)
    encoding = fields.get("encoding", "").lower()
    there = file.stat().st_size - start - _skipped(path, fields, pair=sibling is not None)
    if encoding in _PACKED:
        kind = _PACKED[encoding]
        return Declared(size, lambda: _verify(file, start, kind, size), sibling)
    if encoding in ("raw", "ascii", "txt", "text", "hex"):
        need = {"raw": size, "hex": 2 * size}.get(encoding, size // _type(path, fields))
        if there < need:
            raise cut_off(file, there, need)
        return Declared(size, sibling=sibling)
    raise odd(path, f"its voxels are packed as '{encoding[:20]}'")


def _fields(path: Path, stream: IO[bytes]) -> tuple[dict[str, str], str | None]:
    """Return the fields in lower case with their values, and the file that they name, if any."""
    if not _MAGIC.fullmatch(stream.readline(16)):
        raise odd(path, "its content is no image of that form")
    fields: dict[str, str] = {}
    data_file = None
    while stream.tell() < MOST_HEADER:
        raw = stream.readline(_LONGEST_ENTRY)
        line = raw.decode("latin-1").removesuffix("\n").removesuffix("\r")
        if not line:  # the end of a detached header is the end of its file
            return fields, data_file
        if "\r" in line or "\0" in line or len(raw) == _LONGEST_ENTRY:
            raise odd(
                path, f"its header has a strange line end, or {_LONGEST_ENTRY} letters a line"
            )
        if _DETACHED.match(line):
            if data_file is not None:
                raise odd(path, "its header names several files")
            data_file = line.split(":", 1)[1].strip()
            continue
        if line.startswith("#") or (":=" in line and ": " not in line.split(":=")[0]):
            continue
        _take(path, line, fields)
    raise odd(path, "its header has no end")


def _take(path: Path, line: str, fields: dict[str, str]) -> None:
    name, colon, value = line.partition(":")
    name = name.strip().lower()
    if not colon or len(line) > _LONGEST_FIELD:
        raise odd(path, f"its header has the line '{line[:40]}' ({len(line)} letters)")
    if name in fields:
        raise odd(path, f"its header has the field '{name[:40]}' twice")
    fields[name] = value.strip()


def _type(path: Path, fields: dict[str, str]) -> int:
    kind = fields.get("type", "").lower()
    if kind not in _BYTES:
        raise odd(path, f"its voxels are of the type '{kind[:30]}'")
    return _BYTES[kind]


def _declared(path: Path, fields: dict[str, str]) -> int:
    axes, extents = fields.get("dimension", ""), fields.get("sizes", "").split()
    if not re.fullmatch("[0-9]", axes) or not 1 <= int(axes) <= _MOST_AXES:
        raise odd(path, f"it declares '{axes[:20]}' axes")
    size = _type(path, fields)
    if len(extents) != int(axes) or not all(re.fullmatch("[0-9]{1,9}", e) for e in extents):
        raise odd(path, f"it declares {axes} axes of '{' '.join(extents)[:40]}' voxels")
    for extent in extents:
        size *= int(extent)
    return size


def _skipped(path: Path, fields: dict[str, str], *, pair: bool) -> int:
    """Return how many bytes are passed over before the voxels."""
    skipped = 0
    for name in ("line skip", "lineskip", "byte skip", "byteskip"):
        value = fields.get(name, "0")
        whole = re.fullmatch("-?[0-9]{1,9}", value)
        if whole is None or int(value) < -1 or (int(value) and not pair):
            raise odd(path, f"its header has the {name} '{value[:20]}'")
        skipped += max(0, int(value))
    return skipped


def _verify(file: Path, start: int, kind: int | str, size: int) -> None:
    with file.open("rb") as stream:
        stream.seek(start)
        verify(file, stream, kind, size, size + SLACK)
