"""The real core of Slicer (the wheel `slicer-core`): scene, the logics a case needs, some of its
terminology.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import slicer


def start() -> None:
    """Make the scene and the logics."""
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
    volumes = slicer.vtkSlicerVolumesLogic()
    volumes.SetMRMLApplicationLogic(application)
    volumes.SetMRMLScene(scene)
    application.SetModuleLogic("Volumes", volumes)
    terminologies = slicer.vtkSlicerTerminologiesModuleLogic()
    terminologies.LoadTerminologyFromFile(str(Path(__file__).with_name("terminology.json")))
    slicer.mrmlScene = scene
    slicer.app = SimpleNamespace(applicationLogic=lambda: application)
    slicer.modules = SimpleNamespace(
        segmentations=SimpleNamespace(logic=lambda: segmentations),
        volumes=SimpleNamespace(logic=lambda: volumes),
        terminologies=SimpleNamespace(logic=lambda: terminologies),
    )
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
