"""What was handed in and the engine did not take: it stays in the agent's outbox until a person
decides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.engine.messages import OutboxEntry, OutboxNews, OutboxState, RefusedLabels
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.signal import Signal

_ABOUT = "outbox"


class OutboxRefusals:
    """The refused entries of one engine, of all its projects.

    Args:
        agent: of the viewer.

    Attributes:
        entries: in the order they were made.
        changed: emits nothing; `entries` is new.
        failed: emits a `Failure` for a person.
    """

    def __init__(self, agent: AgentProcess) -> None:
        self.entries: list[OutboxEntry] = []
        self.changed, self.failed = Signal(), Signal()
        self._agent = agent
        self._opened: dict[tuple[str, int], str] = {}
        agent.event.connect(self._hear)

    def refresh(self) -> None:
        """Ask the agent, which needs no engine for that."""
        self._agent.ask("waiting", self._take)

    def of(self, project: str) -> list[OutboxEntry]:
        """Those of a project."""
        return [entry for entry in self.entries if entry.project == project]

    def send_again(self, key: str) -> None:
        """Let the engine decide once more."""
        self._agent.ask("retry", lambda _answer: self.refresh(), self.failed.emit, key=key)

    def discard(self, key: str) -> None:
        """Forget an entry for good."""
        self._agent.ask("discard", lambda _answer: self.refresh(), self.failed.emit, key=key)

    def labels(self, entry: OutboxEntry, done: Callable[[np.ndarray, RefusedLabels], bool]) -> None:
        """Give the labels of an entry. When its slice was handed in again, and taken, it is
        forgotten.

        Args:
            done: says whether the slice goes on from these labels.
        """

        def take(found: RefusedLabels) -> None:
            try:
                labels = found.read()
            except (OSError, ValueError) as error:
                message = _("The labels cannot be read: {why}.").format(why=error)
                self.failed.emit(Failure("spool", message, about="refused_labels"))
                return
            if done(labels, found):
                self._opened[entry.project, entry.sample] = entry.key

        self._agent.ask("refused_labels", take, self.failed.emit, key=entry.key)

    def close(self) -> None:
        """Stop listening."""
        self._agent.event.disconnect(self._hear)

    def _take(self, rows: list[OutboxEntry]) -> None:
        before = self.entries
        self.entries = [row for row in rows if row.state == OutboxState.REFUSED]
        if not self.entries:
            self._agent.answered.emit(_ABOUT)
        elif self.entries != before:
            self.failed.emit(self._why())
        self.changed.emit()

    def _why(self) -> Failure:
        newest = self.entries[-1]
        words = _("Not taken by the engine ({count}): {why}")
        why = newest.why.message if newest.why is not None else _("it gave no reason.")
        hint = _("They are kept: see Annotate.")
        return Failure(
            "refused", words.format(count=len(self.entries), why=why), hint, about=_ABOUT
        )

    def _hear(self, event: object) -> None:
        if not isinstance(event, OutboxNews) or event.state == OutboxState.WAITING:
            return
        opened = event.project, event.sample
        if event.stored is not None and event.annotation and opened in self._opened:
            self.discard(self._opened.pop(opened))
        elif event.state == OutboxState.REFUSED or self.entries:
            self.refresh()
