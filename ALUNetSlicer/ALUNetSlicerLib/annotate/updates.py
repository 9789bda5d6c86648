"""What the engine says of the worklist: asked for, or because another person changed it."""

from __future__ import annotations

from collections.abc import Callable

from alunet.schema import SampleState, WorkRow
from ALUNetSlicerLib.annotate.drafts import Drafts
from ALUNetSlicerLib.annotate.initial_labels import InitialLabels
from ALUNetSlicerLib.annotate.worklist import Slice, SliceWorklist
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.messages import CaseNews, NewsKind, ProjectNews
from ALUNetSlicerLib.ports.signal import Signal


class Updates:
    """Keeps the worklist of one project as the engine has it.

    Args:
        agent: with an engine chosen; the project must be followed.
        project: id.
        author: for whom; what others have is not theirs.
        worklist, drafts, initial_labels: of the project.

    Attributes:
        changed: emits nothing; the worklist changed.
        erased: emits the samples of a case that was erased, before their drafts are dropped.
        failed: emits a `Failure` for a person to read.
    """

    def __init__(
        self,
        agent: AgentProcess,
        project: str,
        author: str,
        worklist: SliceWorklist,
        drafts: Drafts,
        initial_labels: InitialLabels,
    ) -> None:
        self.changed, self.erased, self.failed = Signal(), Signal(), Signal()
        self._agent, self._project, self._author = agent, project, author
        self._worklist, self._drafts, self._initial_labels = worklist, drafts, initial_labels
        self._asked = self._taken = 0
        self._closed = False
        agent.event.connect(self._hear)

    def refresh(self, done: Callable[[], None] = lambda: None) -> None:
        """Ask for the worklist; `done` is called when it is there, unless this was closed."""
        self._asked += 1
        number, since = self._asked, self._worklist.changes

        def take(rows: list[WorkRow]) -> None:
            if self._closed:
                return
            if number > self._taken:  # else a newer answer was faster
                self._taken = number
                self._fill(rows, since)
            done()

        self._agent.ask("worklist", take, self.failed.emit, project=self._project)

    def _fill(self, rows: list[WorkRow], since: int) -> None:
        before = self._worklist.round
        items = [Slice.of_row(row, self._author) for row in rows]
        self._worklist.fill(self._drafts.mark(items), since)
        if self._worklist.round != before:
            self._initial_labels.drop_proposals()
        self.changed.emit()

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        self._agent.event.disconnect(self._hear)

    def _hear(self, event: object) -> None:
        if not isinstance(event, ProjectNews) or event.project != self._project:
            return
        if isinstance(event.content, SampleState):
            self._stored(event.content)
        elif isinstance(event.content, CaseNews):
            self._case_changed(event.content)
        elif event.kind in (NewsKind.WORKLIST, NewsKind.GAP):
            self.refresh()  # another person chose a slice

    def _case_changed(self, news: CaseNews) -> None:
        """A case came or went; nothing of an erased one stays on this computer."""
        self.erased.emit(news.samples)
        for sample in news.samples:
            self._drafts.drop(sample)
            self._initial_labels.drop(sample)
        self.refresh()

    def _stored(self, state: SampleState) -> None:
        """The engine has stored a sample; of what is on its way from here the outbox tells."""
        known = self._worklist.find(state.sample)
        # an answer to this person's own request may have told of a later one already
        if known is not None and known.sent and state.version >= known.version:
            self._worklist.change(state.sample, status=state.status, version=state.version)
            self._initial_labels.drop(state.sample)
            self.changed.emit()
