"""The model's uncertainty of one slice as a volume node: its colors, its window, its opacity."""

from __future__ import annotations

from typing import Any

import numpy as np

from ALUNetSlicerLib.mrml.overlay_node import lay_over, overlay_node
from ALUNetSlicerLib.mrml.slice_geometry import Box

OPACITY = 0.4
"""Of the uncertainty over the image."""
_NAME = "ALUNet uncertainty"
_COLORS = "vtkMRMLColorTableNodeFileInferno.txt"
_SURE = 0.1
"""Voxels of less than this share of the most that is possible stay clear."""


def uncertainty_volume(volume: Any, box: Box, values: np.ndarray, classes: int) -> Any:
    """Put the uncertainty of one slice into the one volume node for it, and return the node.

    Args:
        volume: node of the case.
        values: uncertainty, of the box's shape, from 0 on; in nats for the entropy.
        classes: how many the model tells apart, with the background.
    """
    node = overlay_node("vtkMRMLScalarVolumeNode", _NAME, lambda: _COLORS)
    corner = [low for low, _high in box.bounds]
    lay_over(node, volume, corner, np.ascontiguousarray(values, np.float32))
    display, most = node.GetDisplayNode(), float(np.log(classes))
    display.SetAutoWindowLevel(0)
    display.SetWindowLevelMinMax(0.0, most)
    display.SetAutoThreshold(0)
    display.SetLowerThreshold(_SURE * most)
    display.SetUpperThreshold(10 * most)
    display.SetApplyThreshold(1)
    return node
