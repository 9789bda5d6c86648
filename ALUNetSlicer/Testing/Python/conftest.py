"""Outside of Slicer its real core (the wheel `slicer-core`) stands for it: a scene and the logics that a case needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
slicer = pytest.importorskip("slicer", reason="the real core of Slicer: pip install slicer-core")

pythonqt = pytest.importorskip("pythonqt", reason="PySide6: pip install PySide6-Essentials")


def _core() -> None:
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    application.SetColorLogic(colors)
    segmentations = slicer.vtkSlicerSegmentationsModuleLogic()
    segmentations.SetMRMLApplicationLogic(application)
    segmentations.SetMRMLScene(scene)
    application.SetModuleLogic("Segmentations", segmentations)
    slicer.mrmlScene = scene
    slicer.app = SimpleNamespace(applicationLogic=lambda: application)
    slicer.modules = SimpleNamespace(segmentations=SimpleNamespace(logic=lambda: segmentations))
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    pythonqt.install()


_core()


@pytest.fixture(autouse=True)
def _no_slot_failed() -> Iterator[None]:
    """What a slot raises fails the test."""
    pythonqt.errors()
    yield
    raised = pythonqt.errors()
    if raised:
        pytest.fail("\n".join(raised))
