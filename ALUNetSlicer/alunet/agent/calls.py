"""What a viewer can ask of its agent: one function a call. Its keyword arguments are the call's ``args``.

Each runs in one of four thread pools: `local` needs no engine and is answered at once, in order; `quick` is one
request; `transfer` moves files; `link` may start an engine.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import alunet
from alunet.agent import outbox
from alunet.agent.client import NEWEST_API, OLDEST_API, with_images
from alunet.agent.connections import Access, read_token
from alunet.agent.connections.target import parse
from alunet.agent.diagnose import diagnose
from alunet.agent.http_transport import Cancel
from alunet.agent.outbox import Entry
from alunet.agent.session import Push, Session, about
from alunet.agent.thread_pools import Pace
from alunet.errors import InputError
from alunet.schema import (
    FILE_FORMATS,
    NOT_ANNOTATED,
    CaseRequest,
    JobKind,
    JobRequest,
    ProjectRequest,
    SliceRequest,
    Status,
    from_json,
    to_json,
)

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Call:
    """One call: its lane, its function and the shape of its arguments."""

    lane: str
    function: Callable[..., Any]
    arguments: type


@dataclass
class Task:
    """One request on its way: how it tells of its progress, and whether it was cancelled."""

    id: Any
    push: Push
    cancel: Cancel = field(default_factory=Cancel)
    pace: Pace = field(default_factory=Pace)

    def progress(self, phase: str, done: int, total: int) -> None:
        """Tell how far it is."""
        if self.pace.lets(last=done >= total):
            self.push({"event": "progress", "id": self.id, "phase": phase, "done": done, "total": total})


CALLS: dict[str, Call] = {}


def call(lane: str) -> Callable[[Function], Function]:
    """Makes a function a call of its name."""

    def register(function: Function) -> Function:
        hints = typing.get_type_hints(function)
        given = list(inspect.signature(function).parameters.values())[2:]
        parts = [
            (part.name, hints[part.name])
            if part.default is part.empty
            else (part.name, hints[part.name], dataclasses.field(default=part.default))
            for part in given
        ]
        name = function.__name__
        CALLS[name] = Call(lane, function, dataclasses.make_dataclass(name, parts))
        return function

    return register


def arguments(name: str, given: Any) -> dict[str, Any]:
    """Arguments of a call, checked.

    Raises:
        InputError: no such call, or its arguments are not these.
    """
    if name not in CALLS:
        raise InputError(f"There is no call {name!r}.", f"There are: {', '.join(sorted(CALLS))}.")
    shape = CALLS[name].arguments
    known = [part.name for part in dataclasses.fields(shape)]
    unknown = sorted(set(given) - set(known)) if isinstance(given, dict) else []
    if unknown:
        raise InputError(f"{name} knows no argument {unknown[0]!r}.", f"It knows: {', '.join(known)}.")
    try:
        read: Any = from_json(shape, given)
    except ValueError as error:
        raise InputError(f"{error}.", "This is a defect of the viewer.") from error
    return {key: getattr(read, key) for key in known}


@call("local")
def hello(session: Session, task: Task) -> Any:
    """Who the agent is."""
    api = [OLDEST_API, NEWEST_API]
    return {"version": alunet.__version__, "api": api, "pid": os.getpid(), "spool": str(session.spool)}


@call("link")
def connect(
    session: Session, task: Task, to: str, token: str = "", token_file: str | None = None, ca: str | None = None,
    allow_plain: bool = False, python: str = "", environment: dict[str, str] | None = None,
    ssh_options: list[str] | None = None, seconds: float = 120.0,
) -> Any:  # fmt: skip
    """Belong to an engine; its health is the answer. A failure is told, and tried again all the same."""
    access = _access(token, token_file, ca, allow_plain, python, environment, ssh_options)
    return to_json(session.connect(parse(to), access, seconds))


@call("local")
def choose(
    session: Session, task: Task, to: str, token: str = "", token_file: str | None = None, ca: str | None = None,
    allow_plain: bool = False, python: str = "", environment: dict[str, str] | None = None,
    ssh_options: list[str] | None = None,
) -> Any:  # fmt: skip
    """Belong to an engine without waiting for it: ``connection`` events tell the rest; `submit` works at once."""
    session.choose(parse(to), _access(token, token_file, ca, allow_plain, python, environment, ssh_options))


@call("local")
def disconnect(session: Session, task: Task) -> Any:
    """Belong to no engine."""
    session.disconnect()


@call("link")
def test(
    session: Session, task: Task, to: str, token: str = "", token_file: str | None = None, ca: str | None = None,
    allow_plain: bool = False, python: str = "", environment: dict[str, str] | None = None,
    ssh_options: list[str] | None = None,
) -> Any:  # fmt: skip
    """Test a connection step by step; see `diagnose`."""
    access = _access(token, token_file, ca, allow_plain, python, environment, ssh_options)
    return [dataclasses.asdict(step) for step in diagnose(parse(to), access)]


@call("quick")
def health(session: Session, task: Task) -> Any:
    """How the engine is."""
    return to_json(session.client.health())


@call("quick")
def projects(session: Session, task: Task) -> Any:
    """All projects."""
    return [to_json(row) for row in session.client.projects()]


@call("quick")
def project(session: Session, task: Task, project: str) -> Any:
    """One project."""
    return to_json(session.client.project(project))


@call("quick")
def create_project(
    session: Session, task: Task, name: str, labels: list[str], channels: list[str], preset: str = "cpu",
    epochs: int | None = None, iterations: int | None = None, seed: int = 0, train_for: float | None = None,
) -> Any:  # fmt: skip
    """Make a project."""
    request = ProjectRequest(name, labels, channels, preset, epochs, iterations, seed, train_for)
    return to_json(session.client.create_project(request))


@call("quick")
def cases(session: Session, task: Task, project: str) -> Any:
    """The cases of a project."""
    return [to_json(row) for row in session.client.cases(project)]


@call("transfer")
def add_case(
    session: Session, task: Task, project: str, name: str, images: list[str], role: str = "pool",
    label: str | None = None,
) -> Any:  # fmt: skip
    """Upload image files, one a channel, and make a case of them."""
    client = session.client
    sent = [client.upload(Path(file), task.progress, task.cancel) for file in images]
    reference = client.upload(Path(label), task.progress, task.cancel) if label else None
    return to_json(client.add_case(project, with_images(CaseRequest(name, [], role), sent, reference)))


@call("transfer")
def fetch(
    session: Session, task: Task, project: str, case: str, what: str, format: str = "nrrd", measure: str | None = None
) -> Any:
    """Fetch ``images/CHANNEL``, ``annotation``, ``proposal`` or ``uncertainty`` of a case into the spool folder."""
    if format not in FILE_FORMATS:
        raise InputError(f"Images cannot be had as {format!r}.", f"Choose: {', '.join(FILE_FORMATS)}.")
    params = {"format": format} | ({"measure": measure} if measure else {})
    target = session.spool_file(f"{case}-{what}.{format}")
    return {"file": str(session.client.fetch(project, case, what, target, params, task.progress, task.cancel))}


@call("quick")
def start(session: Session, task: Task, project: str, kind: JobKind, options: dict[str, Any], key: str = "") -> Any:
    """Start a job."""
    return to_json(session.client.start(project, JobRequest(kind, options), key))


@call("quick")
def jobs(session: Session, task: Task, project: str) -> Any:
    """The jobs of a project."""
    return [to_json(row) for row in session.client.jobs(project)]


@call("quick")
def job(session: Session, task: Task, project: str, job: int) -> Any:
    """One job."""
    return to_json(session.client.job(project, job))


@call("quick")
def cancel_job(session: Session, task: Task, project: str, job: int) -> Any:
    """End a job."""
    return to_json(session.client.cancel_job(project, job))


@call("transfer")
def fetch_result(session: Session, task: Task, project: str, job: int, ending: str = "zip") -> Any:
    """Fetch the file that a job made into the spool folder."""
    target = session.spool_file(f"job-{job}.{ending}")
    return {"file": str(session.client.fetch_result(project, job, target, task.progress, task.cancel))}


@call("quick")
def strategies(session: Session, task: Task) -> Any:
    """The engine's ways to choose slices."""
    return [to_json(info) for info in session.client.strategies()]


@call("quick")
def rounds(session: Session, task: Task, project: str) -> Any:
    """The rounds of a project."""
    return [to_json(row) for row in session.client.rounds(project)]


@call("quick")
def worklist(session: Session, task: Task, project: str) -> Any:
    """The suggested samples."""
    return [to_json(row) for row in session.client.worklist(project)]


@call("quick")
def add_slice(session: Session, task: Task, project: str, case: str, axis: int, slice: int, author: str) -> Any:
    """Put a slice that a person chose into the worklist; its rows are the answer, also where it is there already."""
    request = SliceRequest(case, axis, slice, author)
    return [to_json(row) for row in session.client.add_slice(project, request)]


@call("quick")
def curve(session: Session, task: Task, project: str) -> Any:
    """The learning curve."""
    return [to_json(row) for row in session.client.curve(project)]


@call("quick")
def lease(session: Session, task: Task, project: str, sample: int, author: str, seconds: float = 300.0) -> Any:
    """Take a sample for a while, or keep it."""
    return to_json(session.client.lease(project, sample, author, seconds))


@call("quick")
def give_back(session: Session, task: Task, project: str, sample: int, author: str) -> Any:
    """Give a leased sample back."""
    session.client.give_back(project, sample, author)


@call("quick")
def annotation(session: Session, task: Task, project: str, sample: int, version: int | None = None) -> Any:
    """Fetch an annotation's voxels, without header, into the spool folder."""
    target = session.spool_file(f"sample-{sample}.raw")
    return session.client.fetch_annotation(project, sample, target, version) | {"file": str(target)}


@call("quick")
def proposal(session: Session, task: Task, project: str, sample: int) -> Any:
    """Fetch the newest proposal for a sample as `annotation` does; its version is the round of the model."""
    target = session.spool_file(f"proposal-{sample}.raw")
    return session.client.fetch_proposal(project, sample, target) | {"file": str(target)}


@call("quick")
def uncertainty(session: Session, task: Task, project: str, sample: int, measure: str = "entropy") -> Any:
    """Fetch how unsure the newest model is of a sample's voxels, float32, as `proposal` does."""
    target = session.spool_file(f"uncertainty-{sample}.raw")
    return session.client.fetch_uncertainty(project, sample, target, measure) | {"file": str(target)}


@call("local")
def submit(
    session: Session, task: Task, project: str, sample: int, file: str, shape: list[int], dtype: str, base_version: int,
    author: str, seconds: float, status: Status = Status.DONE, key: str = "",
) -> Any:  # fmt: skip
    """Hand in an annotation: answered when it is on this computer's disk; an ``outbox`` event tells the rest.

    `file` holds the voxels without header, little-endian, in (k, j, i) order, and is the viewer's own again afterwards.
    """
    try:
        voxels = Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.", "Write the voxels again.") from error
    content = {
        "base_version": base_version, "author": author, "seconds": seconds, "status": status.value,
        "shape": shape, "dtype": dtype, "not_annotated": NOT_ANNOTATED,
    }  # fmt: skip
    packed = outbox.pack(voxels, shape, dtype)
    line = session.line
    return about(line.sender.put(Entry(line.engine, project, sample, content, packed, key)))


@call("local")
def set_status(
    session: Session, task: Task, project: str, sample: int, status: Status, author: str, key: str = ""
) -> Any:
    """Set a status without an annotation, through the outbox like `submit`."""
    content = {"status": status.value, "author": author}
    line = session.line
    return about(line.sender.put(Entry(line.engine, project, sample, content, None, key)))


@call("local")
def waiting(session: Session, task: Task) -> Any:
    """What this engine has not acknowledged: entries that wait, and those that were refused."""
    return [about(entry) for entry in session.outbox.entries(session.line.engine)]


@call("local")
def retry(session: Session, task: Task, key: str) -> Any:
    """Send a refused entry again."""
    session.line.sender.retry(key)


@call("local")
def discard(session: Session, task: Task, key: str) -> Any:
    """Forget a refused entry for good."""
    session.outbox.discard(key)


@call("local")
def follow(session: Session, task: Task, project: str, after: int = 0) -> Any:
    """Push the events of a project with numbers above `after` as ``project`` events."""
    session.line.follow(project, after)


@call("local")
def unfollow(session: Session, task: Task, project: str) -> Any:
    """Push them no more."""
    session.line.unfollow(project)


def _access(
    token: str, token_file: str | None, ca: str | None, allow_plain: bool, python: str,
    environment: dict[str, str] | None, ssh_options: list[str] | None,
) -> Access:  # fmt: skip
    token = read_token(token_file) if token_file else token
    return Access(token, ca, allow_plain, python, environment, tuple(ssh_options or ()))
