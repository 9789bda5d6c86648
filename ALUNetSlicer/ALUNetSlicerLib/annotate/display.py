"""A slice on screen: in the view and in the editor, with painting confined to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.ports.protocols import Editor


class SliceDisplay:
    """Shows one slice at a time, and gives view and editor back.

    Args:
        case_nodes: of the project.
        view: gives the view, or None without views.
        editor: what is painted with.
    """

    def __init__(
        self, case_nodes: CaseNodes, view: Callable[[], SliceView | None], editor: Editor
    ) -> None:
        self._case_nodes, self._view, self._editor = case_nodes, view, editor
        self._locked = True

    @property
    def locked(self) -> bool:
        """Whether painting is confined to the slice and its box."""
        return self._locked

    @locked.setter
    def locked(self, locked: bool) -> None:
        self._locked = locked
        self._case_nodes.mask(locked)

    def show(self, item: Slice) -> None:
        """Put the slice into the view and the case into the editor.

        Raises:
            ValueError: a transform of the volume is not linear.
        """
        view, segmentation = self._view(), self._case_nodes.segmentation(item.case)
        if view is not None:
            view.show(segmentation.volume, item.box)
            view.frame(self._case_nodes.frame(item.case, item.box))
        self._case_nodes.confine(item.case, item.box, self._locked)
        editor_node = self._case_nodes.editor_node()
        self._editor.show(editor_node, segmentation.node, segmentation.volume)
        self._editor.forget()  # an undo would bring back the lock of the slice before

    def labels(self, item: Slice) -> np.ndarray:
        """What is painted in a slice: its box, (k, j, i)."""
        return self._case_nodes.segmentation(item.case).read(item.box)

    def paint(self, item: Slice, labels: np.ndarray) -> None:
        """Replace what is painted in a slice; it can be undone.

        Raises:
            ValueError: not of the box's shape.
        """
        self._editor.remember()
        self._case_nodes.segmentation(item.case).write(item.box, labels)

    def changed(self) -> None:
        """Segments came or went: nothing before that can be undone."""
        self._editor.forget()

    def restore(self) -> None:
        """Make view and painting as they were before the first slice."""
        self._editor.rest()
        self._case_nodes.unlock_others()
        if (view := self._view()) is not None:
            view.restore()

    def forget(self) -> None:
        """There is nothing to go back to: the scene closes."""
        self._editor.rest()
        if (view := self._view()) is not None:
            view.forget()
