"""The volumes of cases: in the scene, or fetched from the engine when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.engine.messages import FetchedFile
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.ports.i18n import tr as _


class CaseVolumes:
    """The volume nodes of one project's cases.

    Args:
        agent: with an engine chosen.
        project: id.
        case_nodes: of the project.
        failed: gets why a volume cannot be had.
    """

    def __init__(
        self, agent: AgentProcess, project: str, case_nodes: CaseNodes, failed: Failed
    ) -> None:
        self._agent, self._project = agent, project
        self._case_nodes, self._failed = case_nodes, failed

    def load(self, case: str, then: Callable[[Any], None]) -> None:
        """Give the volume node of a case; it is fetched where the scene has none."""
        if self._case_nodes.volume(case) is not None:
            then(self._case_nodes.volume(case))
            return

        def loaded(answer: FetchedFile) -> None:
            try:
                if self._case_nodes.volume(case) is None:
                    self._case_nodes.load(case, Path(answer.file))
            except ValueError as error:
                self._failed(Failure("image", str(error), _("Fetch it again."), about="fetch"))
                return
            then(self._case_nodes.volume(case))

        self._agent.ask(
            "fetch",
            loaded,
            self._failed,
            project=self._project,
            case=case,
            what="images/0",
            format="nrrd",
        )
