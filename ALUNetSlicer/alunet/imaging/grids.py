"""Where the voxels of images are in space, and how two grids of voxels fit each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.itk import sitk

SAME_PLACE = 0.05
"""Voxels that are less than this part of a voxel apart, at every corner, are in one place.

Programs round what they write: NIfTI keeps single precision, others a few digits. A twentieth of a
voxel is far below what a person can draw.
"""

EXACT = 1e-3
"""What is written keeps every voxel within this part of a voxel."""

Index = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image are, in SimpleITK's order (x, y, z) and its coordinates.

    Attributes:
        size: voxels along each axis.
        spacing: of the voxels, in mm.
        origin: center of the first voxel, in mm (LPS).
        direction: cosines of the axes, row by row.
    """

    size: Index
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """Return the grid of a 3D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def shape(self) -> Index:
        """Shape of the array, (k, j, i)."""
        return self.size[2], self.size[1], self.size[0]

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """Columns: the step from a voxel to the next one along each axis, in mm."""
        steps: npt.NDArray[np.float64] = np.array(self.direction).reshape(3, 3) * self.spacing
        return steps

    def difference(self, other: Grid) -> str:
        """Say in what `other` differs, with both values; empty where it is the same grid."""
        if self.size != other.size:
            return f"size {in_words(other.size)} instead of {in_words(self.size)}"
        off = displacement(self, other)
        if off < SAME_PLACE:
            return ""
        found = {
            "spacing": (self.spacing, other.spacing, " mm"),
            "direction": (self.direction, other.direction, ""),
            "origin": (self.origin, other.origin, " mm"),
        }
        shares = {
            name: np.abs(np.subtract(theirs, own)).max()
            / (max(self.spacing) if unit == " mm" else 1)
            for name, (own, theirs, unit) in found.items()
        }
        name = max(shares, key=shares.__getitem__)
        own, theirs, unit = found[name]
        apart = f"voxels are up to {off:.3g} voxels apart"
        return f"{name} {in_words(theirs)} instead of {in_words(own)}{unit}, so that {apart}"


def displacement(grid: Grid, other: Grid) -> float:
    """Return how far a voxel of `other` is from that of `grid`, at the farthest corner, in voxels.

    A voxel counts as long along each axis as it is in `grid`.
    """
    return displacement_of(grid, other.matrix, np.array(other.origin))


def displacement_of(
    grid: Grid, matrix: npt.NDArray[np.float64], origin: npt.NDArray[np.float64]
) -> float:
    """As `displacement`, of voxels whose steps are the columns of `matrix` (mm), from `origin`."""
    shift = (matrix - grid.matrix) @ _corners(grid.size) + (origin - grid.origin)[:, None]
    return float(np.abs(np.linalg.solve(grid.matrix, shift)).max())


@dataclass(frozen=True)
class Placement:
    """How the voxels of a label file are among the voxels of an image.

    Attributes:
        axes: for each axis (x, y, z) of the image, the axis of the file that runs along it.
        flipped: whether it runs the other way.
        start: first voxel that the file covers, along each axis of the image; may be negative.
        size: how many it covers.
    """

    axes: Index
    flipped: tuple[bool, bool, bool]
    start: Index
    size: Index

    def is_inside(self, grid: Grid) -> bool:
        """Whether all voxels of the file are voxels of the image."""
        ends = np.add(self.start, self.size)
        return bool((np.array(self.start) >= 0).all() and (ends <= grid.size).all())

    def place(self, array: npt.NDArray[Any], grid: Grid, fill: int = 0) -> npt.NDArray[Any]:
        """Return the file's voxels on the image's grid, and `fill` where the file has none.

        Args:
            array: of the file, axes (k, j, i).
            grid: of the image.

        Returns:
            An array of the image's shape (k, j, i) and of the type of `array`.

        Raises:
            InputError: voxels other than `fill` are outside the image.
        """
        along = array.transpose(2, 1, 0).transpose(self.axes)
        along = along[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]
        whole = np.full(grid.size, fill, array.dtype)
        low = np.maximum(self.start, 0)
        high = np.maximum(np.minimum(np.add(self.start, self.size), grid.size), low)
        inside = along[tuple(slice(*pair) for pair in (np.array([low, high]) - self.start).T)]
        outside = np.count_nonzero(along != fill) - np.count_nonzero(inside != fill)
        if outside:
            raise InputError(f"{outside:,} drawn voxels are outside the image.", "Crop the file.")
        whole[tuple(slice(*pair) for pair in np.array([low, high]).T)] = inside
        return np.ascontiguousarray(whole.transpose(2, 1, 0))


def placement(grid: Grid, other: Grid) -> Placement | None:
    """Return how `other` is placed on the voxels of `grid`; None where its voxels are elsewhere.

    The axes may be in another order or direction, and `other` may cover a part or more. Every voxel
    is within `SAME_PLACE` of one of the grid's, which may be continued beyond the image.
    """
    step = np.linalg.solve(grid.matrix, other.matrix)
    start = np.linalg.solve(grid.matrix, np.subtract(other.origin, grid.origin))
    for axis in range(3):
        if other.size[axis] == 1:  # one slice alone says nothing of the distance to the next
            step[:, axis] /= np.abs(step[:, axis]).max() or 1.0
    turn = np.round(step)
    if not (np.abs(turn) == _one_in_each(turn)).all() or not np.isfinite(start).all():
        return None
    corners = _corners(other.size)
    first = np.round(start)
    off = np.abs((step - turn) @ corners + (start - first)[:, None])
    if off.max() >= SAME_PLACE:
        return None
    axes = np.abs(turn).argmax(axis=1)
    flipped = turn[np.arange(3), axes] < 0
    size = np.array(other.size)[axes]
    low = np.where(flipped, first - size + 1, first).astype(int)
    return Placement(_index(axes), tuple(flipped.tolist()), _index(low), _index(size))


def _one_in_each(turn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a permutation matrix if `turn` is one but for signs; else one that differs from it."""
    rows = np.abs(turn).argmax(axis=1)
    if len(set(rows.tolist())) < 3:
        return np.full((3, 3), -1.0)
    found: npt.NDArray[np.float64] = np.eye(3)[rows]
    return found


def _index(values: npt.NDArray[Any]) -> Index:
    x, y, z = (int(value) for value in values)
    return x, y, z


def _corners(size: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the indices of the corner voxels, (3, 8)."""
    found = np.array(list(itertools.product(*[(0, extent - 1) for extent in size])), np.float64)
    corners: npt.NDArray[np.float64] = found.T
    return corners


def in_words(values: Sequence[float]) -> str:
    """Return numbers for people, like "0.7 x 0.8 x 3"."""
    return " x ".join(f"{value:.6g}" for value in values)
