"""What ITK passes over in silence: files that are cut off, and voxels of NIfTI files that are no
numbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alunet.errors import InputError

_HEAD = 352  # bytes that hold every header read here
_GIPL_BYTES = {7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}
_NIFTI_FLOATS = {16: "f4", 64: "f8"}
_NIFTI = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")
_COUNTED = (*_NIFTI, ".gipl", ".gipl.gz", ".bmp")


def check_integrity(path: Path, ending: str) -> None:
    """Looks at the bytes of an image file, of the forms where ITK does not look closely enough;
    others pass.

    Raises:
        InputError: the file is shorter than its header says (NIfTI, Analyze, GIPL, BMP), lacks
            pages (TIFF), is NIfTI-2, or holds NaN or infinite voxels (NIfTI: ITK reads them as 0).
    """
    if ending in (".tif", ".tiff"):
        _check_pages(path)
    if ending not in _COUNTED:
        return
    head, path = _head_and_voxels(path, ending)
    if ".nii" in ending and head[:4] in (struct.pack("<i", 540), struct.pack(">i", 540)):
        raise InputError(f"{path} is a NIfTI-2 file.", "Store it as NIfTI-1, NRRD or MetaImage.")
    need = {".gipl": _gipl_length, ".gipl.gz": _gipl_length, ".bmp": _bmp_length}.get(
        ending, _nifti_length
    )(head)
    found = _measure(path, *(_float_voxels(head) if ending in _NIFTI and need else ("", 0)))
    if found.length < need or not found.whole:
        raise InputError(
            f"{path} is cut off: {found.length} of {need} bytes.", "Copy the file again."
        )
    if found.strange:
        raise InputError(
            f"{path} has {found.strange} voxels that are NaN or infinite.",
            "Replace them by numbers.",
        )


def _head_and_voxels(path: Path, ending: str) -> tuple[bytes, Path]:
    """The first bytes of the header, and the file that holds the voxels."""
    header = path
    if ending == ".hdr":
        path = next(
            (
                path.with_suffix(end)
                for end in (".img", ".img.gz")
                if path.with_suffix(end).is_file()
            ),
            path,
        )
    elif ending in (".img", ".img.gz"):
        header = (path.with_suffix("") if ending == ".img.gz" else path).with_suffix(".hdr")
    head = b""
    for block, _ in _content(header) if header.is_file() else ():
        head += block
        if len(head) >= _HEAD:
            break
    return head[:_HEAD], path


@dataclass
class _Found:
    """Bytes after decompression, whether they may end there, and how many floating-point voxels
    are no numbers.
    """

    length: int = 0
    whole: bool = True
    strange: int = 0


def _measure(path: Path, kind: str, start: int) -> _Found:
    """Reads all of a file; `kind` is the type of its voxels where that is floating-point,
    `start` their first byte.
    """
    found, rest = _Found(), b""
    for block, found.whole in _content(path):
        voxels = block[max(0, start - found.length) :] if kind else b""
        found.length += len(block)
        if voxels:
            rest += voxels
            size = len(rest) // np.dtype(kind).itemsize
            array = np.frombuffer(rest, kind, size)
            found.strange += size - int(np.count_nonzero(np.isfinite(array)))
            rest = rest[array.nbytes :]
    return found


def _content(path: Path) -> Iterator[tuple[bytes, bool]]:
    """The content of a file in blocks, and whether it may end there; a damaged part of a gzip
    file ends it.
    """
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        machine = zlib.decompressobj(31)
        while block := stream.read(1 << 20):
            if not packed:
                yield block, True
                continue
            try:
                while block:
                    content = machine.decompress(block)
                    block = machine.unused_data
                    yield content, machine.eof
                    if machine.eof:
                        machine = zlib.decompressobj(31)
            except zlib.error:
                return


def _float_voxels(head: bytes) -> tuple[str, int]:
    """Type and first byte of the voxels of a NIfTI or Analyze file; no type where they are
    integers.
    """
    if len(head) < 348:
        return "", 0
    order = _order(head)
    kind = _NIFTI_FLOATS.get(struct.unpack(f"{order}h", head[70:72])[0], "")
    return (order + kind, _offset(head, order)) if kind else ("", 0)


def _order(head: bytes) -> str:
    return "<" if struct.unpack("<i", head[:4])[0] == 348 else ">"


def _offset(head: bytes, order: str) -> int:
    """Where the voxels begin in the file that holds them."""
    offset = struct.unpack(f"{order}f", head[108:112])[0]
    return int(offset) if head[344:347] == b"n+1" and 0 < offset < 1 << 30 else 0


def _nifti_length(head: bytes) -> int:
    """Bytes that a NIfTI or Analyze file with this header must have; 0 where the header is none."""
    if len(head) < 4:
        return 348
    order = _order(head)
    if struct.unpack(f"{order}i", head[:4])[0] != 348:
        return 0
    if len(head) < 348:
        return 348
    dims = struct.unpack(f"{order}8h", head[40:56])
    bits: int = struct.unpack(f"{order}h", head[72:74])[0]
    voxels = int(
        np.prod(
            [max(1, extent) for extent in dims[1 : 1 + min(max(dims[0], 0), 7)]], dtype=np.int64
        )
    )
    return _offset(head, order) + voxels * bits // 8


def _gipl_length(head: bytes) -> int:
    """Bytes that a GIPL file with this header must have."""
    if len(head) < 256:
        return 256
    *dims, kind = struct.unpack(">5H", head[:10])
    return 256 + int(
        np.prod([max(1, extent) for extent in dims], dtype=np.int64)
    ) * _GIPL_BYTES.get(kind, 1)


def _bmp_length(head: bytes) -> int:
    """Bytes that a BMP file with this header must have."""
    return struct.unpack("<I", head[2:6])[0] if len(head) >= 54 else 54


def _check_pages(path: Path) -> None:
    """Raises InputError where a TIFF file ends before its last page, which ITK leaves out
    without a word.
    """
    with path.open("rb") as stream:
        head, size = stream.read(16), path.stat().st_size
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            return  # no TIFF file: the reader says so
        big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        count, entry, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
        place = struct.unpack_from(order + pointer, head, 8 if big else 4)[0]
        seen = set()
        while place and place not in seen:
            seen.add(place)
            stream.seek(place)
            entries = _number(stream.read(struct.calcsize(count)), order + count)
            stream.seek(entries * entry, 1)
            end = stream.read(struct.calcsize(pointer))
            if len(end) < struct.calcsize(pointer):
                raise InputError(
                    f"{path} is cut off: page {len(seen)} lies behind its {size} bytes.",
                    "Copy it again.",
                )
            place = _number(end, order + pointer)


def _number(content: bytes, form: str) -> int:
    return struct.unpack(form, content)[0] if len(content) == struct.calcsize(form) else 0
