"""Labels that a person takes back, or brings back, on the engine."""

from __future__ import annotations

from collections.abc import Callable

from alunet.schema import Status, TakenBack
from ALUNetSlicerLib.annotate.drafts import not_kept
from ALUNetSlicerLib.annotate.initial_labels import InitialLabels
from ALUNetSlicerLib.annotate.worklist import Slice, SliceWorklist
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.signal import Signal


class TakeBack:
    """Of one project and person.

    Args:
        agent: with an engine chosen.
        project: id.
        author: who takes back.
        worklist, initial_labels: of the project.

    Attributes:
        changed: emits nothing; the worklist changed.
        said: emits what follows, sentences for people.
        failed: emits a `Failure` for a person.
    """

    def __init__(
        self,
        agent: AgentProcess,
        project: str,
        author: str,
        worklist: SliceWorklist,
        initial_labels: InitialLabels,
    ) -> None:
        self.changed, self.said, self.failed = Signal(), Signal(), Signal()
        self._agent, self._about = agent, {"project": project, "author": author}
        self._worklist, self._initial_labels = worklist, initial_labels
        self._taken: dict[int, int] = {}

    def can_undo(self, item: Slice) -> bool:
        """Whether the labels of a slice were taken back here, and nothing came since."""
        return self._taken.get(item.sample) == item.version

    def missing(self, item: Slice) -> str:
        """What must be done before labels can be taken back; empty where they can."""
        if not item.sent:
            return _("Wait until the slice has arrived on the engine.")
        if item.status != Status.DONE and not self.can_undo(item):
            return _("Only a slice that is done can be taken back.")
        return ""

    def change(self, item: Slice, done: Callable[[int], None]) -> None:
        """Take labels back, or bring them back.

        Args:
            done: gets the version that the slice has then.
        """
        undo = self.can_undo(item)

        def take(answer: TakenBack) -> None:
            self._taken.pop(item.sample, None)
            if not undo:
                self._taken[item.sample] = answer.version
            self._worklist.change(item.sample, status=Status(answer.status), version=answer.version)
            self._rebase(item.sample, answer.version)
            self.changed.emit()
            if answer.says:
                self.said.emit(" ".join(answer.says))
            done(answer.version)

        base: dict[str, int] = {} if undo else {"base_version": item.version}
        self._agent.ask(
            "take_back",
            take,
            self.failed.emit,
            **self._about,
            sample=item.sample,
            undo=undo,
            **base,
        )

    def _rebase(self, sample: int, version: int) -> None:
        """What was painted and not handed in goes on from the version that the slice has now."""
        self._initial_labels.drop(sample)
        try:
            self._initial_labels.rebase(sample, version)
        except OSError as error:
            self.failed.emit(not_kept(error))
