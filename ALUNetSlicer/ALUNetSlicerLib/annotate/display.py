"""A slice on screen: in the view and in the editor, with painting confined to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.mrml.canvas import Lost
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Editor


class SliceDisplay:
    """Shows one slice at a time, and gives view and editor back.

    Args:
        case_nodes: of the project.
        view: gives the view, or None without views.
        editor: what is painted with.

    Attributes:
        replaced: see `SliceView`.
    """

    def __init__(
        self, case_nodes: CaseNodes, view: Callable[[], SliceView | None], editor: Editor
    ) -> None:
        self._case_nodes, self._view, self._editor = case_nodes, view, editor
        self._locked = True
        self._item: Slice | None = None
        self._edited = False
        self.replaced: Callable[[str], None] = lambda name: None
        case_nodes.canvas.moved = self._follow

    @property
    def locked(self) -> bool:
        """Whether painting is to be confined to the slice and its box."""
        return self._locked

    @locked.setter
    def locked(self, locked: bool) -> None:
        self._locked = locked
        if self._edited:
            self.open()

    @property
    def confined(self) -> bool:
        """Whether nothing can be painted beyond the slice and its box."""
        return self._locked and self._edited

    def show(self, item: Slice, labels: np.ndarray) -> None:
        """Put the slice into the view, and the case into the editor.

        Args:
            labels: what the slice begins with.

        Raises:
            ValueError: a transform of the volume is not linear.
        """
        view, volume = self._view(), self._case_nodes.volume(item.case)
        if view is not None:
            view.replaced = self.replaced
            view.show(volume, item.box)
        self._item, self._edited = item, True
        self.open(labels)

    def open(self, labels: np.ndarray | None = None) -> None:
        """Let the slice be painted on, with these labels or with what is there; nothing that was
        painted before can be undone.
        """
        item, canvas = self._item, self._case_nodes.canvas
        self._case_nodes.open(item.case, item.box, self.confined, labels)
        if self._edited:
            node, volume = self._case_nodes.edit(), canvas.case.volume
            self._editor.show(node, canvas.node, volume, self.confined)
            self._editor.forget()  # an undo would bring back the slice before
            self._frame()

    def _frame(self) -> None:
        """Draw the frame of a part; after the editor, which takes label maps out of the views."""
        view, item = self._view(), self._item
        if view is not None:
            view.frame(self._case_nodes.frame(item.case, item.box))

    def labels(self) -> np.ndarray:
        """What is painted in the slice: its box, (k, j, i)."""
        return self._case_nodes.canvas.labels

    def paint(self, labels: np.ndarray) -> None:
        """Replace what is painted in the slice; it can be undone.

        Raises:
            ValueError: not of the box's shape.
        """
        self._editor.remember()
        self._case_nodes.canvas.write(labels)

    def _follow(self) -> None:
        """The volume lies elsewhere now."""
        view, item = self._view(), self._item
        if view is not None and self._edited:
            view.show(self._case_nodes.volume(item.case), item.box)
            self._frame()

    def rest(self) -> None:
        """Nothing is painted on."""
        self._editor.rest()
        self._case_nodes.canvas.close()
        self._item, self._edited = None, False

    def leave(self) -> None:
        """Make view and painting as they were before the first slice; what somebody paints in the
        case's own node meanwhile counts.
        """
        self._editor.rest()
        self._edited = False
        if self._item is not None:
            self.open()
        if (view := self._view()) is not None:
            view.restore()

    def restore(self) -> None:
        """As `leave`, for good."""
        self.rest()
        if (view := self._view()) is not None:
            view.restore()

    def forget(self) -> None:
        """There is nothing to go back to: the scene closes."""
        self.rest()
        if (view := self._view()) is not None:
            view.forget()


def lost_failure(why: Lost, name: str) -> Failure:
    """Say what happened to a node."""
    words = {
        Lost.REMOVED: _("“{name}” was removed from the scene."),
        Lost.EMPTIED: _("“{name}” was removed from the scene, in whole or in part."),
        Lost.REPLACED: _("The voxels of “{name}” were replaced, or lie elsewhere now."),
        Lost.BENT: _("“{name}” was put under a transform that is not linear."),
    }
    what = words[why].format(name=name)
    message = _("{what} What you painted is kept.").format(what=what)
    return Failure("nodes", message, _("Go on with the slice."), about="show")
