"""What a viewer can ask of its agent: one function a call. Its keyword arguments are the call's
``args``.

What is one request to the engine is a call by its declaration in `alunet.schema.operations`; here
are those for which the agent does more. Each runs in one of five thread pools: `local` needs no
engine and is answered at once, in order; `quick` is one request; `transfer` fetches files; `case`
sends them and waits for the engine; `link` may start an engine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import alunet
from alunet.agent import outbox
from alunet.agent.call_table import CALLS, Call, RunningCall, call
from alunet.agent.case_import import CaseImport
from alunet.agent.connections import Access, read_token
from alunet.agent.connections.target import Target, parse
from alunet.agent.contract import NEWEST_API, OLDEST_API, check_viewer
from alunet.agent.diagnose import diagnose
from alunet.agent.local_commands import LocalCommands
from alunet.agent.outbox import Entry
from alunet.agent.session import ViewerSession, about
from alunet.errors import InputError
from alunet.schema import (
    FILE_FORMATS,
    NOT_ANNOTATED,
    OPERATIONS,
    DicomIdentity,
    File,
    Operation,
    Operations,
    Status,
    Voxels,
    to_data,
)

__all__ = ["CALLS", "Engine"]
CASE_FILES: dict[str, Operation[File]] = {
    "images": Operations.case_image,
    "annotation": Operations.case_annotation,
    "proposal": Operations.case_proposal,
    "uncertainty": Operations.case_uncertainty,
}


@dataclass(frozen=True)
class Engine:
    """Where an engine is and what it takes to get in: arguments of each call that takes one.

    Attributes:
        to: see `connections.target`.
        token_file: file with the token, instead of `token`.
        ca, allow_plain, python, environment, ssh_options, direct: see `Access`.
    """

    to: str
    token: str = field(default="", repr=False)
    token_file: str | None = None
    ca: str | None = None
    allow_plain: bool = False
    python: str = ""
    environment: dict[str, str] | None = field(default=None, repr=False)
    ssh_options: list[str] | None = None
    direct: bool = False

    def reach(self) -> tuple[Target, Access]:
        """The engine and the way in; raises InputError where they cannot be read."""
        token = read_token(self.token_file) if self.token_file else self.token
        options = tuple(self.ssh_options or ())
        access = Access(
            token,
            self.ca,
            self.allow_plain,
            self.python,
            self.environment,
            options,
            self.direct,
        )
        return parse(self.to), access


@call("local")
def hello(session: ViewerSession, task: RunningCall, api: int | None = None) -> Any:
    """Who the agent is; `api` is the viewer's version of the contract, refused if it is another."""
    check_viewer(api)
    known = [OLDEST_API, NEWEST_API]
    return {
        "version": alunet.__version__,
        "api": known,
        "pid": os.getpid(),
        "spool": str(session.spool.folder),
    }


@call("link")
def connect(
    session: ViewerSession, task: RunningCall, engine: Engine, seconds: float = 120.0
) -> Any:
    """Belong to an engine; its health is the answer. After a failure it is tried again."""
    return to_data(session.connect(*engine.reach(), seconds))


@call("local")
def choose(session: ViewerSession, task: RunningCall, engine: Engine) -> Any:
    """Belong to an engine without waiting: ``connection`` events follow; `submit` works at once."""
    session.choose(*engine.reach())


@call("local")
def disconnect(session: ViewerSession, task: RunningCall) -> Any:
    """Belong to no engine."""
    session.disconnect()


@call("link")
def test(session: ViewerSession, task: RunningCall, engine: Engine) -> Any:
    """Test a connection step by step; see `diagnose`."""
    return to_data(diagnose(*engine.reach()))


@call("transfer")
def read_folder(
    session: ViewerSession,
    task: RunningCall,
    engine: LocalCommands,
    folder: str,
    channels: int = 1,
    series: str = "",
) -> Any:
    """List the cases that a folder on this computer makes; where several DICOM series are of one
    examination, those to choose `series` from.
    """
    place = Path(folder)
    return to_data(engine.read_folder(place, channels, series, task.progress, task.cancel))


@call("case")
def add_case(
    session: ViewerSession,
    task: RunningCall,
    engine: LocalCommands,
    project: str,
    name: str,
    images: list[str],
    role: str = "pool",
    label: str | None = None,
    dicom: DicomIdentity | None = None,
) -> Any:
    """Upload image files, one a channel, and have a case made of them; answered when it is there.

    A DICOM file stands for its series: its voxels and its UIDs are sent, and nothing else.

    Args:
        dicom: of an image that was DICOM before it became that file.
    """
    way = CaseImport(session, task, project, engine)
    return to_data(way.run(name, images, label, role, dicom))


@call("transfer")
def write_segmentations(
    session: ViewerSession,
    task: RunningCall,
    engine: LocalCommands,
    project: str,
    job: int,
    source: str,
    folder: str,
) -> Any:
    """Write DICOM SEG objects of labels that a job exported, with patient and study of the files in
    `source`, which stay on this computer.
    """
    given = {"project": project, "job": job}
    package = Path(_file(session, task, Operations.result, f"job-{job}.zip", given)["file"])
    try:
        where = Path(source), Path(folder)
        return to_data(engine.write_segmentations(package, *where, task.progress, task.cancel))
    finally:
        package.unlink(missing_ok=True)


@call("transfer")
def fetch(
    session: ViewerSession,
    task: RunningCall,
    project: str,
    case: str,
    what: str,
    format: str = "nrrd",
    measure: str | None = None,
) -> Any:
    """Fetch a file of a case into the spool folder.

    Args:
        what: ``images/CHANNEL``, ``annotation``, ``proposal`` or ``uncertainty``.
    """
    if format not in FILE_FORMATS:
        raise InputError(
            f"Images cannot be had as {format!r}.", f"Choose: {', '.join(FILE_FORMATS)}."
        )
    name, _, channel = what.partition("/")
    operation = CASE_FILES.get(name)
    if operation is None or bool(channel) is not ("channel" in operation.places):
        known = "images/CHANNEL, annotation, proposal, uncertainty"
        raise InputError(f"A case has no file {what!r}.", f"There are: {known}.")
    given = {"project": project, "case": case, "format": format}
    given |= {"channel": channel} if channel else {}
    given |= {"measure": measure} if measure and name == "uncertainty" else {}
    return _file(session, task, operation, f"{case}-{what}.{format}", given)


@call("transfer")
def fetch_result(
    session: ViewerSession, task: RunningCall, project: str, job: int, ending: str = "zip"
) -> Any:
    """Fetch the file that a job made into the spool folder."""
    given = {"project": project, "job": job}
    return _file(session, task, Operations.result, f"job-{job}.{ending}", given)


@call("local")
def submit(
    session: ViewerSession,
    task: RunningCall,
    project: str,
    sample: int,
    file: str,
    shape: list[int],
    dtype: str,
    base_version: int,
    author: str,
    seconds: float,
    status: Status = Status.DONE,
    structures: int | None = None,
    key: str = "",
) -> Any:
    """Hand in an annotation: answered when it is on this computer's disk; an ``outbox`` event tells
    the rest.

    `file` holds the voxels without header, little-endian, in (k, j, i) order, and is the viewer's
    own again afterwards. `structures` is the highest number of a structure that the project had
    when they were drawn.
    """
    try:
        voxels = Path(file).read_bytes()
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}.", "Write the voxels again."
        ) from error
    content = {
        "base_version": base_version,
        "author": author,
        "seconds": seconds,
        "status": status.value,
        "shape": shape,
        "dtype": dtype,
        "not_annotated": NOT_ANNOTATED,
        **({} if structures is None else {"structures": structures}),
    }
    packed = outbox.pack(voxels, shape, dtype)
    line = session.line
    return about(line.sender.put(Entry(line.engine, project, sample, content, packed, key)))


@call("local")
def set_status(
    session: ViewerSession,
    task: RunningCall,
    project: str,
    sample: int,
    status: Status,
    author: str,
    key: str = "",
) -> Any:
    """Set a status without an annotation, through the outbox like `submit`."""
    content = {"status": status.value, "author": author}
    line = session.line
    return about(line.sender.put(Entry(line.engine, project, sample, content, None, key)))


@call("local")
def waiting(session: ViewerSession, task: RunningCall) -> Any:
    """What this engine has not acknowledged: entries that wait, and those that were refused."""
    return [about(entry) for entry in session.outbox.entries(session.line.engine)]


@call("local")
def refused_labels(session: ViewerSession, task: RunningCall, key: str) -> Any:
    """Give the labels of an entry that was not acknowledged, in a file of the spool folder, with
    the version that they correct and the time that was spent on them.
    """
    entry, voxels = session.outbox.get(key), session.outbox.voxels(key)
    if entry is None or voxels is None:
        raise InputError("These labels are not in the outbox any more.", "List what waits again.")
    target = session.spool.file(f"outbox-{entry.sample}.raw")
    target.write_bytes(voxels)
    about_them = {name: entry.content[name] for name in ("shape", "dtype", "seconds")}
    return {"file": str(target), "version": entry.content["base_version"], **about_them}


@call("local")
def retry(session: ViewerSession, task: RunningCall, key: str) -> Any:
    """Send a refused entry again."""
    session.line.sender.retry(key)


@call("local")
def discard(session: ViewerSession, task: RunningCall, key: str) -> Any:
    """Forget a refused entry for good."""
    session.outbox.discard(key)


@call("local")
def follow(session: ViewerSession, task: RunningCall, project: str, after: int = 0) -> Any:
    """Push the events of a project with numbers above `after` as ``project`` events."""
    session.line.follow(project, after)


@call("local")
def unfollow(session: ViewerSession, task: RunningCall, project: str) -> Any:
    """Push them no more."""
    session.line.unfollow(project)


def _file(
    session: ViewerSession,
    task: RunningCall,
    operation: Operation[File],
    name: str,
    given: dict[str, Any],
) -> dict[str, str]:
    """Fetch a file into the spool folder."""
    target = session.spool.file(name)
    session.client.fetch(operation, target, task.progress, task.cancel, **given)
    return {"file": str(target)}


def _ask(operation: Operation[Any], session: ViewerSession, task: RunningCall, **given: Any) -> Any:
    """One request to the engine and its answer."""
    return to_data(session.client.call(operation, **given))


def _voxels(
    operation: Operation[Voxels], session: ViewerSession, task: RunningCall, **given: Any
) -> Any:
    """Fetch voxels of a sample, without header, into the spool folder."""
    target = session.spool.file(f"{operation.name}-{given['sample']}.raw")
    return session.client.fetch_voxels(operation, target, **given) | {"file": str(target)}


for _name, _operation in OPERATIONS.items():
    if _name not in CALLS and (_operation.plain or _operation.answer is Voxels):
        _function = partial(_ask if _operation.plain else _voxels, _operation)
        CALLS[_name] = Call("quick", _function, _operation.arguments())
