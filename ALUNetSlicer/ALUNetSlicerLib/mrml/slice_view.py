"""The slice view that somebody works in: it shows one slice of a case, and all views are given
back as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import slicer
import vtk

from ALUNetSlicerLib.mrml.slice_geometry import Box, center, show_slice, slice_shown
from ALUNetSlicerLib.mrml.uncertainty_volume import OPACITY


class SliceView:
    """One slice view, and those beside it.

    Args:
        logic: vtkMRMLSliceLogic of it, with a slice node and a composite node.
        beside: gives the logics of the other slice views: they show the same place from other
            sides.

    Attributes:
        replaced: called with the name of another volume that Slicer or a person puts into the
            view, and with an empty one when the volume of the slice is back.
    """

    def __init__(self, logic: Any, beside: Callable[[], Sequence[Any]] = tuple) -> None:
        self._logic, self._beside = logic, beside
        self._before: dict[str, tuple[Any, dict[str, Any]]] = {}
        self.replaced: Callable[[str], None] = lambda name: None
        self._volume = self._seen = ""
        self._tag: int | None = None

    def show(self, volume: Any, box: Box) -> None:
        """Show a slice of a volume, fitted into the view where the volume is a new one there.

        Raises:
            ValueError: a transform of the volume is not linear.
        """
        slice_node, place = self._logic.GetSliceNode(), center(volume, box)
        self._unwatch()
        fresh = self._put(self._logic, volume)
        self.overlay(None)
        show_slice(slice_node, volume, box.axis, box.index)
        if fresh:
            self._logic.FitSliceToBackground()
            # fitting moves it to the middle of the volume
            show_slice(slice_node, volume, box.axis, box.index)
        for other in self._beside():
            if self._put(other, volume):
                other.FitSliceToBackground()
            other.GetSliceNode().JumpSliceByOffsetting(*place)
        self._watch(volume)

    def _watch(self, volume: Any) -> None:
        """Notice when another volume is in the view; Slicer shows what it loads."""
        layers = self._logic.GetSliceCompositeNode()
        self._volume = self._seen = volume.GetID()
        self._tag = layers.AddObserver(vtk.vtkCommand.ModifiedEvent, self._look)

    def _unwatch(self) -> None:
        layers = self._logic.GetSliceCompositeNode()
        if self._tag is not None and layers is not None:
            layers.RemoveObserver(self._tag)
        self._tag = None

    def _look(self, layers: Any, _event: str) -> None:
        shown = layers.GetBackgroundVolumeID() or ""
        node = slicer.mrmlScene.GetNodeByID(shown)
        if shown != self._seen and node is not None:
            self._seen = shown
            self.replaced("" if shown == self._volume else node.GetName())

    def _put(self, logic: Any, volume: Any) -> bool:
        """Make a volume the background of a view; whether it was not so before."""
        layers = logic.GetSliceCompositeNode()
        self._before.setdefault(layers.GetID(), (logic, _state(logic)))
        layers.SetLinkedControl(False)  # else the other views would follow this one
        fresh = layers.GetBackgroundVolumeID() != volume.GetID()
        layers.SetBackgroundVolumeID(volume.GetID())
        layers.SetLabelVolumeID(None)
        return fresh

    def overlay(self, volume: Any | None) -> None:
        """Lay another volume over the one shown; None takes it away."""
        layers = self._logic.GetSliceCompositeNode()
        layers.SetForegroundVolumeID(None if volume is None else volume.GetID())
        layers.SetForegroundOpacity(0.0 if volume is None else OPACITY)

    def frame(self, labels: Any | None) -> None:
        """Draw the frame of a part over the slice, see `part_frame`; None takes it away."""
        layers = self._logic.GetSliceCompositeNode()
        layers.SetLabelVolumeID(None if labels is None else labels.GetID())
        layers.SetLabelOpacity(1.0)

    def place(self) -> tuple[Any, int, int] | None:
        """The volume node shown, the array axis (k, j, i) across the view and the slice; None
        without a volume that has voxels.

        Raises:
            ValueError: a transform of the volume is not linear.
        """
        layers = self._logic.GetSliceCompositeNode()
        volume = slicer.mrmlScene.GetNodeByID(layers.GetBackgroundVolumeID() or "")
        if volume is None or volume.GetImageData() is None:
            return None
        return volume, *slice_shown(self._logic.GetSliceNode(), volume)

    def restore(self) -> None:
        """Show again what was shown before the first slice; nodes that are gone meanwhile are
        left out.
        """
        self._unwatch()
        before, self._before = self._before, {}
        for logic, state in before.values():
            _restore(logic, state)

    def forget(self) -> None:
        """There is nothing to go back to: the scene was closed."""
        self._unwatch()
        self._before = {}


def _restore(logic: Any, before: dict[str, Any]) -> None:
    slice_node, layers = logic.GetSliceNode(), logic.GetSliceCompositeNode()
    if slicer.mrmlScene is None or slice_node is None or slice_node.GetScene() is None:
        return
    for name in ("Background", "Foreground", "Label"):
        known = slicer.mrmlScene.GetNodeByID(before[name] or "")
        getattr(layers, f"Set{name}VolumeID")(None if known is None else before[name])
    layers.SetForegroundOpacity(before["opacity"])
    layers.SetLabelOpacity(before["label opacity"])
    layers.SetLinkedControl(before["linked"])
    if slice_node.HasSliceOrientationPreset(before["orientation"]):  # else it was oblique
        slice_node.SetOrientation(before["orientation"])
    slice_node.GetSliceToRAS().DeepCopy(before["to_ras"])
    slice_node.UpdateMatrices()
    slice_node.SetFieldOfView(*before["field_of_view"])
    slice_node.SetXYZOrigin(*before["origin"])


def _state(logic: Any) -> dict[str, Any]:
    slice_node, layers = logic.GetSliceNode(), logic.GetSliceCompositeNode()
    to_ras = vtk.vtkMatrix4x4()
    to_ras.DeepCopy(slice_node.GetSliceToRAS())
    return {
        "Background": layers.GetBackgroundVolumeID(),
        "Foreground": layers.GetForegroundVolumeID(),
        "Label": layers.GetLabelVolumeID(),
        "opacity": layers.GetForegroundOpacity(),
        "label opacity": layers.GetLabelOpacity(),
        "linked": layers.GetLinkedControl(),
        "orientation": slice_node.GetOrientation(),
        "to_ras": to_ras,
        "field_of_view": slice_node.GetFieldOfView(),
        "origin": slice_node.GetXYZOrigin(),
    }
