"""Whether an image file is whole: ITK reads some cut-off files without a word, so their bytes are counted here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alunet.errors import InputError

_HEAD = 352  # bytes that hold every header read here
_GIPL_BYTES = {7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}


def check_complete(path: Path, ending: str) -> None:
    """Compares the length of a NIfTI, Analyze, GIPL or BMP file with what its header says; other forms pass.

    Raises:
        InputError: the file is cut off.
    """
    if ending not in (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".gipl", ".gipl.gz", ".bmp"):
        return
    header = path.with_suffix("") if ending == ".img.gz" else path
    if ending == ".hdr":
        path = next((path.with_suffix(end) for end in (".img", ".img.gz") if path.with_suffix(end).is_file()), path)
    head, length, whole = _measure(path)
    if ending in (".hdr", ".img", ".img.gz"):
        header = header.with_suffix(".hdr")
        head = header.read_bytes()[:_HEAD] if header.is_file() else b""
    if ".nii" in ending and head[:4] in (struct.pack("<i", 540), struct.pack(">i", 540)):
        raise InputError(f"{path} is a NIfTI-2 file.", "Store it as NIfTI-1, NRRD or MetaImage.")
    need = {".gipl": _gipl_length, ".gipl.gz": _gipl_length, ".bmp": _bmp_length}.get(ending, _nifti_length)(head)
    if length < need or not whole:
        raise InputError(f"{path} is cut off: {length} of {need} bytes.", "Copy the file again.")


def _measure(path: Path) -> tuple[bytes, int, bool]:
    """First bytes and length of the content after decompression (by content, not by name); false where it is cut."""
    head, length, whole = b"", 0, True
    for block, may_end in _content(path):
        head = head if len(head) >= _HEAD else head + block[:_HEAD]
        length, whole = length + len(block), may_end
    return head[:_HEAD], length, whole


def _content(path: Path) -> Iterator[tuple[bytes, bool]]:
    """The content of a file in blocks, and whether it may end there; a damaged part of a gzip file ends it."""
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


def _nifti_length(head: bytes) -> int:
    """Bytes that a NIfTI or Analyze file with this header must have; 0 where the header is none."""
    if len(head) < 4:
        return 348
    order = "<" if struct.unpack("<i", head[:4])[0] == 348 else ">"
    if struct.unpack(f"{order}i", head[:4])[0] != 348:
        return 0
    if len(head) < 348:
        return 348
    dims = struct.unpack(f"{order}8h", head[40:56])
    bits = struct.unpack(f"{order}h", head[72:74])[0]
    offset = struct.unpack(f"{order}f", head[108:112])[0]
    single = head[344:347] == b"n+1"
    voxels = int(np.prod([max(1, extent) for extent in dims[1 : 1 + min(max(dims[0], 0), 7)]], dtype=np.int64))
    return (int(offset) if single and 0 < offset < 1 << 30 else 0) + voxels * bits // 8


def _gipl_length(head: bytes) -> int:
    """Bytes that a GIPL file with this header must have."""
    if len(head) < 256:
        return 256
    *dims, kind = struct.unpack(">5H", head[:10])
    return 256 + int(np.prod([max(1, extent) for extent in dims], dtype=np.int64)) * _GIPL_BYTES.get(kind, 1)


def _bmp_length(head: bytes) -> int:
    """Bytes that a BMP file with this header must have."""
    return struct.unpack("<I", head[2:6])[0] if len(head) >= 54 else 54
