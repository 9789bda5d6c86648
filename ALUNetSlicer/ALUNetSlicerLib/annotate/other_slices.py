"""What is painted in other slices than the one on screen, while painting is not confined to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from alunet.schema import Status
from ALUNetSlicerLib.annotate.drafts import Draft
from ALUNetSlicerLib.annotate.initial_labels import InitialLabels
from ALUNetSlicerLib.annotate.submissions import Submissions
from ALUNetSlicerLib.annotate.worklist import Slice, SliceWorklist
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation

Place = tuple[str, int, int]
"""Case, axis of the array (k, j, i), and number of the slice across it."""


@dataclass
class _Paint:
    """What was painted in a slice whose own labels are on their way.

    Attributes:
        labels: of the slice's box; those count that are `painted`.
        after: what is done when both are its draft.
    """

    labels: np.ndarray
    painted: np.ndarray
    at: float
    after: list[Callable[[], None]] = field(default_factory=list)

    def add(self, labels: np.ndarray, painted: np.ndarray, at: float) -> None:
        """More was painted."""
        self.labels = np.where(painted, labels, self.labels)
        self.painted, self.at = self.painted | painted, at


class OtherSlices:
    """Paint in a listed slice is a draft of that slice; of paint in others is known where it is.

    Args:
        case_nodes, worklist, initial_labels, submissions: of the project.

    Attributes:
        further: slices in no worklist that were painted, and nobody was asked about.
    """

    def __init__(
        self,
        case_nodes: CaseNodes,
        worklist: SliceWorklist,
        initial_labels: InitialLabels,
        submissions: Submissions,
    ) -> None:
        self.further: dict[Place, None] = {}
        self._case_nodes, self._canvas, self._strokes = case_nodes, case_nodes.canvas, 0
        self._worklist, self._initial_labels = worklist, initial_labels
        self._submissions = submissions
        self._waiting: dict[int, _Paint] = {}
        self._item: Slice | None = None
        self._case: CaseSegmentation | None = None
        self._before: np.ndarray | None = None

    def keep(self, draft: Draft) -> None:
        """Keep a draft, and let the scene say that the slice is begun."""
        self._submissions.keep(draft)
        self._case_nodes.begin(draft.item.case, draft.item.sample, draft.base, draft.at)

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

    def all_of(self, case: str) -> np.ndarray:
        """What the scene has of a case, (k, j, i) of its volume."""
        return self._case_nodes.segmentation(case).read_all()

    def hand_in(self, item: Slice, painted: np.ndarray) -> None:
        """Hand in a slice that was painted before it was in the worklist. One with labels on the
        engine becomes a draft that goes on from them.

        Args:
            painted: of the whole case; see `all_of`.
        """
        labels = painted[item.box.slices].copy()
        if not labels.any():
            return
        if self._worklist.find(item.sample) is None:
            self._worklist.fill([*self._worklist, item])
        if item.version:
            self._put(item, labels, labels > 0)
        else:
            draft = Draft(labels, 0, 0.0, item, time.time())
            end = partial(self._case_nodes.end, item.case, item.sample)
            self._submissions.hand_in(draft, end)

    def keep_paint(self, item: Slice, painted: np.ndarray) -> None:
        """As `hand_in` where the project was closed meanwhile: it is a draft, for the next time."""
        labels = painted[item.box.slices].copy()
        if labels.any():
            begun = replace(item, status=Status.IN_PROGRESS)
            # the engine refuses it as a whole where it has labels of the slice
            self._submissions.keep(Draft(labels, 0, 0.0, begun, time.time()))

    def take_further(self) -> list[Place]:
        """Give `further`, once: who is asked and does not want them has them in the scene."""
        found, self.further = list(self.further), {}
        return found

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
        if item.sample in self._waiting:  # one answer for both
            self._waiting[item.sample].add(labels, painted, at)
        else:
            self._waiting[item.sample] = _Paint(labels.copy(), painted, at)
            self._find(begun)
        if item.sample in self._waiting:
            self.keep(Draft(labels.copy(), 0, 0.0, begun, at))

    def _find(self, item: Slice) -> None:
        """Ask for what a slice begins with, and lay over it what was painted until it is there."""

        def take(base: int, start: np.ndarray) -> None:
            known = self._waiting.pop(item.sample)
            labels = np.where(known.painted, known.labels, start)
            self.keep(Draft(labels, base, 0.0, item, known.at))
            go_on(known)

        def failed(_why: Failure) -> None:
            # the engine cannot be asked: it will refuse the draft, and say that it has labels
            go_on(self._waiting.pop(item.sample))

        def go_on(known: _Paint) -> None:
            for action in known.after:
                action()

        self._initial_labels.find(item, False, take, failed)

    def after(self, sample: int, action: Callable[[], None]) -> None:
        """Do something when what was painted in a slice is its draft."""
        if sample in self._waiting:
            self._waiting[sample].after.append(action)
        else:
            action()
