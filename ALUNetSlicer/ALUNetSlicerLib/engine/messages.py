"""What the agent says, as types: those of `alunet.schema`, and its own where the schema has none.

What comes in becomes one of them here, once; nothing behind this file reads JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from alunet.schema import (
    OPERATIONS,
    TILE,
    CaseInfo,
    FolderListing,
    Health,
    JobKind,
    JobState,
    NumberedEvent,
    ProjectInfo,
    SampleState,
    Voxels,
    WrittenSegmentations,
    from_json,
)
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.ports.i18n import tr as _


class NewsKind(str, Enum):
    """Kinds of a project's events that are read here."""

    SAMPLE = "sample"
    WORKLIST = "worklist"
    STRUCTURES = "structures"
    CASE = "case"
    GAP = "gap"  # what happened before was forgotten, so everything is asked for again
    JOB = "job"
    PROGRESS = "progress"
    EPOCH = "epoch"
    STEP = "step"


@dataclass(frozen=True)
class RoundStatus:
    """A round, as the status of its project has it.

    Attributes:
        train_seconds: how long its training took; None where there was none yet.
    """

    state: str = ""
    train_seconds: float | None = None

    @property
    def finished(self) -> bool:
        """Whether it has a model."""
        return self.state == "finished"


@dataclass(frozen=True)
class RoundForecast:
    """Seconds that the parts of the next round will take, with the usual strategy.

    Attributes:
        quicker: a strategy that takes less than half as long to choose; empty where there is none.
        quicker_seconds: that it takes to choose.
    """

    training: float
    testing: float
    choosing: float
    proposals: float
    strategy: str
    quicker: str = ""
    quicker_seconds: float = 0.0


@dataclass(frozen=True)
class ProjectStatus:
    """What is read here of the status of a project.

    Attributes:
        cases, test_cases: names of the cases to learn from, and of those to evaluate on.
        removed: names of the cases that were removed.
        labelled, slices: samples and distinct slices with a label.
        unit: what people are asked for, one of `UNITS`.
        minutes: that people spent.
        train_for: seconds that a round's training may take; None where it has a number of steps.
        forecast: of the next round; None where that is not known yet.
    """

    cases: list[str] = field(default_factory=list)
    test_cases: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    labelled: int = 0
    slices: int = 0
    unit: str = TILE
    minutes: float = 0.0
    train_for: float | None = None
    forecast: RoundForecast | None = None
    rounds: list[RoundStatus] = field(default_factory=list)


@dataclass(frozen=True)
class ProjectWithStatus(ProjectInfo):
    """A project with its status; one of a list has an empty one."""

    status: ProjectStatus = field(default_factory=ProjectStatus)


@dataclass(frozen=True)
class FetchedFile:
    """A file that was fetched into the agent's spool folder."""

    file: str


@dataclass(frozen=True)
class FetchedVoxels:
    """Voxels of a sample without header, in (k, j, i) order.

    Attributes:
        version: of the labels, or the round of the model.
        source: of a proposal, where it comes from.
        quality: of a proposal, its expected Dice.
    """

    file: str
    shape: list[int]
    dtype: str
    version: int
    source: str | None = None
    quality: float | None = None

    def read(self) -> np.ndarray:
        """The voxels; raises OSError or ValueError where the file is gone or not of this shape."""
        return np.fromfile(self.file, self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class RefusedLabels(FetchedVoxels):
    """Labels that were handed in and not taken; `version` is that which they correct."""

    seconds: float = 0.0


class OutboxState(str, Enum):
    """How something stands that was handed in."""

    WAITING = "waiting"
    SENT = "sent"
    CONFLICT = "conflict"
    REFUSED = "refused"


@dataclass(frozen=True)
class OutboxEntry:
    """Something that was handed in and that the engine has not taken yet.

    Attributes:
        key: of the entry.
        annotation: whether it has voxels; else it is a status alone.
        time: when it was handed in, seconds since the epoch.
        answer: what the engine said last; see `why`.
    """

    key: str
    project: str
    sample: int
    state: OutboxState
    annotation: bool
    time: float
    answer: dict[str, Any] | None = None

    @property
    def why(self) -> Failure | None:
        """Why the engine did not take it."""
        try:
            return None if self.answer is None else from_json(Failure, self.answer)
        except ValueError:
            return None


@dataclass(frozen=True)
class ConnectionStep:
    """What one step of a connection test found, and what to do."""

    name: str
    ok: bool
    text: str
    hint: str = ""


@dataclass(frozen=True)
class ConnectionNews:
    """The agent reaches its engine or does not.

    Attributes:
        state: "online", with the engine's health, or "offline", with the reason.
    """

    state: str
    health: Health | None = None
    error: Failure | None = None


@dataclass(frozen=True)
class OutboxNews:
    """What became of something that was handed in.

    Attributes:
        state: "sent", "conflict", "refused" or "waiting".
        annotation: whether it has voxels; else it is a status alone.
        stored: what the engine has on disk, where it was sent.
        error: why it was refused, or with what it was in conflict.
    """

    project: str
    sample: int
    state: str
    annotation: bool
    stored: SampleState | None = None
    error: Failure | None = None


@dataclass(frozen=True)
class TransferNews:
    """How far a call that moves files is.

    Attributes:
        id: number of the call.
        phase: "checksum", "upload" or "download", of bytes; "wait", "check" or "import"
            of a case that the engine imports.
        seconds_left: of the phase.
        waiting: what it waits for, in words.
    """

    id: int
    phase: str
    done: float
    total: float
    seconds_left: float | None = None
    waiting: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a phase of a job is."""

    phase: str
    done: float
    total: float | None = None
    unit: str | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class Epoch:
    """How far a training is, and the Dice of its last epoch."""

    epoch: float
    epochs: float
    dice: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class StepNews:
    """A step of a job: "started", "finished" or "reused"."""

    name: str
    state: str


@dataclass(frozen=True)
class JobNews:
    """The state of a job has changed.

    Attributes:
        waiting: whom a queued job waits for, in words.
    """

    kind: JobKind
    state: JobState
    waiting: str = ""


@dataclass(frozen=True)
class CaseNews:
    """A case was removed, restored or erased, or has another role.

    Attributes:
        state: "present", "removed" or "erased"; empty where the role changed.
        samples: of an erased case.
    """

    case: str
    state: str = ""
    samples: list[int] = field(default_factory=list)


News = SampleState | CaseNews | JobNews | Progress | Epoch | StepNews
"""What an event of a project may say."""


@dataclass(frozen=True)
class ProjectNews:
    """An event of a project that is followed.

    Attributes:
        number: of the event.
        kind: see `NewsKind`; others, too.
        job: that it belongs to; None for none.
        content: what it says, where that is read here.
    """

    project: str
    number: int
    kind: str
    job: int | None = None
    content: News | None = None


@dataclass(frozen=True)
class _Followed:
    project: str


@dataclass(frozen=True)
class _OfJob:
    job: int | None = None


_THROUGH_THE_OUTBOX = ("set_status",)
"""Operations whose call is answered by the agent, when its disk has them."""
ANSWERS: dict[str, Any] = {
    **{
        name: FetchedVoxels if operation.answer is Voxels else operation.answer
        for name, operation in OPERATIONS.items()
        if operation.plain or operation.answer is Voxels
        if name not in _THROUGH_THE_OUTBOX
    },
    "add_case": CaseInfo,
    "create_project": ProjectWithStatus,
    "project": ProjectWithStatus,
    "projects": list[ProjectWithStatus],
    "fetch": FetchedFile,
    "fetch_result": FetchedFile,
    "read_folder": FolderListing,
    "write_segmentations": WrittenSegmentations,
    "test": list[ConnectionStep],
    "waiting": list[OutboxEntry],
    "refused_labels": RefusedLabels,
}
"""Call -> type of its answer; the answers of other calls are not read."""
_CONTENTS: dict[str, Any] = {
    NewsKind.SAMPLE: SampleState,
    NewsKind.CASE: CaseNews,
    NewsKind.JOB: JobNews,
    NewsKind.PROGRESS: Progress,
    NewsKind.EPOCH: Epoch,
    NewsKind.STEP: StepNews,
}


def read_answer(call: str, content: Any) -> Any:
    """The answer to a call; raises ValueError where it is of another type."""
    return from_json(ANSWERS[call], content) if call in ANSWERS else content


def read_event(
    message: dict[str, Any],
) -> ConnectionNews | OutboxNews | ProjectNews | TransferNews | None:
    """An event of the agent; None for one that is not read here.

    Raises:
        ValueError: it does not hold what such an event holds.
    """
    kind = message["event"]
    if kind == "connection":
        return from_json(ConnectionNews, message)
    if kind == "outbox":
        sent, answer = message.get("state") == "sent", message.get("answer")
        part = {"stored" if sent else "error": answer} if message.get("state") != "waiting" else {}
        return from_json(OutboxNews, {**message, **part})
    if kind == "progress":
        return from_json(TransferNews, message)
    if kind == "project":
        event, project = from_json(NumberedEvent, message), from_json(_Followed, message).project
        job = from_json(_OfJob, event.data).job
        return ProjectNews(
            project, event.number, event.kind, job, read_news(event.kind, event.data)
        )
    return None


def read_news(kind: str, data: dict[str, Any]) -> News | None:
    """What an event of a project says; None where that is not read here.

    Raises:
        ValueError: it does not hold what an event of that kind holds.
    """
    return from_json(_CONTENTS[kind], data) if kind in _CONTENTS else None


def read_progress(data: dict[str, Any]) -> News | None:
    """How far a job is, as its row says it: the last event of that kind.

    Raises:
        ValueError: it does not hold what an event of that kind holds.
    """
    return read_news(str(data.get("kind")), data)


def misfit(what: str, why: ValueError) -> Failure:
    """Say that an answer or an event is of another version of ALUNet than this side.

    Args:
        what: the call, or the kind of event.
    """
    message = _("What the engine says ({what}) cannot be understood: {why}.").format(
        what=what, why=why
    )
    hint = _("Install the same version of ALUNet on both computers.")
    return Failure("misfit", message, hint)
