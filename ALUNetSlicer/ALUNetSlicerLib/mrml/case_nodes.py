"""The nodes of a project's cases in the scene: volumes, segmentations, the editor's state, what
is laid over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation
from ALUNetSlicerLib.mrml.part_frame import part_frame
from ALUNetSlicerLib.mrml.slice_geometry import Box
from ALUNetSlicerLib.mrml.uncertainty_volume import uncertainty_volume

_CASE = "ALUNet.case"
"""Attribute of a node: the project and case that it belongs to. It is saved with the scene."""
_RESULT = "ALUNet.result"
"""Attribute of a segmentation node that the model made: the project and case that it belongs to."""
_EDITOR = "ALUNet"


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
    """

    def __init__(
        self, project: str, labels: Mapping[str, int], colors: Mapping[str, str] | None = None
    ) -> None:
        self._project, self._labels = project, labels
        self._colors: Mapping[str, str] = colors or {}
        self._segmentations: dict[str, CaseSegmentation] = {}

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
        if known is None or known.node is not segmentation or known.volume is not volume:
            known = self._segmentations[case] = CaseSegmentation(
                segmentation, volume, self._labels, self._colors
            )
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
            node = slicer.mrmlScene.AddNode(node)
        return node

    def confine(self, case: str, box: Box, locked: bool) -> None:
        """Confine painting in a case to a box, or not."""
        segmentation, node = self.segmentation(case), self.editor_node()
        self.unlock_others(case)
        self._show_only(case)
        node.SetAndObserveSegmentationNode(segmentation.node)
        node.SetAndObserveSourceVolumeNode(segmentation.volume)
        segmentation.lock(node, box)
        self.mask(locked)

    def add_result(self, case: str, segmentation: Any, on_screen: str) -> None:
        """Belong a segmentation of a whole case to it; it is hidden where another case is on
        screen.
        """
        segmentation.SetAttribute(_RESULT, self._key(case))
        segmentation.GetDisplayNode().SetVisibility(on_screen in ("", case))

    def _show_only(self, case: str) -> None:
        """Hide the segmentations of the other cases, which lie in the same place, and what the
        model made of this.
        """
        for node in self._nodes("vtkMRMLSegmentationNode"):
            if self.case_of(node) and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(self.case_of(node) == case)
            elif (node.GetAttribute(_RESULT) or "").startswith(
                self._key("")
            ) and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(False)

    def mask(self, locked: bool) -> None:
        """Confine painting to the lock that there is, or allow it everywhere; an undo works
        across that.
        """
        inside, everywhere = "EditAllowedInsideSingleSegment", "EditAllowedEverywhere"
        self.editor_node().SetMaskMode(
            getattr(slicer.vtkMRMLSegmentationNode, inside if locked else everywhere)
        )

    def overlay(self, case: str, box: Box, values: np.ndarray) -> Any:
        """A volume node of one slice, to be laid over the case's; see `uncertainty_volume`."""
        return uncertainty_volume(self.volume(case), box, values, len(self._labels))

    def frame(self, case: str, box: Box) -> Any | None:
        """A label map node that shows which part of its slice a box is; see `part_frame`."""
        return part_frame(self.volume(case), box)

    def unlock_others(self, case: str = "") -> None:
        """Remove the lock from every case but one."""
        for name, segmentation in self._segmentations.items():
            if name != case and slicer.mrmlScene.IsNodePresent(segmentation.node):
                segmentation.unlock(self.editor_node())

    def case_of(self, node: Any) -> str:
        """The case of this project that a node belongs to; empty where it is none's."""
        project, case = owner_of(node)
        return case if project == self._project else ""

    def has_labels(self, case: str) -> bool:
        """Whether the scene has a segmentation of the case, and its volume."""
        return (
            self._find("vtkMRMLSegmentationNode", case) is not None
            and self.volume(case) is not None
        )

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
