"""Where a slice and its part are, as Slicer's views show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ALUNetSlicerLib.mrml.slice_geometry import Box, ijk_to_world

_LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))
"""Of the three world axes: towards the greater values, and towards the smaller."""
_VIEW = (("L", -1), ("A", 1), ("S", 1))
"""Direction in which a view across each of them counts, and its sign in the world."""


@dataclass(frozen=True)
class Part:
    """Which part of its slice a box is.

    Attributes:
        sides: letters of the directions of the body that it lies towards; none in the middle.
        counts, sizes: voxels of the part and of the slice, along the array's last axis first.
    """

    sides: tuple[str, ...]
    counts: tuple[int, int]
    sizes: tuple[int, int]


def size_across(volume: Any, box: Box) -> int:
    """How many slices a volume node has across a box's axis; 0 where it has no voxels."""
    image = volume.GetImageData()
    return 0 if image is None else int(image.GetDimensions()[2 - box.axis])


def part_of(volume: Any, box: Box) -> Part | None:
    """Return which part of its slice a box is; None for the whole slice."""
    whole = volume.GetImageData().GetDimensions()[::-1]
    axes = [axis for axis in (2, 1, 0) if axis != box.axis]
    if all(box.bounds[axis] == (0, whole[axis]) for axis in axes):
        return None
    sides = [_side(box, axis, whole[axis], volume) for axis in axes]
    counts, sizes = ([each[axis] for axis in axes] for each in (box.shape, whole))
    return Part(tuple(filter(None, sides)), (counts[0], counts[1]), (sizes[0], sizes[1]))


def offset_of(volume: Any, box: Box) -> tuple[str, float] | None:
    """Return the place of a slice as the view's bar shows it: the letter of its direction, and mm
    along it; None under a transform that is not linear.
    """
    matrix = _matrix(volume)
    if matrix is None:
        return None
    normal = matrix[:3, 2 - box.axis] / np.linalg.norm(matrix[:3, 2 - box.axis])
    axis = int(np.argmax(np.abs(normal)))
    middle = [(low + high - 1) / 2 for low, high in reversed(box.bounds)]
    world = matrix @ [*middle, 1.0]
    letter, sign = _VIEW[axis]
    offset = float(normal @ world[:3]) * float(np.copysign(1, sign * normal[axis]))
    return letter, 0.0 if abs(offset) < 0.05 else offset


def _side(box: Box, axis: int, size: int, volume: Any) -> str:
    """Towards which side of the slice a box lies along an axis of the array."""
    matrix, (low, high) = _matrix(volume), box.bounds[axis]
    more = (low + high) / 2 - size / 2
    if matrix is None or more == 0:
        return ""
    direction = matrix[:3, 2 - axis]
    world = int(np.argmax(np.abs(direction)))
    return _LETTERS[world][bool(direction[world] * more < 0)]


def _matrix(volume: Any) -> np.ndarray | None:
    """Voxel index (i, j, k) to world; None under a transform that is not linear."""
    try:
        found = ijk_to_world(volume)
    except ValueError:
        return None
    return np.array([[found.GetElement(row, column) for column in range(4)] for row in range(4)])
