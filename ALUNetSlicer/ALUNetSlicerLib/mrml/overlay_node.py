"""A volume node of one slice that is laid over a case: it is in no list and in no saved scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import slicer
import vtk


def overlay_node(kind: str, name: str, colors: Callable[[], str]) -> Any:
    """Return the one node of that name, made where the scene has none.

    Args:
        kind: class of the volume node.
        colors: gives the id of its color node.
    """
    node = slicer.mrmlScene.GetFirstNode(name, kind)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetSaveWithScene(False)
        node.GetDisplayNode().SetAndObserveColorNodeID(colors())
    return node


def lay_over(node: Any, volume: Any, corner: Sequence[int], values: np.ndarray) -> None:
    """Give an overlay its values, on the grid of a volume node.

    Args:
        corner: voxel (k, j, i) of the volume that the first value is of.
        values: (k, j, i).
    """
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    first = matrix.MultiplyPoint([*map(float, reversed(corner)), 1.0])
    for row, value in enumerate(first[:3]):
        matrix.SetElement(row, 3, value)
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    slicer.util.updateVolumeFromArray(node, values)
