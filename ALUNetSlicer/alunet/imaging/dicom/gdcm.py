"""Compressed images that the GDCM in SimpleITK decodes."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.dicom.elements import COPY_AGAIN
from alunet.imaging.dicom.pixels import PixelFormat
from alunet.imaging.stderr import discard_stderr_on_failure, scratch_file

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture: a SOP class that says nothing of values
_DAMAGE = (b"corrupt jpeg", b"premature end")  # what its JPEG library prints, and then goes on


def one_frame(stream: bytes, syntax: str, form: PixelFormat) -> Dataset:
    """Make a DICOM image of one compressed frame that says nothing else."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, generate_uid

    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(syntax)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = UID(_CAPTURE)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = form.rows, form.columns
    image.BitsAllocated, image.BitsStored, image.HighBit = (
        form.allocated,
        form.stored,
        form.stored - 1,
    )
    image.PixelRepresentation = int(form.signed)
    image.PixelData = encapsulate([stream])
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    return image


def by_gdcm(stream: bytes, syntax: str, form: PixelFormat, where: Path) -> npt.NDArray[Any]:
    """Decode one frame with the GDCM in SimpleITK, through a file without any identity.

    Raises:
        InputError: the decoder says that the stream is damaged, and would give wrong voxels.
    """
    with _written(one_frame(stream, syntax, form)) as file:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        with discard_stderr_on_failure(), _heard() as said:
            array: npt.NDArray[np.generic] = sitk.GetArrayFromImage(reader.Execute())
    if any(words in said[0].lower() for words in _DAMAGE):
        raise InputError(f"{where} is damaged: its compressed voxels break off.", COPY_AGAIN)
    return array[0] if array.ndim == 3 and array.shape[0] == 1 else array


@contextlib.contextmanager
def _written(image: Dataset) -> Iterator[Path]:
    """Give a file with a DICOM image: in memory where the system can, so that no disk is needed."""
    if sys.platform == "linux":
        with scratch_file() as memory:
            image.save_as(memory, enforce_file_format=True)
            memory.flush()
            yield Path(f"/proc/self/fd/{memory.fileno()}")
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frame.dcm"
        image.save_as(file, enforce_file_format=True)
        yield file


@contextlib.contextmanager
def _heard() -> Iterator[list[bytes]]:
    """Collect what is printed on standard error; within `discard_stderr_on_failure`, which has
    the lock.
    """
    said = [b""]
    with contextlib.ExitStack() as stack:
        try:
            kept = stack.enter_context(scratch_file())
            own = os.dup(2)
        except OSError:  # there is no standard error
            yield said
            return
        stack.callback(os.close, own)
        os.dup2(kept.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(own, 2)
        kept.seek(0)
        said[0] = kept.read()
