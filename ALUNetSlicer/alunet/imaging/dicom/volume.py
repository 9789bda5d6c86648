"""A DICOM series as one volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.dicom.decoding import PixelReader
from alunet.imaging.dicom.elements import guarded
from alunet.imaging.dicom.frames import Frame
from alunet.imaging.dicom.series import DicomSeries, SeriesIdentity
from alunet.imaging.itk import sitk

Volume = npt.NDArray[Any]


def read_series(series: DicomSeries) -> tuple[sitk.Image, SeriesIdentity]:
    """Read a series as one volume, slope and intercept applied.

    Slices follow each other along the normal (row direction x column direction), as SimpleITK has
    them. Voxels are int16 where all values fit, else int32; float32 where slope or intercept are no
    whole numbers or the file holds floating-point numbers.

    Returns:
        The image in LPS coordinates, and the UIDs that may be kept with it; no other attribute is.

    Raises:
        InputError: the series has a problem (see `DicomSeries.problem`), or a file is damaged.
    """
    if series.problem is not None or series.grid is None:
        raise series.problem or InputError(
            f"{series.label} is no volume.", "Choose another series."
        )
    with guarded(series.files[0]):
        image = sitk.GetImageFromArray(_voxels(series.frames, series.grid.shape))
    image.SetSpacing(series.grid.spacing)
    image.SetOrigin(series.grid.origin)
    image.SetDirection(series.grid.direction)
    return image, series.identity


def _voxels(frames: Sequence[Frame], shape: tuple[int, int, int]) -> Volume:
    """Return the values of all slices, axes (k, j, i)."""
    volume: Volume | None = None
    places: dict[object, list[int]] = {}
    for k, frame in enumerate(frames):
        places.setdefault(frame.file, []).append(k)
    whole = all(value == int(value) for frame in frames for value in frame.scale)
    for slices in places.values():
        reader = PixelReader(frames[slices[0]].file)
        for k in slices:
            stored = reader.frame(frames[k].index)
            if volume is None:
                volume = np.empty(
                    shape, np.int32 if whole and stored.dtype.kind != "f" else np.float32
                )
            volume[k] = _scaled(stored, frames[k], volume.dtype)
    if volume is None:
        raise InputError("The series has no image.", "Choose another series.")
    narrow = np.iinfo(np.int16)
    if volume.dtype == np.int32 and narrow.min <= volume.min() and volume.max() <= narrow.max:
        return volume.astype(np.int16)
    return volume


def _scaled(stored: Volume, frame: Frame, kind: np.dtype[Any]) -> Volume:
    slope, intercept = frame.scale
    if kind != np.int32:
        values: Volume = stored.astype(np.float64) * slope + intercept
        if not np.isfinite(values).all() or np.abs(values).max() > np.finfo(np.float32).max:
            raise InputError(
                f"{frame.file} holds voxels that are NaN, infinite or huge.",
                "Correct it at the source.",
            )
        return values
    if stored.dtype.kind == "f":
        raise InputError(
            f"{frame.file} holds floating-point numbers, other slices do not.", "Export it again."
        )
    limits = np.iinfo(np.int32)
    ends = [int(value) * int(slope) + int(intercept) for value in (stored.min(), stored.max())]
    if min(ends) < limits.min or max(ends) > limits.max:
        raise InputError(
            f"{frame.file} holds values up to {max(ends)}, more than 32 bits.", "Rescale it."
        )
    return stored.astype(np.int64) * int(slope) + int(intercept)
