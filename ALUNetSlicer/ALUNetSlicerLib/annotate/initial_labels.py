"""The labels that a slice begins with: its draft, else those handed in, else the model's
proposal, else none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from alunet.schema import NOT_ANNOTATED, Code, ProposalSource
from ALUNetSlicerLib.annotate.drafts import Drafts
from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.engine.messages import FetchedVoxels
from ALUNetSlicerLib.ports.i18n import tr as _

Then = Callable[[int, np.ndarray], None]
"""Gets the version that the labels correct, 0 for none, and the labels: (k, j, i) of the slice's
box.
"""


@dataclass(frozen=True)
class Origin:
    """Where a proposal comes from, and the Dice that is expected of it, where something says it."""

    source: ProposalSource
    quality: float | None


class InitialLabels:
    """The first labels of slices, asked for once; those of the slices to come are fetched before
    they are needed.

    Args:
        agent: with an engine chosen.
        drafts: of the project.
        project: id.

    Attributes:
        replaced: number of a removed structure -> what its voxels are now; drafts may hold it.
    """

    def __init__(self, agent: AgentProcess, drafts: Drafts, project: str) -> None:
        self._agent, self._drafts, self._project = agent, drafts, project
        self._labels: dict[int, tuple[int, np.ndarray]] = {}
        self._proposals: dict[int, np.ndarray] = {}
        self._before: dict[int, np.ndarray] = {}  # proposals of before a slice beside was drawn
        self._origins: dict[int, Origin] = {}
        self._age = 0
        self._case: dict[int, str] = {}  # of the samples that were asked for
        self._drawn: Counter[str] = Counter()  # slices handed in since, by case
        self.replaced: Mapping[str, int] = {}

    def find(self, item: Slice, proposals: bool, then: Then, failed: Failed) -> None:
        """Give what a slice begins with.

        Args:
            proposals: whether a slice without labels begins with the model's proposal.
            failed: called instead where labels that were handed in cannot be had.
        """
        self._case[item.sample] = item.case
        if (drafted := self.drafted(item)) is not None:
            then(*drafted)
        elif (held := self._newest(item)) is not None:
            then(*held)
        elif item.version:
            age = self._age

            def take(version: int, labels: np.ndarray) -> None:
                if (labels == NOT_ANNOTATED).all():  # they were taken back
                    self._begin(item, version, proposals, then, failed)
                    return
                if age == self._age and version > self._labels.get(item.sample, (-1, None))[0]:
                    self._labels[item.sample] = version, labels
                then(version, labels)

            self._fetch("annotation", item, take, failed)
        else:
            self._begin(item, 0, proposals, then, failed)

    def _newest(self, item: Slice) -> tuple[int, np.ndarray] | None:
        """The labels that are held of a slice, where the engine has none that are newer."""
        version, labels = self._labels.get(item.sample, (0, None))
        if labels is None or (item.sent and version < item.version):
            return None
        return version, labels

    def drafted(self, item: Slice) -> tuple[int, np.ndarray] | None:
        """The version that a slice's draft corrects, and its labels; None where it has none."""
        draft = self._drafts.find(item.sample)
        if draft is None or draft.labels.shape != item.box.shape:
            return None
        return draft.base, self.current(draft.labels)

    def _begin(
        self, item: Slice, version: int, proposals: bool, then: Then, failed: Failed
    ) -> None:
        """Give what a slice without labels begins with."""
        empty = np.zeros(item.box.shape, np.uint8)

        def without(why: Failure) -> None:
            then(version, empty)
            message = _("The slice begins empty, as the proposal cannot be fetched: {why}")
            failed(replace(why, message=message.format(why=why.message)))

        if proposals:
            self.proposal(item, lambda labels: then(version, labels), without)
        else:
            then(version, empty)

    def proposal(
        self,
        item: Slice,
        then: Callable[[np.ndarray], None],
        failed: Failed,
        source: ProposalSource | None = None,
    ) -> None:
        """Give the best proposal for a slice, or a source's; an empty one where there is none.

        Args:
            failed: called instead where it cannot be fetched.
        """
        age = self._age, self._drawn[item.case]

        def take(_version: int, labels: np.ndarray) -> None:
            if age == (self._age, self._drawn[item.case]) and source is None:
                self._proposals[item.sample] = labels
            then(labels)

        def nothing(why: Failure) -> None:
            if why.code in (Code.NOT_FOUND, Code.NOT_READY):
                take(0, np.zeros(item.box.shape, np.uint8))
            elif source is None and item.sample in self._before:
                then(self._before[item.sample])
            else:
                failed(why)

        if source is None and item.sample in self._proposals:
            then(self._proposals[item.sample])
        elif source is None:
            self._fetch("proposal", item, take, nothing)
        else:
            self._fetch("proposal", item, take, nothing, source=source.value)

    def origin(self, sample: int) -> Origin | None:
        """Where the proposal that was given last for a slice comes from; None for none."""
        return self._origins.get(sample)

    def current(self, labels: np.ndarray) -> np.ndarray:
        """Labels in which the voxels of removed structures are what the project made of them."""
        for number, now in self.replaced.items():
            labels = np.where(labels == int(number), np.asarray(now, labels.dtype), labels)
        return labels

    def forget(self) -> None:
        """Everything that the engine gave may have changed, also what is on its way."""
        self._labels.clear()
        self.drop_proposals()

    def knows(self, sample: int) -> bool:
        """Whether it need not be asked for."""
        return sample in self._labels or sample in self._proposals

    def hold(self, sample: int, base: int, labels: np.ndarray) -> None:
        """Labels that were handed in; until the engine has them they are here alone."""
        self._labels[sample] = base, labels
        self._outdate_proposals(sample)

    def rebase(self, sample: int, version: int) -> None:
        """What goes on from labels that were handed in goes on from the version they became.

        Raises:
            OSError: the draft cannot be kept.
        """
        if sample in self._labels:
            self._labels[sample] = version, self._labels[sample][1]
        self._outdate_proposals(sample)
        draft = self._drafts.find(sample)
        if draft is not None:
            self._drafts.keep(sample, replace(draft, base=version))

    def drop(self, sample: int) -> None:
        """Ask for its labels again when they are needed."""
        self._labels.pop(sample, None)

    def drop_proposals(self) -> None:
        """The model has made others, or a person asked it to."""
        self._age += 1
        self._proposals.clear()
        self._before.clear()

    def _outdate_proposals(self, sample: int) -> None:
        """A slice was drawn: ask again for those of its case; without a network these do."""
        case = self._case.get(sample, "")
        self._drawn[case] += 1
        for other in [other for other in self._proposals if self._case.get(other, "") == case]:
            self._before[other] = self._proposals.pop(other)

    def _fetch(self, call: str, item: Slice, then: Then, failed: Failed, **which: str) -> None:
        def take(answer: FetchedVoxels) -> None:
            try:
                labels = answer.read()
                if labels.shape != item.box.shape:
                    raise ValueError(_("they are of another shape than the slice"))
            except (OSError, ValueError) as error:
                message = _("The labels of {case} cannot be read: {why}.").format(
                    case=item.case, why=error
                )
                failed(Failure("spool", message, _("Show the slice again."), about=call))
                return
            if answer.source is not None:
                source = ProposalSource(answer.source)
                self._origins[item.sample] = Origin(source, answer.quality)
            then(answer.version, self.current(labels))

        self._agent.ask(call, take, failed, project=self._project, sample=item.sample, **which)
