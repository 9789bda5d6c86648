"""Slicer's Segment Editor inside the panel: which of its effects and controls are offered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer


class SegmentEditor:
    """A Segment Editor inside the panel.

    Args:
        widget: qMRMLSegmentEditorWidget, before a scene is set.
        attribute: of the segmentation node that may be edited: the editor takes no other, also
            where that one is removed.
    """

    IN_SLICE = (
        "Paint",
        "Draw",
        "Erase",
        "Threshold",
        "Level tracing",
        "Islands",
        "Scissors",
        "Smoothing",
        "Margin",
    )
    """Effects that do in one slice what they say."""
    EVERYWHERE = (
        "Paint",
        "Draw",
        "Erase",
        "Threshold",
        "Level tracing",
        "Scissors",
        "Fill between slices",
    )
    """Those that do no harm to labels of single slices where they reach all of them."""
    OUT_OF_PLACE = (
        ("Islands", "splitAllOptionRadioButton"),  # its new segments are no structures
        ("Threshold", "useForPaintButton"),  # the controls to end that are not on screen
    )
    """Options of effects that are not offered, by the names that Slicer has for them."""
    UNDO_STATES = 20

    def __init__(self, widget: Any, attribute: str) -> None:
        self._widget = widget
        widget.setMaximumNumberOfUndoStates(self.UNDO_STATES)
        widget.setEffectNameOrder(self.IN_SLICE)
        widget.unorderedEffectsVisible = False
        widget.autoShowSourceVolumeNode = False
        widget.segmentationNodeSelectorVisible = False
        widget.sourceVolumeNodeSelectorVisible = False
        widget.switchToSegmentationsButtonVisible = False
        widget.specifyGeometryButtonVisible = False
        widget.maskingSectionVisible = False
        widget.addRemoveSegmentButtonsVisible = False
        widget.show3DButtonVisible = False
        nodes = slicer.util.findChild(widget, "SegmentationNodeComboBox")
        nodes.addAttribute("vtkMRMLSegmentationNode", attribute, "1")
        nodes.showHidden = nodes.noneEnabled = True

    def show(self, node: Any, segmentation: Any, volume: Any, confined: bool) -> None:
        self._offer(self.IN_SLICE if confined else self.EVERYWHERE)
        self._widget.setMRMLSegmentEditorNode(node)
        self._widget.setMRMLScene(slicer.mrmlScene)
        self._widget.setSegmentationNode(segmentation)
        self._widget.setSourceVolumeNode(volume)
        self._widget.installKeyboardShortcuts()
        self._widget.setupViewObservations()

    def _offer(self, effects: Sequence[str]) -> None:
        active = self._widget.activeEffect()
        if active is not None and active.name not in effects:
            self._widget.setActiveEffect(None)
        self._widget.setEffectNameOrder(effects)
        for name, option in self.OUT_OF_PLACE:
            effect = self._widget.effectByName(name)
            control = getattr(effect.self(), option, None) if effect is not None else None
            if control is not None:
                control.hide()

    def remember(self) -> None:
        self._widget.saveStateForUndo()

    def forget(self) -> None:
        self._widget.setMaximumNumberOfUndoStates(0)
        self._widget.setMaximumNumberOfUndoStates(self.UNDO_STATES)

    def rest(self) -> None:
        self._widget.setActiveEffect(None)
        self._widget.uninstallKeyboardShortcuts()
        self._widget.removeViewObservations()
        self._widget.setSegmentationNode(None)


class NoEditor:
    """Without a window nothing is painted by hand."""

    def show(self, node: Any, segmentation: Any, volume: Any, confined: bool) -> None: ...

    def remember(self) -> None: ...

    def forget(self) -> None: ...

    def rest(self) -> None: ...
