"""TIFF (.tif, .tiff)."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from alunet.errors import InputError
from alunet.imaging.forms.found import Declared
from alunet.imaging.forms.streams import COPY_AGAIN, damaged, odd, verify

READER = "TIFFImageIO"
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_WIDTH, _HEIGHT, _BITS, _PACKING, _SAMPLES = 256, 257, 258, 259, 277
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # of strips, or of tiles
_DEFLATED = (8, 32946)
_EXPANSION = {1: 1, 5: 4096, 8: 1100, 32773: 65, 32946: 1100}  # bytes that one byte may become
_MOST_PAGES = 100_000
_MOST_PIXELS = 1 << 17  # a side


@dataclass(frozen=True)
class _Page:
    """Bytes of the pixels of a page, and where they are: (first byte, length)."""

    size: int
    packing: int
    parts: tuple[tuple[int, int], ...]


def examine(path: Path, ending: str) -> Declared:
    """Return what the pages declare.

    Raises:
        InputError: it is odd, a page is not there as a whole, or it declares more than its bytes
            could unpack to.
    """
    pages = _pages(path)
    for number, page in enumerate(pages):
        packed = sum(length for _, length in page.parts)
        if page.size > _EXPANSION[page.packing] * packed + 4096:
            raise damaged(
                path, f"page {number + 1} has {packed} bytes for {page.size} bytes of pixels"
            )
    return Declared(sum(page.size for page in pages), lambda: _verify(path, pages))


def _pages(path: Path) -> list[_Page]:
    length = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            raise odd(path, "its content is no image of that form")
        form = _Form(path, length, order, struct.unpack(f"{order}H", head[2:4])[0] == 43)
        place = struct.unpack_from(order + form.pointer, head, 8 if form.big else 4)[0]
        pages: list[_Page] = []
        seen: set[int] = set()
        while place:
            if place in seen or len(seen) >= _MOST_PAGES:
                raise damaged(path, "its pages follow each other in a circle")
            seen.add(place)
            page, place = form.page(stream, place, len(seen))
            pages.append(page)
    if not pages:
        raise odd(path, "it has no page")
    return pages


@dataclass(frozen=True)
class _Form:
    path: Path
    length: int
    order: str
    big: bool

    @property
    def pointer(self) -> str:
        return "Q" if self.big else "I"

    def page(self, stream: IO[bytes], place: int, number: int) -> tuple[_Page, int]:
        """Return the page of the directory at a place, and the place of the next one."""
        counted = "Q" if self.big else "H"
        entry = 20 if self.big else 12
        stream.seek(place)
        count = self._number(stream.read(struct.calcsize(counted)), counted, number)
        entries = stream.read(min(count, 4096) * entry)
        end = stream.read(struct.calcsize(self.pointer))
        following = self._number(end, self.pointer, number)
        fields = {}
        for first in range(0, len(entries), entry):
            tag, kind = struct.unpack_from(f"{self.order}HH", entries, first)
            if tag in (_WIDTH, _HEIGHT, _BITS, _PACKING, _SAMPLES, *_OFFSETS, *_COUNTS):
                fields[tag] = self._values(stream, entries[first + 4 : first + entry], kind, number)
        return self._page(fields, number), following

    def _number(self, content: bytes, kind: str, page: int) -> int:
        if len(content) < struct.calcsize(kind):
            raise InputError(
                f"{self.path} is cut off: page {page} is beyond its {self.length} bytes.",
                COPY_AGAIN,
            )
        return int(struct.unpack(self.order + kind, content)[0])

    def _values(self, stream: IO[bytes], entry: bytes, kind: int, page: int) -> tuple[int, ...]:
        count = int(struct.unpack_from(self.order + self.pointer, entry)[0])
        inline = entry[struct.calcsize(self.pointer) :]
        if kind not in _TYPES or count * _SIZES[kind] > self.length:
            raise damaged(self.path, f"page {page} describes itself in a way that cannot be")
        size = count * _SIZES[kind]
        if size > len(inline):
            stream.seek(struct.unpack(self.order + self.pointer, inline)[0])
            inline = stream.read(size)
        if len(inline) < size:
            raise damaged(self.path, f"page {page} is beyond its {self.length} bytes")
        return struct.unpack(f"{self.order}{count}{_TYPES[kind]}", inline[:size])

    def _page(self, fields: dict[int, tuple[int, ...]], number: int) -> _Page:
        width, height = (fields.get(tag, (0,))[0] for tag in (_WIDTH, _HEIGHT))
        if not (0 < width <= _MOST_PIXELS and 0 < height <= _MOST_PIXELS):
            raise odd(self.path, f"page {number} declares {width} x {height} pixels")
        packing = fields.get(_PACKING, (1,))[0]
        if packing not in _EXPANSION:
            raise odd(self.path, f"page {number} is packed in a way that is not read ({packing})")
        samples = fields.get(_SAMPLES, (1,))[0]
        bits = sum(fields.get(_BITS, (1,))[:samples]) or 1
        bits = max(bits, samples * fields.get(_BITS, (1,))[0])
        offsets = next((fields[tag] for tag in _OFFSETS if tag in fields), ())
        counts = next((fields[tag] for tag in _COUNTS if tag in fields), ())
        size = (width * bits + 7) // 8 * height
        if len(offsets) == 1 and not counts and packing == 1:
            counts = (size,)
        parts = tuple(zip(offsets, counts, strict=False))
        if len(offsets) != len(counts) or not parts:
            raise damaged(self.path, f"page {number} does not say where its pixels are")
        for start, part in parts:
            if start + part > self.length:
                raise InputError(
                    f"{self.path} is cut off: page {number} is beyond its {self.length} bytes.",
                    COPY_AGAIN,
                )
        return _Page(size, packing, parts)


def _verify(path: Path, pages: list[_Page]) -> None:
    with path.open("rb") as stream:
        for page in pages:
            if page.packing not in _DEFLATED:
                continue
            for start, length in page.parts:
                stream.seek(start)
                verify(path, io.BytesIO(stream.read(length)), 15, 0, 4 * page.size + 4096)
