"""The slice view that somebody works in: it shows one slice of a case, and is given back as it was."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from ALUNetSlicerLib.slices import Box, show_slice, slice_shown

OVERLAY_OPACITY = 0.4


class View:
    """One slice view.

    Args:
        logic: vtkMRMLSliceLogic of it, with a slice node and a composite node.
    """

    def __init__(self, logic: Any) -> None:
        self._logic = logic
        self._before: dict[str, Any] | None = None

    def show(self, volume: Any, box: Box) -> None:
        """Show a slice of a volume, fitted into the view where the volume is a new one there.

        Raises:
            ValueError: a transform of the volume is not linear.
        """
        slice_node, layers = self._logic.GetSliceNode(), self._logic.GetSliceCompositeNode()
        if self._before is None:
            self._before = self._state()
        layers.SetLinkedControl(False)  # else the other views would follow this one
        fresh = layers.GetBackgroundVolumeID() != volume.GetID()
        layers.SetBackgroundVolumeID(volume.GetID())
        layers.SetLabelVolumeID(None)
        self.overlay(None)
        show_slice(slice_node, volume, box.axis, box.index)
        if fresh:
            self._logic.FitSliceToBackground()
            show_slice(slice_node, volume, box.axis, box.index)  # fitting moves it to the middle of the volume

    def overlay(self, volume: Any | None) -> None:
        """Lay another volume over the one shown; None takes it away."""
        layers = self._logic.GetSliceCompositeNode()
        layers.SetForegroundVolumeID(None if volume is None else volume.GetID())
        layers.SetForegroundOpacity(0.0 if volume is None else OVERLAY_OPACITY)

    def place(self) -> tuple[Any, int, int] | None:
        """The volume node shown, the array axis (k, j, i) across the view and the slice; None without a volume."""
        layers = self._logic.GetSliceCompositeNode()
        volume = slicer.mrmlScene.GetNodeByID(layers.GetBackgroundVolumeID() or "")
        return None if volume is None else (volume, *slice_shown(self._logic.GetSliceNode(), volume))

    def restore(self) -> None:
        """Show again what was shown before the first slice; nodes that are gone meanwhile are left out."""
        before, self._before = self._before, None
        slice_node, layers = self._logic.GetSliceNode(), self._logic.GetSliceCompositeNode()
        if before is None or slicer.mrmlScene is None or slice_node is None or slice_node.GetScene() is None:
            return
        for name in ("Background", "Foreground", "Label"):
            known = slicer.mrmlScene.GetNodeByID(before[name] or "")
            getattr(layers, f"Set{name}VolumeID")(None if known is None else before[name])
        layers.SetForegroundOpacity(before["opacity"])
        layers.SetLinkedControl(before["linked"])
        slice_node.SetOrientation(before["orientation"])
        slice_node.GetSliceToRAS().DeepCopy(before["to_ras"])
        slice_node.UpdateMatrices()
        slice_node.SetFieldOfView(*before["field_of_view"])
        slice_node.SetXYZOrigin(*before["origin"])

    def forget(self) -> None:
        """There is nothing to go back to: the scene was closed."""
        self._before = None

    def _state(self) -> dict[str, Any]:
        slice_node, layers = self._logic.GetSliceNode(), self._logic.GetSliceCompositeNode()
        to_ras = vtk.vtkMatrix4x4()
        to_ras.DeepCopy(slice_node.GetSliceToRAS())
        return {
            "Background": layers.GetBackgroundVolumeID(),
            "Foreground": layers.GetForegroundVolumeID(),
            "Label": layers.GetLabelVolumeID(),
            "opacity": layers.GetForegroundOpacity(),
            "linked": layers.GetLinkedControl(),
            "orientation": slice_node.GetOrientation(),
            "to_ras": to_ras,
            "field_of_view": slice_node.GetFieldOfView(),
            "origin": slice_node.GetXYZOrigin(),
        }
