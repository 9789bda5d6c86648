"""Voxels far beyond all others: marks for "no data", fits that went astray, dead pixels.

Mean and deviation of an image are theirs alone, so that normalization would leave a network one
value for all the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FAR = 1000
"""A voxel so many times as large as nearly all others is an outlier."""

KEPT = 2
"""So many times as large as nearly all others it is for a network."""

_SIDE = 64  # voxels looked at along each axis
_ENOUGH = 100  # of these at least, to say what is usual


@dataclass(frozen=True)
class Usual:
    """What nearly all voxels of an image are like.

    Attributes:
        low, high: half a percent of the voxels that count are below, and above; zeros and the
            largest value itself don't count.
    """

    low: float
    high: float

    @property
    def largest(self) -> float:
        """Return the larger of the two, whatever its sign."""
        return max(abs(self.low), abs(self.high))


def usual_values(array: npt.NDArray[Any]) -> Usual | None:
    """Return what nearly all voxels are like where one is an outlier; None where none is.

    Args:
        array: an image (k, j, i) whose voxels are finite.
    """
    extreme = largest_value(array)
    some = array[tuple(slice(None, None, max(1, extent // _SIDE)) for extent in array.shape)]
    some = some[(some != 0) & (some != extreme)]
    if some.size < _ENOUGH:
        return None
    low, high = np.percentile(some, [0.5, 99.5])
    usual = Usual(float(low), float(high))
    return usual if usual.low < usual.high and abs(extreme) > FAR * usual.largest else None


def largest_value(array: npt.NDArray[Any]) -> float:
    """Return the voxel that is farthest from 0, with its sign."""
    low, high = float(array.min()), float(array.max())
    return high if abs(high) >= abs(low) else low


def without_outliers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the image with each outlier `KEPT` times as large as nearly all others; mostly itself.

    Such a voxel may be what is looked for, so it stays the largest.

    Args:
        array: an image (k, j, i) whose voxels are finite.
    """
    usual = usual_values(array)
    if usual is None:
        return array
    limit = KEPT * usual.largest
    far = np.abs(array) > FAR * usual.largest
    return np.where(far, np.clip(array, -limit, limit), array)
