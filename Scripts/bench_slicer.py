"""How long Slicer's window stands still between two slices, with the real core of Slicer (the wheel
`slicer-core`).

Part of Scripts/bench.py: `python3 Scripts/bench.py slicer`. Wall-clock medians in milliseconds, for
a case of 512 x 512 x 300 with two structures. The naive way writes and reads whole segments, as
`slicer.util` offers it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from timing import Measured, median


def measure(quick: bool) -> Measured:
    """All figures of the Slicer side."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ALUNetSlicer" / "Testing"))
    from pythonqt import core

    core.start()
    shape = (60, 256, 256) if quick else (300, 512, 512)
    repeats = 5 if quick else 20
    return _measure(shape, repeats)


def _measure(shape: tuple[int, int, int], repeats: int) -> Measured:
    import slicer

    from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
    from ALUNetSlicerLib.mrml.slice_geometry import Box
    from ALUNetSlicerLib.mrml.slice_view import SliceView

    volume = _volume(shape)
    case_nodes = CaseNodes("bench", {"background": 0, "organ": 1, "lesion": 2})
    case_nodes.adopt("case", volume)
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.AddSliceNode("Bench")
    view, segmentation = SliceView(logic), case_nodes.segmentation("case")
    segmentation.write_all(_labels(shape))
    boxes = iter([Box(0, ((k, k + 1), (0, shape[1]), (0, shape[2]))) for k in range(shape[0])] * 3)
    slices = _labels(shape)

    def next_slice() -> None:
        box = next(boxes)
        segmentation.write(box, slices[box.slices])
        view.show(volume, box)
        case_nodes.confine("case", box, locked=True)

    def submit() -> None:
        segmentation.read(next(boxes)).tobytes()

    node, name = segmentation.node, segmentation.segment_ids[0]
    mask = (slices == 1).astype(np.uint8)
    util = slicer.util
    whole_write = median(
        lambda: util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume), 3
    )
    whole_read = median(lambda: util.arrayFromSegmentBinaryLabelmap(node, name, volume), 3)
    size = " x ".join(str(extent) for extent in reversed(shape))
    return [
        (f"the next slice on screen, {size}", median(next_slice, repeats), 2 * whole_write, "ms"),
        ("reading what was painted in a slice", median(submit, repeats), 2 * whole_read, "ms"),
    ]


def _volume(shape: tuple[int, int, int]) -> Any:
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "case")
    volume.SetSpacing(0.7, 0.7, 2.5)
    image = vtk.vtkImageData()
    image.SetDimensions(*shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.zeros(shape, np.int16).ravel(), deep=True))
    volume.SetAndObserveImageData(image)
    return volume


def _labels(shape: tuple[int, int, int]) -> np.ndarray:
    """Two balls in each other."""
    k, j, i = np.ogrid[[slice(-1, 1, extent * 1j) for extent in shape]]
    radius = k * k + j * j + i * i
    return np.where(radius < 0.1, 2, radius < 0.5).astype(np.uint8)
