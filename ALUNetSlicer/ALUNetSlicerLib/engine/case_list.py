"""The cases of a project as the engine has them, and what a person changes of them."""

from __future__ import annotations

from collections.abc import Callable

from alunet.schema import CaseInfo, ChangedCase
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.engine.messages import NewsKind, ProjectNews
from ALUNetSlicerLib.ports.signal import Signal


class CaseList:
    """Of one project.

    Args:
        agent: with an engine chosen; the project must be followed.
        project: id.
        author: who changes something here.

    Attributes:
        cases: by name, also those that were removed.
        changed: emits nothing; a case was removed or restored, has another role, or is erased.
        listed: emits nothing; `cases` is new.
        failed: emits a `Failure` for a person.
    """

    def __init__(self, agent: AgentProcess, project: str, author: str) -> None:
        self.cases: list[CaseInfo] = []
        self.changed, self.listed, self.failed = Signal(), Signal(), Signal()
        self._agent, self._project, self._author = agent, project, author
        agent.event.connect(self._hear)

    def refresh(self) -> None:
        """Ask for the cases."""

        def take(cases: list[CaseInfo]) -> None:
            self.cases = cases
            self.listed.emit()

        self._agent.ask("cases", take, self.failed.emit, project=self._project)

    def change(self, name: str, done: Callable[[list[str]], None], **change: str) -> None:
        """Change a case.

        Args:
            done: gets what follows, sentences for people.
            change: see `CaseChange` of the schema.
        """
        self._ask("change_case", name, done, self.failed.emit, **change)

    def erase(self, name: str, done: Callable[[list[str]], None]) -> None:
        """Erase a case for good; see `change`."""
        self._ask("erase_case", name, done, self.failed.emit)

    def close(self) -> None:
        """Stop listening."""
        self._agent.event.disconnect(self._hear)

    def _ask(
        self,
        call: str,
        name: str,
        done: Callable[[list[str]], None],
        failed: Failed,
        **change: str,
    ) -> None:
        def take(answer: ChangedCase) -> None:
            done(answer.says)

        def refused(why: Failure) -> None:
            self.refresh()  # it may be another person's change that is in the way
            failed(why)

        about = {"project": self._project, "case": name, "author": self._author}
        self._agent.ask(call, take, refused, **about, **change)

    def _hear(self, event: object) -> None:
        own = isinstance(event, ProjectNews) and event.project == self._project
        if own and event.kind in (NewsKind.CASE, NewsKind.GAP):
            self.refresh()
            self.changed.emit()
