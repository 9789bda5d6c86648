"""Image files: read and checked once, then kept without loss as nnU-Net's SimpleITK reader takes them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.integrity import check_integrity
from alunet.imaging.stderr import discard_stderr_on_failure
from alunet.storage.files import atomic_path

KEPT_ENDINGS = (".nii.gz", ".nrrd", ".mha", ".gipl")
"""Files with these endings are copied byte by byte where they hold one 3D scalar image."""

PICTURE_ENDINGS = (".png", ".tif", ".tiff", ".bmp")
"""Pictures without loss, which have no geometry and may have colours; what loses (JPEG) is no image to measure."""

ENDINGS = (*KEPT_ENDINGS, ".nii", ".nhdr", ".mhd", ".gipl.gz", ".hdr", ".img", ".img.gz", *PICTURE_ENDINGS)
"""Endings of image files that can be imported."""

EXACT_ENDING = ".mha"
"""What is written here: MetaImage keeps spacing and direction to the last bit, where NRRD mixes the two."""

TOLERANCE = 1e-3
"""Geometries agree up to this part of a voxel."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image lie, in SimpleITK's order (x, y, z) and its coordinates (LPS, mm)."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """The grid of a 3D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array, (k, j, i)."""
        return self.size[2], self.size[1], self.size[0]

    def difference(self, other: Grid) -> str:
        """In what two grids disagree, in words with both values; empty where they agree."""
        if self.size != other.size:
            return f"size {_text(other.size)} instead of {_text(self.size)}"
        step = np.array(self.spacing)
        if np.any(np.abs(np.array(other.spacing) - step) > TOLERANCE * step):
            return f"spacing {_text(other.spacing)} instead of {_text(self.spacing)} mm"
        if np.any(np.abs(np.array(other.origin) - self.origin) > TOLERANCE * step.max()):
            return f"origin {_text(other.origin)} instead of {_text(self.origin)} mm"
        if np.any(np.abs(np.array(other.direction) - self.direction) > TOLERANCE):
            return f"direction {_text(other.direction)} instead of {_text(self.direction)}"
        return ""


def _text(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)


def ending_of(path: Path) -> str:
    """The ending of an image file, lower case, or an empty string where it is none of `ENDINGS`."""
    name = path.name.lower()
    return max((ending for ending in ENDINGS if name.endswith(ending)), key=len, default="")


def stem_of(path: Path) -> str:
    """The file name without its image ending."""
    return path.name[: len(path.name) - len(ending_of(path))]


def read_image(path: Path) -> sitk.Image:
    """Reads an image file, voxels included.

    Raises:
        InputError: the file is missing, empty, of an unknown form, damaged, or cut off.
    """
    if not path.is_file():
        raise InputError(f"There is no image file {path}.", "Check the path.")
    ending = ending_of(path)
    if not ending:
        raise InputError(f"{path} is no image file that can be read.", f"Use one of {', '.join(ENDINGS)}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes).", "Copy the file again.")
    try:
        check_integrity(path, ending)
        with discard_stderr_on_failure():
            image = sitk.ReadImage(str(path))
            _check_geometry(image, path)
            return image
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "It must be a file that you may read.") from error
    except RuntimeError as error:
        reason = _last_words(str(error))
        raise InputError(f"{path} cannot be read: {reason}.", "Copy or convert the file again.") from error


def _check_geometry(image: sitk.Image, path: Path) -> None:
    numbers = {"spacing": image.GetSpacing(), "origin": image.GetOrigin(), "direction": image.GetDirection()}
    for name, values in numbers.items():
        if not np.isfinite(values).all():
            raise InputError(f"{path} has the {name} {_text(values)}.", "Correct its header.")


def _last_words(text: str) -> str:
    """What SimpleITK's long messages mean."""
    if "Unable to determine ImageIO" in text:
        return "its content is no image of that form"
    if "orthonormal" in text:
        return "its axes are not at right angles, or its orientation is missing"
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    if not lines or lines[-1].startswith("Reason:"):  # MetaImage gives the system's last error, whatever that was
        return "its voxels are missing or cut off"
    return re.sub(r"^.*(ITK ERROR|sitk::ERROR|\[nrrd\]):?\s*(\w+(\(0x[0-9a-f]+\))?:\s*)?", "", lines[-1])


def split_channels(image: sitk.Image, channels: int, path: Path) -> list[sitk.Image]:
    """The 3D scalar images in a file: itself, its components, or its fourth axis where that counts the channels.

    A 2D image becomes a volume of one slice. A constant alpha channel of a picture is left out, and a picture in
    shades of grey that is stored in colours counts as one channel.

    Raises:
        InputError: the file is no 2D or 3D image, or its parts are not as many as the project's channels.
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
            f"{path} is {dimension}D ({_text(size)}), but the project has {channels} channel(s).",
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
    return [image] if count == 1 else [sitk.VectorIndexSelectionCast(image, index) for index in range(count)]


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


def check_voxels(image: sitk.Image, path: Path) -> bool:
    """Whether an image holds anything but zeros.

    Raises:
        InputError: voxels are NaN or infinite.
    """
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(f"{path} has {bad} voxels that are NaN or infinite.", "Replace them by numbers.")
    return bool(array.any())


def read_label(path: Path, grid: Grid, values: Sequence[int]) -> tuple[sitk.Image, bool]:
    """Reads the reference segmentation of an image.

    Args:
        path: the file.
        grid: of the image that it belongs to.
        values: what each class 0, 1, … is called in the file.

    Returns:
        The label map of classes, of an integer type, and whether the file itself is that already.

    Raises:
        InputError: it cannot be read, lies on another grid, or holds other values.
    """
    whole = read_image(path)
    image = _single(whole, path)
    difference = grid.difference(Grid.of(image))
    if difference:
        raise InputError(f"Label {path} does not fit its image: {difference}.", "Resample it to the image.")
    array = sitk.GetArrayViewFromImage(image)
    _check_values(np.unique(array), values, path)
    classes = list(range(len(values)))
    if array.dtype.kind != "f" and list(values) == classes:
        return image, whole.GetDimension() == 3 and whole.GetNumberOfComponentsPerPixel() == 1
    order = np.argsort(values).astype(np.uint8 if len(values) <= 256 else np.uint16)
    label = sitk.GetImageFromArray(order[np.searchsorted(np.sort(values), array)])
    label.CopyInformation(image)
    return label, False


def _single(image: sitk.Image, path: Path) -> sitk.Image:
    """The one scalar 3D image in a label file."""
    try:
        return split_channels(image, 1, path)[0]
    except InputError as error:
        components, dimension = image.GetNumberOfComponentsPerPixel(), image.GetDimension()
        what = f"{components} components (a palette or colours)" if components > 1 else f"{dimension} dimensions"
        raise InputError(
            f"Label {path} has {what}.", "Store one number a voxel, the value of its label, in 3D or 2D."
        ) from error


def _check_values(found: npt.NDArray[Any], values: Sequence[int], path: Path) -> None:
    broken = found[~(np.isfinite(found) & (found == np.round(found)))] if found.dtype.kind == "f" else found[:0]
    if broken.size:
        raise InputError(
            f"Label {path} holds the value {broken[0]:g}, which is no whole number.", "Store whole numbers."
        )
    strange = found[~np.isin(found, values)]
    if strange.size:
        known = f"0 to {len(values) - 1}" if list(values) == list(range(len(values))) else _listed(values)
        raise InputError(
            f"Label {path} holds the value {strange[-1] if strange[0] >= 0 else strange[0]:g}, "
            f"but the labels are {known}.",
            "Correct the file, or name the structure among the labels.",
        )


def _listed(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)


def is_kept(path: Path) -> bool:
    """Whether a file is copied byte by byte: one file, of an ending that nnU-Net's reader knows."""
    ending = ending_of(path)
    if ending not in KEPT_ENDINGS:
        return False
    if ending not in (".nrrd", ".mha"):
        return True
    with path.open("rb") as stream:
        header = stream.read(1 << 16).split(b"\n\n")[0].lower()
    if ending == ".nrrd":
        return not re.search(rb"^data ?file:", header, re.MULTILINE)
    return re.search(rb"elementdatafile\s*=\s*local", header) is not None


def write_image(image: sitk.Image, path: Path, *, sync: bool = True) -> None:
    """Writes an image, compressed, whole or not at all; for `sync` see `atomic_path`."""
    with atomic_path(path, sync=sync) as temporary:
        save_image(image, temporary)


def save_image(image: sitk.Image, path: Path) -> None:
    """Writes an image, compressed.

    Raises:
        RuntimeError: it could not be written as a whole; ITK alone says nothing of a NIfTI file that is cut off.
    """
    with discard_stderr_on_failure():
        sitk.WriteImage(image, str(path), True)
        try:
            check_integrity(path, ending_of(path))
        except InputError as error:
            raise RuntimeError(str(error)) from error


def copy_file(source: Path, target: Path, *, sync: bool = True) -> None:
    """Copies the bytes of a file, whole or not at all; for `sync` see `atomic_path`."""
    with atomic_path(target, sync=sync) as temporary:
        shutil.copyfile(source, temporary)


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
