"""The part of a slice that is asked for, drawn over the image: a frame around it, and what is
outside of it dimmed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from ALUNetSlicerLib.mrml.overlay_node import lay_over, overlay_node
from ALUNetSlicerLib.mrml.slice_geometry import Box

_NAME, _COLORS = "ALUNet part", "ALUNet part colors"
_OUTSIDE, _FRAME = 1, 2
_LOOKS = {0: (0, 0, 0, 0), _OUTSIDE: (0, 0, 0, 0.5), _FRAME: (1, 0.85, 0.1, 1)}
_FINE = 256
"""A frame is one voxel wide for so many voxels of the slice."""


def part_frame(volume: Any, box: Box) -> Any | None:
    """Put the frame of a box into the one label map node for it, and return the node; None where
    the box is the whole slice. A view draws nothing beyond the image: there its edge is the frame.

    Args:
        volume: node of the case.
    """
    size = volume.GetImageData().GetDimensions()[::-1]
    axes = [axis for axis in range(3) if axis != box.axis]
    if all(box.bounds[axis] == (0, size[axis]) for axis in axes):
        return None
    width = max(1, round(max(size[axis] for axis in axes) / _FINE))
    values = np.full(
        [1 if axis == box.axis else size[axis] for axis in range(3)], _OUTSIDE, np.uint8
    )
    values[_in_slice(box, width)] = _FRAME
    values[_in_slice(box, 0)] = 0
    node = overlay_node("vtkMRMLLabelMapVolumeNode", _NAME, _colors)
    lay_over(node, volume, [box.index if axis == box.axis else 0 for axis in range(3)], values)
    return node


def _in_slice(box: Box, more: int) -> tuple[slice, ...]:
    """A box as an index of its slice, wider by some voxels in the plane."""
    return tuple(
        slice(0, 1) if axis == box.axis else slice(max(0, low - more), high + more)
        for axis, (low, high) in enumerate(box.bounds)
    )


def _colors() -> str:
    """Id of the color table of frames."""
    table = slicer.mrmlScene.GetFirstNode(_COLORS, "vtkMRMLColorTableNode")
    if table is None:
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", _COLORS)
        table.SetTypeToUser()
        table.SetHideFromEditors(True)
        table.SetSaveWithScene(False)
        table.SetNumberOfColors(len(_LOOKS))
        for value, look in _LOOKS.items():
            table.SetColor(value, str(value), *look)
    return str(table.GetID())
