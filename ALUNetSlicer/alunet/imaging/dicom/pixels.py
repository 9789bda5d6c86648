"""How the voxels of a file are stored, and whether the file can hold what it declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alunet.errors import InputError
from alunet.imaging.dicom.elements import COPY_AGAIN, DicomHeader, whole, word

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

FORMAT_KEYWORDS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
"""Attributes that `pixel_format` needs."""

MOST_FRAME_PIXELS = 1 << 28
MOST_VOXELS = 1 << 31
"""The largest that are read: a frame of 16,384 x 16,384, a volume of 2,048 x 2,048 x 512."""


@dataclass(frozen=True)
class PixelFormat:
    """How voxels are stored.

    Attributes:
        frames: how many images of `rows` x `columns` pixels the file holds.
        allocated: bits of a pixel in the file: 1, 8, 16, 32 or 64.
        stored: bits of them that count.
        signed: whether they are two's complement.
        palette: whether the values are numbers of a color table.
    """

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    signed: bool
    palette: bool = False

    @property
    def frame_bits(self) -> int:
        """Bits of one frame without compression."""
        return self.rows * self.columns * self.allocated


def pixel_format(dataset: Dataset, path: Path) -> PixelFormat:
    """Read how the voxels of a file are stored.

    Raises:
        InputError: it is a picture in colors, or of a kind that no DICOM image has.
    """
    rows, columns = whole(dataset, "Rows", 0, path), whole(dataset, "Columns", 0, path)
    frames = whole(dataset, "NumberOfFrames", 1, path)
    if not (rows and columns and frames) or rows * columns > MOST_FRAME_PIXELS:
        raise InputError(f"{path} declares {frames} frames of {columns} x {rows}.", COPY_AGAIN)
    if frames * rows * columns > 64 * MOST_VOXELS:
        raise InputError(
            f"{path} declares {frames} frames of {columns} x {rows}: too many.", COPY_AGAIN
        )
    samples = whole(dataset, "SamplesPerPixel", 1, path)
    kind = word(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    if samples != 1 or kind not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"):
        raise InputError(
            f"{path} is a picture in colors ({kind}, {samples} values a pixel), "
            "not a measured image.",
            "Choose the series that it was made from.",
        )
    allocated = whole(dataset, "BitsAllocated", 16, path)
    stored = whole(dataset, "BitsStored", allocated, path)
    high = whole(dataset, "HighBit", stored - 1, path)
    if allocated not in (1, 8, 16, 32, 64) or not 0 < stored <= allocated or high != stored - 1:
        raise InputError(
            f"{path} stores {stored} of {allocated} bits up to bit {high}, which cannot be read.",
            "Export it again as 16 bits.",
        )
    signed = whole(dataset, "PixelRepresentation", 0, path) == 1
    return PixelFormat(rows, columns, frames, allocated, stored, signed, kind == "PALETTE COLOR")


def check_length(form: PixelFormat, header: DicomHeader) -> None:
    """Raise InputError where a file is shorter than its voxels need or than it declares.

    Compressed voxels need a byte a frame at least; `decoding` looks at each frame.
    """
    declared, path = header.pixel_bytes, header.path
    need = (form.frame_bits * form.frames + 7) // 8
    if declared is None or declared == 0:
        raise InputError(f"{path} holds no voxels: it has no pixel data.", COPY_AGAIN)
    if declared < 0:
        if header.room < form.frames:
            raise InputError(
                f"{path} is cut off: {form.frames} frames in {header.room} bytes.", COPY_AGAIN
            )
        return
    if declared > header.room:
        raise InputError(
            f"{path} is cut off: {header.room} of {declared} bytes of voxels.", COPY_AGAIN
        )
    if declared < need:
        size = f"{form.columns} x {form.rows} x {form.frames}"
        raise InputError(
            f"{path} declares {size} voxels, which need {need} bytes, and has {declared}.",
            COPY_AGAIN,
        )
