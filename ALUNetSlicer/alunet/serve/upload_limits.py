"""How large foreign data become: found out before they are taken apart."""

from __future__ import annotations

import zlib
from pathlib import Path

import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.reading import Told, holds_its_voxels, ignore_part
from alunet.schema import Code
from alunet.serve.problems import Refused

_BLOCK = 1 << 20


def check_image(file: Path, limit: int, told: Told = ignore_part) -> None:
    """Raises Refused where an image file holds more than `limit` bytes of voxels, InputError where
    it is none.

    Nothing is decompressed into memory, and no other file is read: a header that names one is
    refused.

    Args:
        told: hears how much of a packed file was looked at.
    """
    if not holds_its_voxels(file):
        raise InputError("The header of the file names another file.", "Send it as one file.")
    with file.open("rb") as stream:
        if stream.read(2) == b"\x1f\x8b" and _expands_beyond(file, limit + _BLOCK, told):
            raise _too_large(limit)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(
            "The file is no image of the form that its name says.", "Send it again."
        ) from error
    values = reader.GetNumberOfComponents()
    for extent in reader.GetSize():
        values *= extent
    if values * 8 > limit and values * _value_bytes(reader.GetPixelID()) > limit:
        raise _too_large(limit)


def _value_bytes(kind: int) -> int:
    """Bytes of one component of SimpleITK's pixel type; 8 where that is not known."""
    return sitk.Image(1, 1, 1, kind).GetSizeOfPixelComponent() if kind >= 0 else 8


def _expands_beyond(file: Path, limit: int, told: Told) -> bool:
    """Whether a gzip file holds more than `limit` bytes; damaged ones end early."""
    machine, total, size = zlib.decompressobj(31), 0, file.stat().st_size
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            told(min(1.0, stream.tell() / size))
            while block:
                try:
                    total += len(machine.decompress(block, _BLOCK))
                except zlib.error:
                    return False
                if total > limit:
                    return True
                block = machine.unconsumed_tail or machine.unused_data
                if machine.eof:
                    machine = zlib.decompressobj(31)
    return False


def gunzip(content: bytes, size: int) -> bytes:
    """The content of gzip data that must be `size` bytes long; raises InputError for anything
    else.
    """
    machine = zlib.decompressobj(31)
    try:
        plain = machine.decompress(content, size + 1)
    except zlib.error as error:
        raise InputError("The body is no gzip data.", "Send it again.") from error
    if len(plain) != size or not machine.eof:
        raise InputError(
            f"The body does not hold {size} bytes.", "Send the voxels of the sample's box."
        )
    return plain


def _too_large(limit: int) -> Refused:
    return Refused(
        Code.TOO_LARGE, f"The image has more than {limit} bytes of voxels.", "Crop or split it."
    )
