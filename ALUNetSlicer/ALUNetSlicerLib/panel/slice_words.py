"""Where a slice and its part are, in words."""

from __future__ import annotations

from typing import Any

from ALUNetSlicerLib.mrml.slice_geometry import Box
from ALUNetSlicerLib.mrml.slice_place import offset_of, part_of
from ALUNetSlicerLib.ports.i18n import tr as _

_SIDES = {
    "R": _("right"),
    "L": _("left"),
    "A": _("anterior"),
    "P": _("posterior"),
    "S": _("superior"),
    "I": _("inferior"),
}


def slice_words(box: Box, size: int, volume: Any | None) -> str:
    """Number of a slice, from 1 on, and its place as the view shows it: ``20 of 35, S 20.0 mm``.

    Args:
        size: how many slices there are across the box's axis; 0 where that is not known.
        volume: node of the case; None where it is not in the scene, and its place is not known.
    """
    counted = _("{number} of {size}").format(number=box.index + 1, size=size or "?")
    place = None if volume is None else offset_of(volume, box)
    return counted if place is None else f"{counted}, {place[0]} {place[1]:.1f} mm"


def part_words(box: Box, volume: Any) -> str:
    """Which part of its slice a box is: ``right anterior part, 480 x 512 of 512 x 512 voxels``;
    empty for the whole slice.
    """
    part = part_of(volume, box)
    if part is None:
        return ""
    sides = " ".join(_SIDES[side] for side in part.sides) or _("middle")
    counts, sizes = (" x ".join(map(str, numbers)) for numbers in (part.counts, part.sizes))
    words = _("{sides} part, {counts} of {sizes} voxels")
    return words.format(sides=sides, counts=counts, sizes=sizes)
