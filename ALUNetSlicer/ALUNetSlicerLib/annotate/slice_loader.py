"""What a slice is shown with: the volume of its case, in the scene, and the labels that it begins
with.
"""

from __future__ import annotations

from functools import partial

from ALUNetSlicerLib.annotate.case_volumes import CaseVolumes
from ALUNetSlicerLib.annotate.initial_labels import InitialLabels, Then
from ALUNetSlicerLib.annotate.worklist import Slice, SliceWorklist
from ALUNetSlicerLib.engine.failure import Failed


class SliceLoader:
    """Gives both together; of several slices that are asked for the last counts.

    Args:
        volumes, initial_labels, worklist: of the project.
        failed: gets why a slice cannot be had.

    Attributes:
        proposals: whether a slice begins with the model's proposal.
        wanted: number of the slice that is to be shown, or is; None where none is.
    """

    def __init__(
        self,
        volumes: CaseVolumes,
        initial_labels: InitialLabels,
        worklist: SliceWorklist,
        failed: Failed,
    ) -> None:
        self.proposals = True
        self.wanted: int | None = None
        self._left: int | None = None
        self._volumes, self._initial_labels = volumes, initial_labels
        self._worklist, self._failed = worklist, failed

    def load(self, item: Slice, then: Then) -> None:
        """Give what a slice begins with, unless the person went on meanwhile."""

        def take(base: int, labels: object) -> None:
            if self.wanted == item.sample:
                then(base, labels)

        self._begin(item, take, self._failed)

    def load_after(self, item: Slice) -> None:
        """Have the next slice that is to be done at hand before it is asked for."""
        coming = self._worklist.next_open(item.rank)
        known = coming is None or self._initial_labels.knows(coming.sample)
        if known or coming.sample == item.sample:
            return

        def ignore(*_values: object) -> None:
            """It is only made ready."""

        self._begin(coming, ignore, ignore)

    def leave(self) -> None:
        """The person does something else: what comes meanwhile is not shown."""
        if self.wanted is not None:
            self._left, self.wanted = self.wanted, None

    def come_back(self) -> int | None:
        """The slice that was wanted when the person left, or has been since; None for none."""
        left, self._left = self._left, None
        return left if self.wanted is None else self.wanted

    def forget(self) -> None:
        """No slice is wanted."""
        self.wanted = self._left = None

    def _begin(self, item: Slice, then: Then, failed: Failed) -> None:
        find = partial(self._initial_labels.find, item, self.proposals, then, failed)
        self._volumes.load(item.case, lambda _volume: find())
