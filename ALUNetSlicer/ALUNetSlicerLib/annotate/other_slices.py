"""What is painted in other slices than the one on screen, while painting is not confined to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from alunet.schema import Status
from ALUNetSlicerLib.annotate.drafts import Draft
from ALUNetSlicerLib.annotate.initial_labels import InitialLabels
from ALUNetSlicerLib.annotate.worklist import Slice, SliceWorklist
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.mrml.canvas import Canvas
from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation

Place = tuple[str, int, int]
"""Case, axis of the array (k, j, i), and number of the slice across it."""


class OtherSlices:
    """Paint in a listed slice is a draft of that slice; of paint in others is known where it is.

    Args:
        canvas: what the slice on screen is painted on.
        worklist, initial_labels: of the project.
        keep: keeps a draft.

    Attributes:
        further: slices in no worklist that were painted and are not handed in.
    """

    def __init__(
        self,
        canvas: Canvas,
        worklist: SliceWorklist,
        initial_labels: InitialLabels,
        keep: Callable[[Draft], None],
    ) -> None:
        self.further: dict[Place, None] = {}
        self._worklist, self._initial_labels, self._keep = worklist, initial_labels, keep
        self._canvas, self._strokes = canvas, 0
        self._item: Slice | None = None
        self._case: CaseSegmentation | None = None
        self._before: np.ndarray | None = None

    def watch(self, item: Slice) -> None:
        """Begin: what is in the case's node now is not paint of a person.

        Args:
            item: the slice on screen, which others keep.
        """
        self._item, self._case, self._strokes = item, self._canvas.case, self._canvas.strokes
        self._before = self._case.read_all()

    def stop(self) -> None:
        """Nothing is painted in other slices any more."""
        self._item = self._case = self._before = None

    def collect(self) -> bool:
        """Keep what was painted since; whether anything was."""
        case, strokes = self._case, self._canvas.strokes
        if case is None or strokes == self._strokes:
            return False
        if not (case.is_whole and case.is_on_grid):
            return False  # something in the node went: what is missing was not erased
        self._strokes = strokes
        now, before = case.read_all(), self._before
        if now.shape != before.shape:
            return False
        differs = now != before
        differs[self._item.box.slices] = False
        self._before = now
        if not differs.any():
            return False
        listed = [item for item in self._worklist if item.case == self._item.case]
        found = [(item, differs[item.box.slices].copy()) for item in listed]
        for item, painted in found:
            differs[item.box.slices] = False
            if painted.any():
                self._put(item, now[item.box.slices], painted)
        axis = self._item.box.axis
        for index in np.unique(np.nonzero(differs)[axis]):
            self.further[self._item.case, axis, int(index)] = None
        return True

    def _put(self, item: Slice, labels: np.ndarray, painted: np.ndarray) -> None:
        """Lay paint over what the slice begins with; what the engine has is not lost by it."""
        at, begun = time.time(), replace(item, status=Status.IN_PROGRESS)
        ready: list[bool] = []

        def take(base: int, start: np.ndarray) -> None:
            ready.append(True)
            self._keep(Draft(np.where(painted, labels, start), base, 0.0, begun, at))

        def failed(_why: Failure) -> None:
            """The engine cannot be asked: it will say that there is another version."""

        self._initial_labels.find(item, False, take, failed)
        if not ready:
            self._keep(Draft(labels.copy(), 0, 0.0, begun, at))
        if item.status == Status.TODO:
            self._worklist.change(item.sample, status=Status.IN_PROGRESS)
