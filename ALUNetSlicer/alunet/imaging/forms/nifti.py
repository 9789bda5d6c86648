"""NIfTI-1 in one file (.nii, .nii.gz), and pairs of NIfTI-1 or Analyze (.hdr with .img)."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path

import numpy as np

from alunet.errors import InputError
from alunet.imaging.forms.found import Declared
from alunet.imaging.forms.sibling import checked_sibling
from alunet.imaging.forms.streams import (
    BLOCK,
    cut_off,
    first_bytes,
    is_gzip,
    odd,
    verify,
)
from alunet.imaging.limits import SLACK

READER = "NiftiImageIO"
_HEADER = 348
_BITS = {1: 1, 2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32}
_BITS |= {1024: 64, 1280: 64, 1792: 128, 2304: 32}
_FLOATS = {16: "f4", 64: "f8"}
_MOST_AXES = 7


def examine(path: Path, ending: str) -> Declared:
    """Return what the header declares; for a file of a pair, of both files.

    Raises:
        InputError: it is odd, is the other half of a pair, is NIfTI-2, or there are fewer bytes
            than it declares.
    """
    header, file = _pair(path, ending)
    head = first_bytes(header, _HEADER + 4)
    if len(head) < _HEADER:
        raise cut_off(header, len(head), _HEADER)
    order = _order(header, head, single=header == file)
    size = _declared(header, head, order)
    start = _start(header, head, order, file)
    sibling = file if header == path else header
    verify_file = partial(_verify, file, start, size, _float(head, order))
    if not is_gzip(file) and file.stat().st_size < start + size:
        raise cut_off(file, file.stat().st_size, start + size)
    return Declared(size, verify_file, sibling if header != file else None)


def _pair(path: Path, ending: str) -> tuple[Path, Path]:
    """Return the file of the header and that of the voxels."""
    if ending in (".nii", ".nii.gz"):
        return path, path
    stem = path.with_suffix("") if ending == ".img.gz" else path
    if ending != ".hdr":
        return checked_sibling(path, stem.with_suffix(".hdr")), path
    packed = path.with_suffix(".img.gz")
    plain = path.with_suffix(".img")
    return path, checked_sibling(path, packed if packed.exists() and not plain.exists() else plain)


def _order(path: Path, head: bytes, *, single: bool) -> str:
    sizes = {struct.unpack(f"{order}i", head[:4])[0]: order for order in "<>"}
    if 540 in sizes:
        raise InputError(f"{path} is a NIfTI-2 file.", "Store it as NIfTI-1, NRRD or MetaImage.")
    if _HEADER not in sizes:
        raise odd(path, "its content is no image of that form")
    if single != (head[344:348] == b"n+1\0"):
        what = "is one of a pair of files" if single else "says that it is no pair of files"
        raise odd(path, f"its header {what}")
    return sizes[_HEADER]


def _declared(path: Path, head: bytes, order: str) -> int:
    axes, *extents = struct.unpack(f"{order}8h", head[40:56])
    kind = struct.unpack(f"{order}h", head[70:72])[0]
    if not 1 <= axes <= _MOST_AXES or min(extents[:axes]) < 1:
        raise odd(path, f"it declares {axes} axes of {extents[: max(0, axes)]} voxels")
    if kind not in _BITS:
        raise odd(path, f"its voxels are of the type {kind}")
    voxels = 1
    for extent in extents[:axes]:
        voxels *= extent
    return (voxels * _BITS[kind] + 7) // 8


def _start(path: Path, head: bytes, order: str, file: Path) -> int:
    """Return where the voxels begin in the file that holds them."""
    offset = struct.unpack(f"{order}f", head[108:112])[0]
    if path != file:
        if offset:
            raise odd(path, f"its voxels begin at {offset:g}")
        return 0
    if not offset:  # some programs leave it out
        return _HEADER + 4
    if not (_HEADER <= offset < 1 << 30) or offset != int(offset):
        raise odd(path, f"its voxels begin at {offset:g}")
    return int(offset)


def _float(head: bytes, order: str) -> str:
    """Return the type of floating-point voxels, empty for others."""
    kind = _FLOATS.get(struct.unpack(f"{order}h", head[70:72])[0], "")
    return order + kind if kind else ""


class _Strange:
    """Counts floating-point voxels that are no numbers: ITK reads them as 0."""

    def __init__(self, kind: str, start: int) -> None:
        self.found, self._kind, self._left, self._rest = 0, kind, start, b""

    def __call__(self, block: bytes) -> None:
        passed = min(self._left, len(block))
        self._left -= passed
        content = self._rest + block[passed:]
        whole = len(content) // np.dtype(self._kind).itemsize
        array = np.frombuffer(content, self._kind, whole)
        self.found += whole - int(np.count_nonzero(np.isfinite(array)))
        self._rest = content[array.nbytes :]


def _verify(file: Path, start: int, size: int, kind: str) -> None:
    strange = _Strange(kind, start) if kind else None
    need = start + size
    with file.open("rb") as stream:
        if is_gzip(file):
            verify(file, stream, 31, need, need + SLACK, strange)
        elif strange is not None:
            while block := stream.read(BLOCK):
                strange(block)
    if strange is not None and strange.found:
        raise InputError(
            f"{file} has {strange.found} voxels that are NaN or infinite.",
            "Replace them by numbers.",
        )
