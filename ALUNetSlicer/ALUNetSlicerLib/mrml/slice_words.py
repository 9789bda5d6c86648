"""Where a slice and its part are, as a person reads it in Slicer's views."""

from __future__ import annotations

from typing import Any

import numpy as np

from ALUNetSlicerLib.mrml.slice_geometry import Box, ijk_to_world
from ALUNetSlicerLib.ports.i18n import tr as _

_LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))
"""Of the three world axes: towards the greater values, and towards the smaller."""


def slice_words(box: Box, size: int, volume: Any | None) -> str:
    """Number of a slice, from 1 on, and its place as the view shows it: ``20 of 35, S 20.0 mm``.

    Args:
        size: how many slices there are across the box's axis.
        volume: node of the case; None where it is not in the scene, and its place is not known.
    """
    counted = _("{number} of {size}").format(number=box.index + 1, size=size)
    place = None if volume is None else _offset(volume, box)
    if place is None:
        return counted
    axis, offset = place
    letter = _LETTERS[axis][offset < 0]
    return f"{counted}, {letter} {abs(offset):.1f} mm"


def part_words(box: Box, volume: Any) -> str:
    """Which part of its slice a box is: ``right anterior part, 480 x 512 of 512 x 512 voxels``;
    empty for the whole slice.
    """
    whole = volume.GetImageData().GetDimensions()[::-1]
    axes = [axis for axis in (2, 1, 0) if axis != box.axis]
    if all(box.bounds[axis] == (0, whole[axis]) for axis in axes):
        return ""
    sides = filter(None, (_side(box, axis, whole[axis], volume) for axis in axes))
    counts = " x ".join(str(box.shape[axis]) for axis in axes)
    sizes = " x ".join(str(whole[axis]) for axis in axes)
    words = _("{sides} part, {counts} of {sizes} voxels")
    return words.format(sides=" ".join(sides) or _("middle"), counts=counts, sizes=sizes)


def _offset(volume: Any, box: Box) -> tuple[int, float] | None:
    """The world axis that is nearest to across the slice, and the view's offset along it, mm."""
    matrix = _matrix(volume)
    if matrix is None:
        return None
    normal = matrix[:3, 2 - box.axis] / np.linalg.norm(matrix[:3, 2 - box.axis])
    axis = int(np.argmax(np.abs(normal)))
    middle = [(low + high - 1) / 2 for low, high in reversed(box.bounds)]
    world = matrix @ [*middle, 1.0]
    offset = float(normal @ world[:3]) * (1.0 if normal[axis] > 0 else -1.0)
    return axis, 0.0 if abs(offset) < 0.05 else offset


def _side(box: Box, axis: int, size: int, volume: Any) -> str:
    """Towards which side of the slice a box lies along an axis of the array."""
    matrix, (low, high) = _matrix(volume), box.bounds[axis]
    more = (low + high) / 2 - size / 2
    if matrix is None or more == 0:
        return ""
    names = (_("right"), _("left")), (_("anterior"), _("posterior")), (_("superior"), _("inferior"))
    direction = matrix[:3, 2 - axis]
    world = int(np.argmax(np.abs(direction)))
    return names[world][bool(direction[world] * more < 0)]


def _matrix(volume: Any) -> np.ndarray | None:
    """Voxel index (i, j, k) to world; None under a transform that is not linear."""
    try:
        found = ijk_to_world(volume)
    except ValueError:
        return None
    return np.array([[found.GetElement(row, column) for column in range(4)] for row in range(4)])
