"""Answers of a real agent that come as late, and in the order, that a test wants."""

from __future__ import annotations

from functools import partial

from ALUNetSlicerLib.engine.agent_process import AgentProcess


class HeldAnswers(list):
    """The answers to some calls, held back until each is called, or all are let go.

    Args:
        agent: that answers.
        calls: names.
    """

    def __init__(self, agent: AgentProcess, *calls: str) -> None:
        super().__init__()
        self._agent, self._calls, self._tell = agent, calls, agent._answer
        agent._answer = self._take

    def _take(self, request, message) -> None:
        tell = partial(self._tell, request, message)
        self.append(tell) if request.call in self._calls else tell()

    def let_go(self, backwards: bool = False) -> None:
        """Tell all that are held, and hold none any more."""
        self._agent._answer = self._tell
        for tell in reversed(self) if backwards else self:
            tell()
