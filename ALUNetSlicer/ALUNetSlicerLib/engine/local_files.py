"""The person's own files, read and written by the engine on this computer, wherever the project
is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alunet.schema import FolderListing
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Done, Failed, Failure
from ALUNetSlicerLib.engine.messages import TransferNews
from ALUNetSlicerLib.engine.place import EnginePlace
from ALUNetSlicerLib.ports.i18n import tr as _


class LocalFiles:
    """Lists folders, and says how the engine on this computer is started.

    Args:
        agent: of the viewer.
        place: gives the engine on this computer; without variables where it is not installed.
    """

    def __init__(self, agent: AgentProcess, place: Callable[[], EnginePlace]) -> None:
        self._agent, self._place = agent, place
        self._asked: int | None = None
        self._looked: Callable[[int], None] = lambda done: None

    def args(self) -> dict[str, Any]:
        """As the agent's calls take it that read or write the person's files."""
        place = self._place()
        return {"local_python": place.python, "local_environment": place.environment}

    @property
    def missing(self) -> Failure | None:
        """Why files cannot be read and written; None where they can."""
        if self._place().environment is not None:
            return None
        words = _("Reading folders and DICOM needs the engine on this computer.")
        return Failure(
            "no_engine", words, _("Install it in the section Engine."), about="read_folder"
        )

    def read_folder(
        self,
        folder: Path,
        channels: int,
        series: str,
        looked: Callable[[int], None],
        done: Callable[[FolderListing], None],
        failed: Failed,
    ) -> None:
        """List the cases that a folder makes, as the engine's own commands take it.

        Args:
            channels: of a case.
            series: which DICOM series of an examination; empty to be asked.
            looked: gets how many files were looked at.
        """
        if (why := self.missing) is not None:
            failed(why)
            return
        self._looked = looked
        self._agent.event.connect(self._hear)
        self._asked = self._agent.ask(
            "read_folder",
            self._ended(done),
            self._ended(failed),
            folder=str(folder),
            channels=channels,
            series=series,
            **self.args(),
        )

    def cancel(self) -> None:
        """Stop reading; `failed` is called."""
        if self._asked is not None:
            self._agent.cancel(self._asked)

    def _ended(self, tell: Done) -> Done:
        def end(answer: Any) -> None:
            self._asked = None
            self._agent.event.disconnect(self._hear)
            tell(answer)

        return end

    def _hear(self, event: object) -> None:
        if isinstance(event, TransferNews) and event.id == self._asked:
            self._looked(event.done)
