"""The nodes of a project's cases in the scene: volumes, segmentations, the editor's state, what
is laid over them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ALUNetSlicerLib.mrml.canvas import CANVAS, Canvas
from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation
from ALUNetSlicerLib.mrml.part_frame import part_frame
from ALUNetSlicerLib.mrml.slice_geometry import Box
from ALUNetSlicerLib.mrml.uncertainty_volume import uncertainty_volume

_CASE = "ALUNet.case"
"""Attribute of a node: the project and case that it belongs to. It is saved with the scene."""
_RESULT = "ALUNet.result"
"""Attribute of a segmentation node that the model made: the project and case that it belongs to."""
_BEGUN = "ALUNet.begun"
"""Attribute of a case's segmentation node: its slices that are painted and not handed in."""
_EDITOR = "ALUNet"
_DEFAULTS = "ALUNet.defaults"
"""Attribute of the editor's node that has our defaults of effects."""


def owner_of(node: Any) -> tuple[str, str]:
    """The project and the case that a node belongs to; both empty for none."""
    project, _, case = (node.GetAttribute(_CASE) or "").partition("/")
    return project, case


class CaseNodes:
    """What is in the scene for one project. It changes only nodes of its own and the volumes it was
    given.

    Args:
        project: id of it.
        labels: structure name -> value, with the background's 0.
        colors: #rrggbb of structures that have a color of their own, by name.

    Attributes:
        canvas: what the slice on screen is painted on.
    """

    def __init__(
        self, project: str, labels: Mapping[str, int], colors: Mapping[str, str] | None = None
    ) -> None:
        self._project, self._labels = project, labels
        self._colors: Mapping[str, str] = colors or {}
        self._segmentations: dict[str, CaseSegmentation] = {}
        self.canvas = Canvas()

    def volume(self, case: str) -> Any | None:
        """The volume node of a case, None where it is not in the scene."""
        return self._find("vtkMRMLScalarVolumeNode", case)

    def adopt(self, case: str, volume: Any) -> None:
        """Take a volume node of the scene as that of a case."""
        volume.SetAttribute(_CASE, self._key(case))

    def load(self, case: str, file: Path) -> Any:
        """Load the image of a case from a file into a new volume node.

        Raises:
            ValueError: the file cannot be read.
        """
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", case)
        storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(file))
        read = storage.ReadData(volume)
        # it names a file of the spool folder, which does not stay
        slicer.mrmlScene.RemoveNode(storage)
        if not read:
            slicer.mrmlScene.RemoveNode(volume)
            raise ValueError(f"The image of {case} cannot be read.")
        volume.CreateDefaultDisplayNodes()
        self.adopt(case, volume)
        return volume

    def segmentation(self, case: str) -> CaseSegmentation:
        """The segmentation of a case whose volume is in the scene."""
        volume = self.volume(case)
        segmentation = self._find("vtkMRMLSegmentationNode", case)
        if segmentation is None:
            segmentation = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLSegmentationNode", f"{case} labels"
            )
            segmentation.SetAttribute(_CASE, self._key(case))
            segmentation.CreateDefaultDisplayNodes()
        known = self._segmentations.get(case)
        # which a person may have changed
        segmentation.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        same = known is not None and known.node is segmentation and known.volume is volume
        if not (same and known.is_whole):
            known = CaseSegmentation(segmentation, volume, self._labels, self._colors)
        if not known.is_on_grid:  # what it holds is of other voxels than those of the volume
            segmentation.RemoveAttribute(_CASE)
            segmentation.SetName(f"{case} labels, before the volume was moved")
            segmentation.GetDisplayNode().SetVisibility(False)
            return self.segmentation(case)
        self._segmentations[case] = known
        return known

    @property
    def labels(self) -> Mapping[str, int]:
        """Structure name -> value, with the background's 0."""
        return self._labels

    def use(self, labels: Mapping[str, int], colors: Mapping[str, str]) -> None:
        """Take other structures; see `CaseSegmentation.use`."""
        for known in self._segmentations.values():
            if known.node.GetScene() is not None:
                known.use(self._labels, labels, colors)
        self._labels, self._colors = labels, colors

    def editor_node(self) -> Any:
        """The project's own state of the Segment Editor, apart from that of Slicer's module."""
        node = slicer.mrmlScene.GetSingletonNode(_EDITOR, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(_EDITOR)
            node.SetSaveWithScene(False)  # it names a node that is not saved either
            node = slicer.mrmlScene.AddNode(node)
        return node

    def open(self, case: str, box: Box, confined: bool, labels: np.ndarray | None = None) -> None:
        """Begin to paint in a slice of a case, and show its labels alone; see `Canvas.open`."""
        segmentation, needed = self.segmentation(case), [self.editor_node()]
        structures = self._labels, self._colors
        self.canvas.open(segmentation, structures, box, confined, needed, labels)
        self._show_only(case)

    def edit(self) -> Any:
        """Let the editor's state be at the slice that is open, and return its node."""
        node, canvas = self.editor_node(), self.canvas
        if not node.GetAttribute(_DEFAULTS):  # a scene that is closed resets them
            node.SetAttribute(_DEFAULTS, "1")
            # Slicer's own, 1000, is for whole volumes: of one slice it would leave nothing
            node.SetAttribute("Islands.MinimumSize", "10")
        canvas.node.SetAttribute(CANVAS, "1")
        node.SourceVolumeIntensityMaskOff()  # its controls are not on screen
        node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        # a segment of the person's own that is hidden stays as it is
        node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteVisibleSegments)
        node.SetAndObserveSegmentationNode(canvas.node)
        node.SetAndObserveSourceVolumeNode(canvas.case.volume)
        return node

    # --- what was begun, as it is saved with the scene --------------------------------------------

    def begin(self, case: str, sample: int, base: int, at: float) -> None:
        """Note that a slice is painted and not handed in.

        Args:
            base: version of the labels that it began with.
            at: seconds since 1970.
        """
        node = self._find("vtkMRMLSegmentationNode", case)
        if node is not None:
            node.SetAttribute(_BEGUN, json.dumps(_begun(node) | {str(sample): [base, at]}))

    def end(self, case: str, sample: int) -> None:
        """Note that a slice was handed in."""
        node = self._find("vtkMRMLSegmentationNode", case)
        if node is not None and str(sample) in (known := _begun(node)):
            del known[str(sample)]
            node.SetAttribute(_BEGUN, json.dumps(known))

    def begun(self) -> Iterator[tuple[int, int, float, Callable[[Box], np.ndarray]]]:
        """What the scene holds that was begun: sample, base, when it was painted, and what reads
        its labels.
        """
        for node in self._nodes("vtkMRMLSegmentationNode"):
            case = self.case_of(node)
            if case and self.volume(case) is not None:
                known = CaseSegmentation(node, self.volume(case), self._labels, self._colors)
                for sample, (base, at) in _begun(node).items() if known.is_on_grid else ():
                    yield int(sample), base, at, known.read

    def add_result(self, case: str, segmentation: Any, on_screen: str) -> None:
        """Belong a segmentation of a whole case to it; it is hidden where another case is on
        screen.
        """
        segmentation.SetAttribute(_RESULT, self._key(case))
        segmentation.GetDisplayNode().SetVisibility(on_screen in ("", case))

    def _show_only(self, case: str) -> None:
        """Hide the labels of other cases, which lie in the same place, and what models made of
        any: of this project and of all others.
        """
        for node in self._nodes("vtkMRMLSegmentationNode"):
            known = node.GetAttribute(_CASE)
            if (known or node.GetAttribute(_RESULT)) and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(known == self._key(case))

    def hide(self) -> None:
        """Hide all that belongs to the project: another one is opened, or none."""
        for node in self._nodes("vtkMRMLSegmentationNode"):
            keys = node.GetAttribute(_CASE), node.GetAttribute(_RESULT)
            ours = any((key or "").startswith(self._key("")) for key in keys)
            if ours and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(False)

    def overlay(self, case: str, box: Box, values: np.ndarray) -> Any:
        """A volume node of one slice, to be laid over the case's; see `uncertainty_volume`."""
        return uncertainty_volume(self.volume(case), box, values, len(self._labels))

    def frame(self, case: str, box: Box) -> Any | None:
        """A label map node that shows which part of its slice a box is; see `part_frame`."""
        return part_frame(self.volume(case), box)

    def case_of(self, node: Any) -> str:
        """The case of this project that a node belongs to; empty where it is none's."""
        project, case = owner_of(node)
        return case if project == self._project else ""

    def forget(self) -> None:
        """The scene is closed: no node is known any more."""
        self._segmentations.clear()

    def _key(self, case: str) -> str:
        return f"{self._project}/{case}"

    def _find(self, kind: str, case: str) -> Any | None:
        return next(
            (node for node in self._nodes(kind) if node.GetAttribute(_CASE) == self._key(case)),
            None,
        )

    @staticmethod
    def _nodes(kind: str) -> Iterator[Any]:
        nodes = slicer.mrmlScene.GetNodesByClass(kind)
        nodes.UnRegister(None)
        for number in range(nodes.GetNumberOfItems()):
            yield nodes.GetItemAsObject(number)


def _begun(node: Any) -> dict[str, list[Any]]:
    """What is noted in a node; nothing where somebody else wrote there."""
    try:
        noted = json.loads(node.GetAttribute(_BEGUN) or "{}")
        return {str(int(sample)): [int(base), float(at)] for sample, (base, at) in noted.items()}
    except (ValueError, TypeError, AttributeError):
        return {}
