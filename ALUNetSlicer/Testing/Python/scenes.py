"""What the tests of the Slicer side need, in Slicer and in its core: random oblique volumes and
empty scenes.
"""

from __future__ import annotations

import unittest

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk


def random_volume(generator: np.random.Generator, name: str = "case"):
    """A volume node with noise: any rotation or reflection, spacing, origin and size."""
    shape = generator.integers(3, 14, 3)
    axes = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ np.diag(generator.uniform(0.3, 6, 3))
    matrix[:3, 3] = generator.uniform(-200, 200, 3)
    return make_volume(generator.integers(-1000, 1000, shape).astype(np.int16), matrix, name)


def make_volume(voxels: np.ndarray, matrix: np.ndarray, name: str = "case"):
    """A volume node in the scene.

    Args:
        voxels: (k, j, i).
        matrix: (4, 4), voxel index (i, j, k) to RAS.
    """
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    to_ras = vtk.vtkMatrix4x4()
    to_ras.DeepCopy(np.asarray(matrix, float).ravel().tolist())
    volume.SetIJKToRASMatrix(to_ras)
    image = vtk.vtkImageData()
    image.SetDimensions(*voxels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=True))
    volume.SetAndObserveImageData(image)
    return volume


class SceneTest(unittest.TestCase):
    """Each test begins and ends with an empty scene; random numbers are the same each time."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.generator = np.random.default_rng(7)

    def tearDown(self) -> None:
        slicer.mrmlScene.Clear()


def slice_logic():
    """The logic of a new slice view in the scene, without a window."""
    name = slicer.mrmlScene.GenerateUniqueName("View")
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.AddSliceNode(name)
    return logic


class QuietEditor:
    """A Segment Editor that nobody sees; it keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def show(self, node, segmentation, volume, confined) -> None:
        self.told.append("show")

    def remember(self) -> None:
        self.told.append("remember")

    def forget(self) -> None:
        self.told.append("forget")

    def rest(self) -> None:
        self.told.append("rest")
