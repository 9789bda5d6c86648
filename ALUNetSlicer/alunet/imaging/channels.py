"""The channels in an image file, and whether a network can learn from their voxels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.grids import in_words
from alunet.imaging.itk import sitk
from alunet.imaging.outliers import KEPT, largest_value, usual_values
from alunet.imaging.reading import PICTURE_ENDINGS, ending_of

LARGEST = 1e8
"""Voxels beyond this, either way, are no measurements: "no data", or a wrong unit."""


def split_channels(image: sitk.Image, channels: int, path: Path) -> list[sitk.Image]:
    """The 3D scalar images in a file: itself, its components, or its fourth axis where that counts
    the channels.

    A 2D image becomes a volume of one slice. A constant alpha channel of a picture is left out, and
    a picture in shades of gray that is stored in colors counts as one channel.

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
