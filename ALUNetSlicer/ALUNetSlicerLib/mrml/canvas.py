"""What a slice is painted on: a segmentation node of its box alone, or the case's own.

On a node of the box alone nothing can reach beyond it, with any effect of the Segment Editor, and
an effect that works in three dimensions sees this one slice. The node is in no list and no saved
scene; what is painted is in the case's node at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

import numpy as np
import slicer
import vtk

from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation
from ALUNetSlicerLib.mrml.slice_geometry import Box

CANVAS = "ALUNet.canvas"
"""Attribute of the segmentation node that the Segment Editor has: it can choose no other."""
_NAME = "ALUNet slice"


class Lost(Enum):
    """What happened to a node that the slice on screen needs."""

    REMOVED = auto()
    EMPTIED = auto()
    REPLACED = auto()
    BENT = auto()


class Canvas:
    """One slice at a time, from `open` to `close`.

    Attributes:
        strokes: changes of voxels so far, also in other slices of a node that is not confined.
        painted: called when what is painted in the slice changed.
        moved: called when the volume lies elsewhere.
        lost: gets what happened and the name of a node, before a node goes that the slice needs,
            or after something in it went. `labels` are still those that were painted.
    """

    def __init__(self) -> None:
        self.painted: Callable[[], None] = lambda: None
        self.moved: Callable[[], None] = lambda: None
        self.lost: Callable[[Lost, str], None] = lambda why, name: None
        self.strokes = 0
        self._case: CaseSegmentation | None = None
        self._own: CaseSegmentation | None = None
        self._box: Box | None = None
        self._labels: np.ndarray | None = None
        self._observed: list[tuple[Any, int]] = []
        self._needed: list[Any] = []
        self._place: object = None
        self._busy = False

    @property
    def node(self) -> Any:
        """The segmentation node to be painted on."""
        return (self._own or self._case).node

    @property
    def case(self) -> CaseSegmentation | None:
        """The case's labels; None where it is closed."""
        return self._case

    @property
    def labels(self) -> np.ndarray:
        """What is painted, (k, j, i) of the box; it outlives the nodes."""
        return self._labels.copy()

    def open(
        self,
        case: CaseSegmentation,
        structures: tuple[Mapping[str, int], Mapping[str, str]],
        box: Box,
        confined: bool,
        needed: Sequence[Any] = (),
        labels: np.ndarray | None = None,
    ) -> None:
        """Begin with a slice; the one before is let go.

        Args:
            structures: their values and own colors, by name.
            box: of the slice.
            confined: to a node of the box alone; else the case's own is painted on.
            needed: other nodes without which the slice is lost.
            labels: what it begins with; without: what the case's node holds.
        """
        self._release()
        if labels is not None:
            case.write(box, labels)
        self._case, self._box = case, box
        self._labels, self._place = case.read(box), _place(case.volume)
        if confined:
            node = self._node()
            self._own = CaseSegmentation(node, case.volume, *structures)
            if node.GetScene() is None:
                self._add(node)
            self._own.node.SetAndObserveTransformNodeID(case.volume.GetTransformNodeID())
            self._own.confine(box, self._labels)
            self._own.look_like(case)
        else:
            self._remove()
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            if node is not self.node:
                node.RemoveAttribute(CANVAS)  # of a scene that was saved while it was painted on
        self._needed = [case.node, case.volume, self.node, *needed]
        self._observe()

    def write(self, labels: np.ndarray) -> None:
        """Replace what is painted.

        Raises:
            ValueError: not of the box's shape.
        """
        self._busy = True
        try:
            (self._own or self._case).write(self._box, labels)
        finally:
            self._busy = False
        self._take(self.node)

    def close(self) -> None:
        """Let go of every node; the case's stays as it is painted."""
        self._release()
        self._remove()
        self._case = self._box = None

    def pause(self) -> None:
        """Do not look at the nodes until it is opened again: they are about to change."""
        self._release()

    def _release(self) -> None:
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed, self._needed = [], []

    def _remove(self) -> None:
        self._own = None
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            if node.GetAttribute(CANVAS) and node.GetHideFromEditors():
                slicer.mrmlScene.RemoveNode(node)

    @staticmethod
    def _node() -> Any:
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            if node.GetAttribute(CANVAS) and node.GetHideFromEditors():
                return node
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentationNode")
        node.UnRegister(None)
        node.SetName(_NAME)
        # from the beginning: an item of the subject hierarchy would be saved with a scene
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.SetAttribute(CANVAS, "1")
        return node

    @staticmethod
    def _add(node: Any) -> None:
        """Put the node into the scene, with its segments: it complains of those that come later."""
        slicer.mrmlScene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        # the case's own node shows what is painted; this one must count as visible all the same
        display.SetOpacity2DFill(0)
        display.SetOpacity2DOutline(0)
        display.SetVisibility3D(False)

    # --- what happens to the nodes ----------------------------------------------------------------

    def _observe(self) -> None:
        case, segmentation = self._case, slicer.vtkSegmentation
        self._see(slicer.mrmlScene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._removed)
        self._see(case.volume, vtk.vtkCommand.ModifiedEvent, self._changed)
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        for node in {self.node, case.node, case.volume}:
            self._see(node, moved, self._moved)
        for node in {self.node, case.node}:
            self._see(node, segmentation.SourceRepresentationModified, self._take)
            for event in (segmentation.SegmentRemoved, vtk.vtkCommand.ModifiedEvent):
                self._see(node, event, self._check)
            self._see(node, segmentation.SegmentModified, self._look)
            self._see(node.GetDisplayNode(), vtk.vtkCommand.ModifiedEvent, self._look)
            # an undo tells of nothing else
            self._see(node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, self._take)

    def _see(self, caller: Any, event: Any, action: Callable[..., None]) -> None:
        if caller is not None:
            self._observed.append((caller, caller.AddObserver(event, action)))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _removed(self, _caller: Any, _event: str, node: Any) -> None:
        if any(node is needed for needed in self._needed):
            self._lose(Lost.REMOVED, node)

    def _moved(self, *_values: Any) -> None:
        """The labels go where the volume goes, and nowhere else."""
        volume = self._case.volume
        transform = volume.GetParentTransformNode()
        if transform is not None and not transform.IsTransformToWorldLinear():
            self._lose(Lost.BENT, volume)
            return
        for node in {self.node, self._case.node}:
            if node.GetTransformNodeID() != volume.GetTransformNodeID():
                node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        self.moved()

    def _changed(self, *_values: Any) -> None:
        if _place(self._case.volume) != self._place:
            self._lose(Lost.REPLACED, self._case.volume)

    def _check(self, *_values: Any) -> bool:
        """Whether the nodes have all structures; else the slice is lost."""
        if all(each is None or each.is_whole for each in (self._case, self._own)):
            return True
        self._lose(Lost.EMPTIED, self._case.node)
        return False

    def _take(self, caller: Any, *_values: Any) -> None:
        """Take over what is painted in one of the two nodes into the other."""
        if self._busy or not self._check():
            return
        own = self._own
        source, other = (own, self._case) if own and caller is own.node else (self._case, own)
        self.strokes += 1
        if not source.is_settled:
            return  # it is told again
        labels = source.read(self._box)
        if np.array_equal(labels, self._labels):
            return
        self._labels = labels
        if other is not None:
            self._busy = True
            try:
                other.write(self._box, labels)
            finally:
                self._busy = False
        self.painted()

    def _look(self, caller: Any, *_values: Any) -> None:
        """Let both nodes have the same names and colors, and hide the same."""
        if self._busy or self._own is None:
            return
        self._busy = True
        try:
            if caller in (self._case.node, self._case.node.GetDisplayNode()):
                self._own.look_like(self._case)
            else:
                self._case.look_like(self._own)
        finally:
            self._busy = False

    def _lose(self, why: Lost, node: Any) -> None:
        self._release()  # once
        self.lost(why, node.GetName())


def _place(volume: Any) -> tuple[Any, ...]:
    """Size of a volume, and where its voxels lie."""
    matrix, image = vtk.vtkMatrix4x4(), volume.GetImageData()
    volume.GetIJKToRASMatrix(matrix)
    numbers = tuple(matrix.GetElement(row, column) for row in range(3) for column in range(4))
    return numbers, None if image is None else image.GetDimensions()
