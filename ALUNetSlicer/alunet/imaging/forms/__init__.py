"""The forms of image files: which reader each has, and what its header may declare.

The ending of a file decides its form, never its content: so no header can choose its reader. A new
form of one file is one module here, with `READER` and `examine`, and its endings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from alunet.imaging.forms import bmp, gipl, meta, nifti, nrrd, png, tiff
from alunet.imaging.forms.found import Declared
from alunet.imaging.limits import TooLarge


class Form(Protocol):
    """A module that knows one form.

    Attributes:
        READER: the name of SimpleITK's reader.
    """

    READER: str

    def examine(self, path: Path, ending: str) -> Declared:
        """Return what a header declares; raise InputError where it is odd, or the file short."""


_FORMS: dict[str, Form] = {
    **dict.fromkeys((".nii", ".nii.gz", ".hdr", ".img", ".img.gz"), nifti),
    **dict.fromkeys((".nrrd", ".nhdr", ".seg.nrrd"), nrrd),
    **dict.fromkeys((".mha", ".mhd"), meta),
    **dict.fromkeys((".gipl", ".gipl.gz"), gipl),
    **dict.fromkeys((".tif", ".tiff"), tiff),
    ".png": png,
    ".bmp": bmp,
}


def reader_of(ending: str) -> str:
    """Return the name of SimpleITK's reader for files of an ending."""
    return _FORMS[ending].READER


def examine(path: Path, ending: str, limit: int) -> Declared:
    """Check the header of an image file, and compare what it declares with the file's length.

    Args:
        limit: bytes of voxels that it may declare.

    Raises:
        TooLarge: it declares more.
        InputError: the header is odd, or names a file that it may not.
        OSError: the file cannot be read.
    """
    found = _FORMS[ending].examine(path, ending)
    if found.size > limit:
        raise TooLarge(limit)
    return found
