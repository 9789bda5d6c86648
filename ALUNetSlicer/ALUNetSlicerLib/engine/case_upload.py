"""Upload volumes of the scene, or image files, as cases of a project."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from alunet.schema import CaseInfo, DicomIdentity, to_json
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.engine.messages import TransferNews
from ALUNetSlicerLib.mrml.dicom_source import identity_of
from ALUNetSlicerLib.mrml.volume_file import write_volume
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.signal import Signal

_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")


def case_name(volume: Any, taken: Sequence[str]) -> str:
    """A name for the case of a volume node: letters, digits, ``_`` and ``-``, and none of those
    taken.

    The node's name is what a person sees; one that comes from DICOM may name a patient, and is
    asked about elsewhere.
    """
    return free_name(volume.GetName() or "", taken)


def free_name(text: str, taken: Sequence[str]) -> str:
    """A name for a case, of letters, digits, ``_`` and ``-``, that is none of those taken."""
    name = _FOREIGN.sub("_", text).strip("_-") or "case"
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


class CaseUpload:
    """Sends volumes to the engine, one case after the other; what arrived stays when one fails.

    Args:
        agent: with an engine chosen.
        project: id.
        folder: for files on their way; each is removed when it has arrived.
        local: gives how the engine on this computer is started, which reads DICOM.

    Attributes:
        progress: emits how much of the file on its way was sent, from 0 to 1.
    """

    def __init__(
        self,
        agent: AgentProcess,
        project: str,
        folder: Path,
        local: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._agent, self._project, self._folder, self._local = agent, project, folder, local
        self.progress = Signal()
        self._queue: list[tuple[str, list[Any]]] = []
        self._asked: int | None = None

    def send(
        self,
        cases: Sequence[tuple[str, Sequence[Any]]],
        arrived: Callable[[str], None],
        done: Callable[[], None],
        failed: Failed,
    ) -> None:
        """Make cases of volume nodes, or of image files and DICOM series.

        Of a volume or a series from DICOM the voxels and the UIDs are sent, and nothing else.

        Args:
            cases: name, and nodes or files, one a channel, of each.
            arrived: gets the name of every case that the engine has.
            done: called when all have arrived.
            failed: called once instead; the rest is not sent.
        """
        self._queue = [(name, list(volumes)) for name, volumes in cases]
        self._agent.event.connect(self._hear)
        self._next(arrived, done, failed)

    def cancel(self) -> None:
        """Stop; `failed` is called where something was on its way."""
        self._queue.clear()
        if self._asked is not None:
            self._agent.cancel(self._asked)

    def _next(
        self, arrived: Callable[[str], None], done: Callable[[], None], failed: Failed
    ) -> None:
        if not self._queue:
            self._agent.event.disconnect(self._hear)
            done()
            return
        name, volumes = self._queue.pop(0)
        files: list[Path] = []
        made: list[Path] = []

        def taken(_case: CaseInfo) -> None:
            self._clear(made)
            arrived(name)
            self._next(arrived, done, failed)

        def refused(why: Failure) -> None:
            self._clear(made)
            self._queue.clear()
            self._agent.event.disconnect(self._hear)
            failed(why)

        try:
            for volume in volumes:
                if isinstance(volume, Path):
                    files.append(volume)
                    continue
                files.append(self._folder / f"{uuid4().hex}.nrrd")
                made.append(files[-1])
                write_volume(volume, files[-1])
        except OSError as error:
            refused(Failure("disk", str(error), _("Free space there, then add the volumes again.")))
            return
        self._asked = self._agent.ask(
            "add_case",
            taken,
            refused,
            project=self._project,
            name=name,
            images=[str(file) for file in files],
            dicom=_uids(volumes),
            **self._local(),
        )

    def _hear(self, event: object) -> None:
        if isinstance(event, TransferNews) and (event.id, event.phase) == (self._asked, "upload"):
            self.progress.emit(event.done / max(1, event.total))

    def _clear(self, files: list[Path]) -> None:
        self._asked = None
        for file in files:
            with contextlib.suppress(OSError):
                # Windows keeps a file that a scanner reads; it is our own spool
                file.unlink(missing_ok=True)


def _uids(volumes: Sequence[Any]) -> dict[str, Any] | None:
    """UIDs of the one volume node of a case that Slicer loaded from DICOM."""
    if len(volumes) != 1 or isinstance(volumes[0], Path):
        return None
    found: DicomIdentity | None = identity_of(volumes[0])
    return None if found is None else to_json(found)
