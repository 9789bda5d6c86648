"""Whose a slice is: told to the others while somebody works on it, renewed, and given back."""

from __future__ import annotations

from collections.abc import Callable

from alunet.schema import Code
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.ports.protocols import Timer

LEASE_SECONDS = 300.0


class SliceLease:
    """The one slice that one person has. Without a connection nobody is told, and work goes on.

    Args:
        agent, timer: of the session.
        project: id.
        author: who has it.
        refused: gets the slice's number and why: somebody else has it.
    """

    def __init__(
        self,
        agent: AgentProcess,
        timer: Timer,
        project: str,
        author: str,
        refused: Callable[[int, Failure], None],
    ) -> None:
        self._agent, self._timer, self._project, self._author = agent, timer, project, author
        self._refused = refused
        self._sample: int | None = None
        self._stop: Callable[[], None] = lambda: None

    def take(self, sample: int) -> None:
        """Have a slice until another one is taken."""
        if self._sample != sample:
            self.give_back()
        self._sample = sample
        self._renew()

    def give_back(self) -> None:
        """Have none."""
        self._stop()
        if self._sample is not None:
            sample, self._sample = self._sample, None
            self._agent.ask("give_back", project=self._project, sample=sample, author=self._author)

    def _renew(self) -> None:
        sample = self._sample

        def failed(why: Failure) -> None:
            if why.code == Code.LEASED and sample is not None:
                self._refused(sample, why)

        self._stop()
        self._agent.ask(
            "lease",
            failed=failed,
            project=self._project,
            sample=sample,
            author=self._author,
            seconds=LEASE_SECONDS,
        )
        self._stop = self._timer.later(LEASE_SECONDS / 2, self._renew)
