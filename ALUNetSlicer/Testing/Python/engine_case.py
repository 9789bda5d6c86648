"""A real service, and a real agent that is connected to it, without the panel."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from engines import environment, serve, stop
from pump import PipeProcess, Pump, agent_command
from scenes import SceneTest

from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failure


class EngineCase(SceneTest):
    """Each test has its own."""

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.pump = Path(folder.name), Pump()
        service, address, token = serve(self.folder / "root")
        self.addCleanup(stop, service)
        self.agent = AgentProcess(
            PipeProcess(self.pump, agent_command(self.folder / "home"), environment()), self.pump
        )
        self.addCleanup(self.agent.close)
        self.agent.start()
        self.ask("connect", to=address, token=token)

    def answer(self, call: str, **args: Any) -> Any:
        """The result of a call, or its Failure."""
        answers: list = []
        self.agent.ask(call, answers.append, answers.append, **args)
        self.pump.until(lambda: answers)
        return answers[0]

    def ask(self, call: str, **args: Any) -> Any:
        """The result of a call that must not fail."""
        found = self.answer(call, **args)
        self.assertNotIsInstance(found, Failure, str(found))
        return found
