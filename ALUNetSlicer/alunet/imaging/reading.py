"""Image files: how one is decoded and checked, and how images are written.

What comes from elsewhere is decoded in a process of its own (`alunet.imaging.foreign`); the
project's own files are read here.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.forms import examine, reader_of
from alunet.imaging.grids import SAME_PLACE, Grid, in_words
from alunet.imaging.itk import sitk
from alunet.imaging.limits import MOST_BYTES, TooLarge
from alunet.imaging.nifti import has_axes, shear
from alunet.imaging.stderr import discard_stderr_on_failure
from alunet.schema import IMAGE_ENDINGS, SEGMENTATION_ENDING
from alunet.storage.failures import failure_of_reading
from alunet.storage.files import atomic_path

Told = Callable[[float], None]
"""Hears which part of something is done, from 0 to 1."""

_COPIED = 32 << 20
_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
_permissive = threading.Lock()

KEPT_ENDINGS = (".nii.gz", ".nrrd", ".mha", ".gipl")
"""Endings of the images in projects: the exact one, and those that earlier versions copied."""

PAIRS = (".nhdr", ".mhd", ".hdr", ".img", ".img.gz")
"""Endings of files that have their header or their voxels in a second file beside them."""

PICTURE_ENDINGS = (".png", ".tif", ".tiff", ".bmp")
"""Pictures without loss, which have no geometry and may have colors; a form with loss (JPEG) is no
image to measure.
"""

ENDINGS = (*IMAGE_ENDINGS, *PAIRS)
"""Endings of image files that can be imported."""

EXACT_ENDING = ".mha"
"""What is written here: MetaImage keeps spacing and direction to the last bit, where NRRD mixes
the two.
"""


def ignore_part(part: float) -> None:
    """Do nothing."""


def ignore_size(size: int) -> None:
    """Do nothing."""


def ending_of(path: Path) -> str:
    """The ending of an image or label file, lower case; empty where it is none that is known."""
    name = path.name.lower()
    found = [ending for ending in (*ENDINGS, SEGMENTATION_ENDING) if name.endswith(ending)]
    return max(found, key=len, default="")


def stem_of(path: Path) -> str:
    """The file name without its image ending."""
    name = path.name[: len(path.name) - len(ending_of(path))]
    return name.removesuffix(".dcm")


def read_image(path: Path) -> sitk.Image:
    """Read an image file of a project, voxels included, in this process.

    What comes from elsewhere is read by `alunet.imaging.foreign`.

    Raises:
        InputError: the file is missing, empty, of an unknown form, damaged, or cut off.
    """
    check_file(path)
    with readable(path):
        return decode(path, MOST_BYTES)


def check_file(path: Path) -> None:
    """Check that a file may be an image, by its name and length.

    Raises:
        InputError: it is missing, empty, or of an unknown form.
    """
    if not path.is_file():
        raise InputError(f"There is no image file {path}.", "Check the path.")
    if not ending_of(path) and not is_series(path):
        raise InputError(
            f"{path} is no image file that can be read.", f"Use one of {', '.join(ENDINGS)}."
        )
    with readable(path), path.open("rb") as stream:  # the reader may have other rights
        if not stream.read(1):
            raise InputError(f"{path} is empty (0 bytes).", "Copy the file again.")


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system or a decoder raises into one InputError.

    Raises:
        MemoryError: there is too little memory.
    """
    try:
        yield
    except OSError as error:
        raise failure_of_reading(path) or InputError(
            f"{path} cannot be read: {error.strerror}.", "It must be a file that you may read."
        ) from error
    except RuntimeError as error:
        if "alloc" in str(error):
            raise MemoryError from error
        reason = _last_words(str(error))
        raise failure_of_reading(path) or InputError(
            f"{path} cannot be read: {reason}.", "Copy or convert the file again."
        ) from error


def decode(path: Path, limit: int, allow: Callable[[int], None] = ignore_size) -> sitk.Image:
    """Read an image file, voxels included; the header is checked before any decoder sees the file.

    Args:
        limit: bytes of voxels that it may have.
        allow: hears how many bytes of voxels there are, before memory is taken for them.

    Raises:
        TooLarge: it has more.
        InputError: it is damaged, cut off, or its geometry cannot be used.
        RuntimeError: the decoder says that it is damaged.
    """
    ending = ending_of(path)
    found = examine(path, ending, limit)
    allow(found.size)
    if ending != EXACT_ENDING or allow is not ignore_size:  # a project knows its own files
        found.verify()
    reader = sitk.ImageFileReader()
    reader.SetImageIO(reader_of(ending))
    reader.SetFileName(str(path))
    with discard_stderr_on_failure():
        image = _read(reader, path, limit, allow)
    _check_geometry(image, path)
    return image


def is_series(path: Path) -> bool:
    """Whether a file is DICOM, and so stands for its series.

    Raises:
        InputError: it cannot be opened.
    """
    if ending_of(path):
        return False
    from alunet.imaging.dicom.elements import is_dicom

    try:
        return is_dicom(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", "It must be a file that you may read."
        ) from error


def _read(
    reader: sitk.ImageFileReader, path: Path, limit: int, allow: Callable[[int], None]
) -> sitk.Image:
    """Read a file; axes that are not at right angles are read as the nearest ones that are."""
    try:
        return _whole(reader, limit, allow)
    except RuntimeError as error:
        if "orthonormal" not in str(error) or not has_axes(path):
            raise
    with _permissive:
        os.environ[_PERMISSIVE] = "YES"
        try:
            return _whole(reader, limit, allow)
        finally:
            del os.environ[_PERMISSIVE]


def _whole(reader: sitk.ImageFileReader, limit: int, allow: Callable[[int], None]) -> sitk.Image:
    """Read all that a reader is set to, once the size that it found is allowed."""
    reader.ReadImageInformation()
    size = reader.GetNumberOfComponents() * _value_bytes(reader.GetPixelID())
    for extent in reader.GetSize():
        size *= extent
    if size > limit:
        raise TooLarge(limit)
    allow(size)
    image: sitk.Image = reader.Execute()
    return image


def _value_bytes(kind: int) -> int:
    """Return the bytes of one component of SimpleITK's pixel type; 8 where that is not known."""
    return sitk.Image(1, 1, 1, kind).GetSizeOfPixelComponent() if kind >= 0 else 8


def _check_geometry(image: sitk.Image, path: Path) -> None:
    if 0 in image.GetSize():
        raise InputError(
            f"{path} holds no voxels ({in_words(image.GetSize())}).", "Copy or convert it again."
        )
    numbers = {
        "spacing": image.GetSpacing(),
        "origin": image.GetOrigin(),
        "direction": image.GetDirection(),
    }
    for name, values in numbers.items():
        if not np.isfinite(values).all():
            raise InputError(f"{path} has the {name} {in_words(values)}.", "Correct its header.")
    off = _shear(image, path)
    if off >= SAME_PLACE:
        raise InputError(
            f"{path}: its axes are not at right angles, so that voxels are up to {off:.3g} voxels "
            f"off.",
            "Resample it to a grid of right angles, in Slicer with Resample Scalar Volume.",
        )


def _shear(image: sitk.Image, path: Path) -> float:
    if ending_of(path) not in (".nii", ".nii.gz") or image.GetDimension() != 3:
        return 0.0
    return shear(path, Grid.of(image))


def _last_words(text: str) -> str:
    """What SimpleITK's long messages mean."""
    if "Unable to determine ImageIO" in text:
        return "its content is no image of that form"
    if "orthonormal" in text:
        return "its axes are not at right angles, or its orientation is missing"
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    if not lines or lines[-1].startswith("Reason:"):
        # MetaImage gives the system's last error, whatever that was
        return "its voxels are missing or cut off"
    return re.sub(
        r"^.*(ITK ERROR|sitk::ERROR|\[nrrd\]):?\s*(\w+(\(0x[0-9a-f]+\))?:\s*)?", "", lines[-1]
    )


def grid_of(path: Path) -> Grid:
    """Return the grid of a 3D image file of a project, from its header alone.

    Raises:
        InputError: the header cannot be read.
    """
    reader = sitk.ImageFileReader()
    if ending := ending_of(path):
        reader.SetImageIO(reader_of(ending))
    reader.SetFileName(str(path))
    try:
        with discard_stderr_on_failure():
            reader.ReadImageInformation()
    except RuntimeError as error:
        failure = failure_of_reading(path)
        if failure is not None:
            raise failure from error
        raise InputError(
            f"{path} cannot be read: {_last_words(str(error))}.", "Copy or convert the file again."
        ) from error
    return Grid(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def without_entries(image: sitk.Image) -> sitk.Image:
    """Return an image of the voxels and the geometry of another one: nothing else of its header."""
    components = image.GetNumberOfComponentsPerPixel()
    clean = sitk.GetImageFromArray(sitk.GetArrayViewFromImage(image), isVector=components > 1)
    clean.SetSpacing(image.GetSpacing())
    clean.SetOrigin(image.GetOrigin())
    clean.SetDirection(image.GetDirection())
    return clean


def write_image(image: sitk.Image, path: Path, *, sync: bool = True) -> None:
    """Writes an image, compressed, whole or not at all; for `sync` see `atomic_path`."""
    with atomic_path(path, sync=sync) as temporary:
        save_image(image, temporary)


def save_image(image: sitk.Image, path: Path) -> None:
    """Writes an image, compressed.

    Raises:
        RuntimeError: it could not be written as a whole; ITK alone says nothing of a NIfTI file
            that is cut off.
    """
    with discard_stderr_on_failure():
        sitk.WriteImage(image, str(path), True)
        try:
            found = examine(path, ending_of(path), MOST_BYTES)
            if ending_of(path) != EXACT_ENDING:
                found.verify()
        except InputError as error:
            raise RuntimeError(str(error)) from error


def copy_file(source: Path, target: Path, *, sync: bool = True, told: Told = ignore_part) -> None:
    """Copies the bytes of a file, whole or not at all; for `sync` see `atomic_path`.

    A large file goes to the disk in parts, so that others who write there never wait for all of it.

    Args:
        told: hears how far the copy is; what it raises ends the copy.
    """
    size, done = source.stat().st_size, 0
    with (
        atomic_path(target, sync=sync) as temporary,
        source.open("rb") as origin,
        temporary.open("wb") as copy,
    ):
        while block := origin.read(_COPIED):
            copy.write(block)
            done += len(block)
            if done < size:
                copy.flush()
                os.fsync(copy.fileno())
            told(min(1.0, done / size))


def read_labels(path: Path) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Voxels of a stored label map, axes (k, j, i), uint8 or uint16.

    Raises:
        InputError: the file is missing or damaged.
    """
    return read_labels_with_spacing(path)[0]


def read_labels_with_spacing(path: Path) -> tuple[npt.NDArray[Any], tuple[float, ...]]:
    """As `read_labels`, with the mm for each axis of the array.

    Raises:
        InputError: the file is missing or damaged.
    """
    image = read_image(Path(path))
    array = sitk.GetArrayFromImage(image)
    kind: type[np.unsignedinteger[Any]] = np.uint8 if array.max(initial=0) <= 255 else np.uint16
    return array.astype(kind, copy=False), image.GetSpacing()[::-1]
