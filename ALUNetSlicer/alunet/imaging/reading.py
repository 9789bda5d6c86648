"""Image files: read and checked once, then kept without loss as nnU-Net's SimpleITK reader takes
them.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.grids import EXACT, SAME_PLACE, Grid, in_words
from alunet.imaging.integrity import check_integrity
from alunet.imaging.nifti import has_axes, shear
from alunet.imaging.outliers import KEPT, largest_value, usual_values
from alunet.imaging.stderr import discard_stderr_on_failure
from alunet.schema import IMAGE_ENDINGS, SEGMENTATION_ENDING
from alunet.storage.files import atomic_path

if TYPE_CHECKING:
    from alunet.imaging.dicom.series import SeriesIdentity

Told = Callable[[float], None]
"""Hears which part of something is done, from 0 to 1."""

_COPIED = 32 << 20
_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
_permissive = threading.Lock()

KEPT_ENDINGS = (".nii.gz", ".nrrd", ".mha", ".gipl")
"""Files with these endings are copied byte by byte where they hold one 3D scalar image."""

PICTURE_ENDINGS = (".png", ".tif", ".tiff", ".bmp")
"""Pictures without loss, which have no geometry and may have colours; what loses (JPEG) is no
image to measure.
"""

ENDINGS = (*IMAGE_ENDINGS, ".nhdr", ".mhd", ".hdr", ".img", ".img.gz")
"""Endings of image files that can be imported."""

LARGEST = 1e8
"""Voxels beyond this, either way, are no measurements: "no data", or a wrong unit."""

EXACT_ENDING = ".mha"
"""What is written here: MetaImage keeps spacing and direction to the last bit, where NRRD mixes
the two.
"""


def ignore_part(part: float) -> None:
    """Hear it, and do nothing."""


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
    """Read an image file, voxels included; a DICOM file stands for its series.

    Raises:
        InputError: see `read_with_series`.
    """
    return read_with_series(path)[0]


def read_with_series(path: Path) -> tuple[sitk.Image, SeriesIdentity | None]:
    """Read an image file, voxels included, and the series that it is, where it is DICOM.

    Raises:
        InputError: the file is missing, empty, of an unknown form, damaged, or cut off.
    """
    if not path.is_file():
        raise InputError(f"There is no image file {path}.", "Check the path.")
    ending = ending_of(path)
    if is_series(path):
        from alunet.imaging.dicom_cases import read_series_of

        return read_series_of(path)
    if not ending:
        raise InputError(
            f"{path} is no image file that can be read.", f"Use one of {', '.join(ENDINGS)}."
        )
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes).", "Copy the file again.")
    try:
        check_integrity(path, ending)
        with discard_stderr_on_failure():
            image = _read(path)
            _check_geometry(image, path)
            return image, None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", "It must be a file that you may read."
        ) from error
    except RuntimeError as error:
        reason = _last_words(str(error))
        raise InputError(
            f"{path} cannot be read: {reason}.", "Copy or convert the file again."
        ) from error


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


def _read(path: Path) -> sitk.Image:
    """Read a file; axes that are not at right angles are read as the nearest ones that are."""
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        if "orthonormal" not in str(error) or not has_axes(path):
            raise
    with _permissive:
        os.environ[_PERMISSIVE] = "YES"
        try:
            return sitk.ReadImage(str(path))
        finally:
            del os.environ[_PERMISSIVE]


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
    """Return the grid of a 3D image file, from its header alone."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with discard_stderr_on_failure():
        reader.ReadImageInformation()
    return Grid(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def split_channels(image: sitk.Image, channels: int, path: Path) -> list[sitk.Image]:
    """The 3D scalar images in a file: itself, its components, or its fourth axis where that counts
    the channels.

    A 2D image becomes a volume of one slice. A constant alpha channel of a picture is left out, and
    a picture in shades of grey that is stored in colours counts as one channel.

    Raises:
        InputError: the file is no 2D or 3D image, or its parts are not as many as the project's
            channels.
    """
    dimension, size = image.GetDimension(), image.GetSize()
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{path} holds complex numbers.", "Store magnitude and phase as channels.")
    if dimension == 2:
        image = sitk.JoinSeries(image, 0.0, max(image.GetSpacing()))
    elif dimension == 4 and image.GetNumberOfComponentsPerPixel() == 1 and size[3] in (1, channels):
        return [image[:, :, :, index] for index in range(size[3])]
    elif dimension != 3:
        raise InputError(
            f"{path} is {dimension}D ({in_words(size)}), "
            f"but the project has {channels} channel(s).",
            "Store each time point as a case, or each channel as a file, of its own.",
        )
    parts = _components(image)
    if ending_of(path) in PICTURE_ENDINGS and len(parts) != channels:
        parts = _without_alpha(parts, path)
        parts = parts[:1] if channels == 1 and _all_equal(parts) else parts
    if len(parts) not in (1, channels):
        raise InputError(
            f"{path} has {len(parts)} components, but the project has {channels} channel(s).",
            "Store the channels that the project has, or make a project with as many.",
        )
    return parts


def _components(image: sitk.Image) -> list[sitk.Image]:
    count = image.GetNumberOfComponentsPerPixel()
    return (
        [image]
        if count == 1
        else [sitk.VectorIndexSelectionCast(image, index) for index in range(count)]
    )


def _without_alpha(parts: list[sitk.Image], path: Path) -> list[sitk.Image]:
    if len(parts) not in (2, 4):
        return parts
    alpha = sitk.GetArrayViewFromImage(parts[-1])
    if alpha.min() != alpha.max():
        raise InputError(f"{path} is transparent in parts.", "Store it without the alpha channel.")
    return parts[:-1]


def _all_equal(parts: list[sitk.Image]) -> bool:
    arrays = [sitk.GetArrayViewFromImage(part) for part in parts]
    return all(np.array_equal(arrays[0], array) for array in arrays[1:])


def check_voxels(image: sitk.Image, path: Path) -> tuple[bool, list[str]]:
    """Check that a network can learn from the voxels of a channel.

    Returns:
        Whether they differ at all, and what a person should know of them.

    Raises:
        InputError: voxels are NaN, infinite or beyond `LARGEST`.
    """
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(
                f"{path} has {bad} voxels that are NaN or infinite.", "Replace them by numbers."
            )
    low, high, extreme = array.min(), array.max(), largest_value(array)
    if abs(extreme) > LARGEST:
        raise InputError(
            f"{path} has the voxel {extreme:g} at {_where(array, extreme)} (i, j, k).",
            "Replace it by the value of the background.",
        )
    if low == high:
        what = "nothing but zeros" if not low else f"the value {float(low):g} everywhere"
        return False, [f"{path} holds {what}."]
    return True, _far_from_the_rest(array, extreme, path)


def _far_from_the_rest(array: npt.NDArray[Any], extreme: float, path: Path) -> list[str]:
    """Say so where one voxel is so far from the others that normalization would flatten them."""
    usual = usual_values(array)
    if usual is None:
        return []
    place = _where(array, extreme)
    words = f"while nearly all others are from {usual.low:g} to {usual.high:g}"
    counts = f"for the network it counts as {math.copysign(KEPT * usual.largest, extreme):g}"
    return [f"{path.name} has the voxel {extreme:g} at {place} (i, j, k), {words}; {counts}."]


def _where(array: npt.NDArray[Any], value: float) -> str:
    k, j, i = np.unravel_index(int(np.argmax(array == value)), array.shape)
    return f"{i}, {j}, {k}"


def is_kept(path: Path) -> bool:
    """Whether a file is copied byte by byte: one file, of an ending and a geometry that
    nnU-Net's reader knows.
    """
    ending = ending_of(path)
    if ending == ".nii.gz":
        return _is_at_right_angles(path)
    return ending in KEPT_ENDINGS and holds_its_voxels(path)


def holds_its_voxels(path: Path) -> bool:
    """Whether a file with a header of NRRD or MetaImage holds its voxels itself; others do."""
    if path.suffix.lower() not in (".nrrd", ".mha"):
        return True
    with path.open("rb") as stream:
        header = stream.read(1 << 16).split(b"\n\n")[0].lower()
    if path.suffix.lower() == ".nrrd":
        return not re.search(rb"^data ?file:", header, re.MULTILINE)
    return re.search(rb"elementdatafile\s*=\s*local", header) is not None


def _is_at_right_angles(path: Path) -> bool:
    """Whether every reader takes the axes of a NIfTI file as they are."""
    try:
        return shear(path, grid_of(path)) < EXACT
    except RuntimeError:
        return False


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
            check_integrity(path, ending_of(path))
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
