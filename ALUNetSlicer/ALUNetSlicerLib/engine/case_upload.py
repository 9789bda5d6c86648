"""Upload volumes of the scene, or image files, as cases of a project."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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

ADDING = "add volumes"
"""What is tried where cases are made of volumes; see `Failure.about`."""
_SENDING = ("convert", "checksum", "upload")
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


@dataclass(frozen=True)
class UploadProgress:
    """How far the cases are.

    Attributes:
        number, count: of the first case that is on its way, and of all cases.
        news: how far that one is.
    """

    number: int
    count: int
    news: TransferNews


@dataclass
class _Case:
    """A case on its way.

    Attributes:
        title: of its volume, as the person knows it.
        made: files that were written for it.
        place: among all cases.
        imported: whether its files have arrived and the engine does the rest.
    """

    name: str
    title: str
    place: int
    volumes: list[Any]
    made: list[Path] = field(default_factory=list)
    imported: bool = False

    def named(self, text: str) -> str:
        """A text with the names of volumes in place of those of files on their way."""
        titles = [_title(volume) for volume in self.volumes]
        for file, title in zip(self.made, titles, strict=False):
            text = text.replace(str(file), title).replace(file.name, title)
        for number, title in enumerate(titles):
            stem = re.escape(f"{self.name}_{number:04d}")
            text = re.sub(rf"\b{stem}(\.\w+)*\b", lambda _found, title=title: title, text)
        return text


class CaseUpload:
    """Sends volumes to the engine, one after the other; the engine imports them meanwhile.

    One that fails keeps none of the others back.

    Args:
        agent: with an engine chosen.
        project: id.
        folder: for files on their way; each is removed when its case is there.
        local: gives how the engine on this computer is started, which reads DICOM.
    """

    def __init__(
        self,
        agent: AgentProcess,
        project: str,
        folder: Path,
        local: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._agent, self._project, self._folder, self._local = agent, project, folder, local
        self._queue: list[_Case] = []
        self._on_its_way: dict[int, _Case] = {}
        self._refused: list[tuple[str, Failure]] = []
        self._count = 0
        self._cancelled: Failure | None = None

    def send(
        self,
        cases: Sequence[tuple[str, Sequence[Any]]],
        arrived: Callable[[str], None],
        done: Callable[[], None],
        failed: Failed,
        told: Callable[[UploadProgress], None] = lambda news: None,
    ) -> None:
        """Make cases of volume nodes, or of image files and DICOM series.

        Of a volume or a series from DICOM the voxels and the UIDs are sent, and nothing else.

        Args:
            cases: name, and nodes or files, one a channel, of each.
            arrived: gets the name of every case that the engine has.
            done: called when all have arrived.
            failed: called once instead, when the others have: it names each volume that is no case
                and why.
            told: hears how far they are.
        """
        self._queue = [
            _Case(name, _title(volumes[0]), place, list(volumes))
            for place, (name, volumes) in enumerate(cases, 1)
        ]
        self._count, self._refused, self._cancelled = len(cases), [], None
        self._arrived, self._done, self._failed, self._told = arrived, done, failed, told
        self._agent.event.connect(self._hear)
        self._next()

    def cancel(self) -> None:
        """Stop; `failed` is called where something was on its way."""
        self._queue.clear()
        for number in list(self._on_its_way):
            self._agent.cancel(number)

    def _next(self) -> None:
        """Send the next case, where the one before has been sent; the end where there is none."""
        while self._queue and all(case.imported for case in self._on_its_way.values()):
            case = self._queue.pop(0)
            try:
                files = self._written(case)
            except OSError as error:
                hint = _("Free space there, then add the volume again.")
                self._refuse(case, Failure("disk", str(error), hint))
                continue
            except ValueError as error:
                self._refuse(case, Failure("volume", str(error), _("Choose another volume.")))
                continue
            self._ask(case, files)
        if not self._queue and not self._on_its_way:
            self._end()

    def _ask(self, case: _Case, files: list[str]) -> None:
        def taken(_info: CaseInfo) -> None:
            self._settle(case)
            self._arrived(case.name)
            self._next()

        def refused(why: Failure) -> None:
            self._settle(case)
            if why.code == "cancelled":
                self._cancelled = why
            else:
                self._refuse(case, why)
            self._next()

        given = {"project": self._project, "name": case.name, "images": files}
        given |= {"dicom": _uids(case.volumes), **self._local()}
        self._on_its_way[self._agent.ask("add_case", taken, refused, **given)] = case

    def _refuse(self, case: _Case, why: Failure) -> None:
        """Note why a case is none, in words that name volumes as the person does."""
        self._clear(case)
        said = replace(why, message=case.named(why.message), hint=case.named(why.hint))
        self._refused.append((case.title, said))

    def _written(self, case: _Case) -> list[str]:
        """The files of a case; volumes are written first."""
        files: list[str] = []
        for volume in case.volumes:
            if not isinstance(volume, Path):
                case.made.append(self._folder / f"{uuid4().hex}.nrrd")
                write_volume(volume, case.made[-1])
            files.append(str(volume if isinstance(volume, Path) else case.made[-1]))
        return files

    def _hear(self, event: object) -> None:
        if not isinstance(event, TransferNews) or event.id not in self._on_its_way:
            return
        case = self._on_its_way[event.id]
        first = min(self._on_its_way.values(), key=lambda other: other.place)
        if case is first:
            self._told(UploadProgress(case.place, self._count, event))
        if not case.imported and event.phase not in _SENDING:
            case.imported = True
            self._next()

    def _settle(self, case: _Case) -> None:
        self._on_its_way = {
            number: other for number, other in self._on_its_way.items() if other is not case
        }
        self._clear(case)

    def _end(self) -> None:
        self._agent.event.disconnect(self._hear)
        if self._refused:
            self._failed(_not_added(self._refused))
        elif self._cancelled is not None:
            self._failed(self._cancelled)
        else:
            self._agent.answered.emit(ADDING)
            self._done()

    @staticmethod
    def _clear(case: _Case) -> None:
        for file in case.made:
            with contextlib.suppress(OSError):
                # Windows keeps a file that a scanner reads; it is our own spool
                file.unlink(missing_ok=True)


def _title(volume: Any) -> str:
    """What a person knows a volume or a file by."""
    return volume.name if isinstance(volume, Path) else str(volume.GetName() or "")


def _not_added(refused: list[tuple[str, Failure]]) -> Failure:
    """Which volumes are no cases, by their names, and why; the same reason once."""
    reasons: dict[str, list[str]] = {}
    for title, why in refused:
        reasons.setdefault(str(why), []).append(f"'{title}'")
    lines = [f"{', '.join(titles)}: {why}" for why, titles in reasons.items()]
    words = _("Not added ({count}):").format(count=len(refused))
    return Failure("not_added", "\n".join([words, *lines]), about=ADDING)


def _uids(volumes: Sequence[Any]) -> dict[str, Any] | None:
    """UIDs of the one volume node of a case that Slicer loaded from DICOM."""
    if len(volumes) != 1 or isinstance(volumes[0], Path):
        return None
    found: DicomIdentity | None = identity_of(volumes[0])
    return None if found is None else to_json(found)
