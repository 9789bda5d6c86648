"""The typed client of a service: one method a request of `alunet.schema`, usable from Python on its own.

    client = Client("http://127.0.0.1:8000", token)
    client.health().device
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from alunet.agent.http_transport import Cancel, HttpTransport, unreachable
from alunet.agent.transfer import Progress, download, no_progress, upload
from alunet.errors import AlunetError
from alunet.schema import (
    API,
    EVENT_STREAM,
    CaseInfo,
    CaseRequest,
    CurvePoint,
    Header,
    Health,
    Job,
    JobRequest,
    Lease,
    LeaseRequest,
    NumberedEvent,
    ProjectInfo,
    ProjectRequest,
    RoundInfo,
    SampleState,
    SliceRequest,
    Status,
    StatusRequest,
    StrategyInfo,
    Upload,
    WorkRow,
    from_json,
    to_json,
)

OLDEST_API, NEWEST_API = API, API
SILENCE_SECONDS = 45.0
"""An event stream that says nothing for so long, not even a heartbeat, is taken for dead."""
Kind = TypeVar("Kind")


class WrongVersion(AlunetError):
    """Agent and service do not speak the same version of the contract."""

    code = "wrong_version"


class Client:
    """All requests to one service; may be used from several threads.

    Every method raises `wire.Unreachable`, `wire.Stranger` or `wire.ServiceError`; what is safe to repeat was repeated
    before.

    Args:
        base, token, ca, allow_plain: see `HttpTransport`.
    """

    def __init__(self, base: str, token: str, ca: str | None = None, allow_plain: bool = False) -> None:
        self.wire = HttpTransport(base, token, ca, allow_plain)

    def health(self) -> Health:
        """How the service is.

        Raises:
            WrongVersion: it speaks a version of the contract that this client does not.
        """
        content = self.wire.call("GET", "/health")
        check_version(content)
        return from_json(Health, content)

    def projects(self) -> list[ProjectInfo]:
        """All projects, without their status."""
        return self._list(ProjectInfo, "/projects")

    def project(self, project: str) -> ProjectInfo:
        """One project, with what `alunet status --json` says."""
        return self._get(ProjectInfo, _path("projects", project))

    def create_project(self, request: ProjectRequest) -> ProjectInfo:
        """Make a project; the same one again is the one that is there."""
        return from_json(ProjectInfo, self.wire.call("POST", "/projects", body=to_json(request)))

    def upload(self, file: Path, progress: Progress = no_progress, cancel: Cancel | None = None) -> Upload:
        """Send a file; goes on where an earlier attempt ended. Raises InputError where the file cannot be read."""
        return upload(self.wire, file, progress, cancel or Cancel())

    def cases(self, project: str) -> list[CaseInfo]:
        """The cases of a project."""
        return self._list(CaseInfo, _path("projects", project, "cases"))

    def case(self, project: str, name: str) -> CaseInfo:
        """One case."""
        return self._get(CaseInfo, _path("projects", project, "cases", name))

    def add_case(self, project: str, request: CaseRequest) -> CaseInfo:
        """Make a case of finished uploads; the same one again is the one that is there."""
        address = _path("projects", project, "cases")
        return from_json(CaseInfo, self.wire.call("POST", address, body=to_json(request)))

    def fetch(
        self,
        project: str,
        case: str,
        what: str,
        target: Path,
        params: dict[str, str] | None = None,
        progress: Progress = no_progress,
        cancel: Cancel | None = None,
    ) -> Path:
        """Fetch a file of a case: ``images/CHANNEL``, ``annotation``, ``proposal`` or ``uncertainty``.

        Args:
            target: replaced when everything is there and its checksum fits.
            params: ``format`` (see `schema.FILE_FORMATS`), ``measure`` of uncertainty.
        """
        address = _path("projects", project, "cases", case) + f"/{quote(what)}"
        return download(self.wire, address, target, params or {}, progress, cancel or Cancel())

    def start(self, project: str, request: JobRequest, key: str = "") -> Job:
        """Start a job; the same key starts it once."""
        headers = {Header.KEY: key or str(uuid.uuid4())}
        address = _path("projects", project, "jobs")
        return from_json(Job, self.wire.call("POST", address, body=to_json(request), headers=headers))

    def jobs(self, project: str) -> list[Job]:
        """All jobs of a project."""
        return self._list(Job, _path("projects", project, "jobs"))

    def job(self, project: str, job: int) -> Job:
        """One job."""
        return self._get(Job, _path("projects", project, "jobs", job))

    def cancel_job(self, project: str, job: int) -> Job:
        """End a job; one that ended already stays as it is."""
        return from_json(Job, self.wire.call("DELETE", _path("projects", project, "jobs", job)))

    def fetch_result(
        self, project: str, job: int, target: Path, progress: Progress = no_progress, cancel: Cancel | None = None
    ) -> Path:
        """Fetch the file that a job made."""
        address = _path("projects", project, "jobs", job, "result")
        return download(self.wire, address, target, {}, progress, cancel or Cancel())

    def strategies(self) -> list[StrategyInfo]:
        """The engine's ways to choose slices."""
        return self._list(StrategyInfo, _path("strategies"))

    def rounds(self, project: str) -> list[RoundInfo]:
        """All rounds of a project."""
        return self._list(RoundInfo, _path("projects", project, "rounds"))

    def worklist(self, project: str) -> list[WorkRow]:
        """The suggested samples, in the order to work in."""
        return self._list(WorkRow, _path("projects", project, "worklist"))

    def add_slice(self, project: str, request: SliceRequest) -> list[WorkRow]:
        """Put a slice of one's own choice into the worklist; one that is there already is answered as it is."""
        address = _path("projects", project, "worklist")
        return [from_json(WorkRow, row) for row in self.wire.call("POST", address, body=to_json(request))]

    def curve(self, project: str) -> list[CurvePoint]:
        """The learning curve."""
        return self._list(CurvePoint, _path("projects", project, "curve"))

    def lease(self, project: str, sample: int, author: str, seconds: float = 300.0) -> Lease:
        """Take a sample for a while, or keep it for longer; `Code.LEASED` where somebody else has it."""
        body = to_json(LeaseRequest(author, seconds))
        return from_json(Lease, self.wire.call("POST", _sample(project, sample, "lease"), body=body))

    def give_back(self, project: str, sample: int, author: str) -> None:
        """Give a leased sample back."""
        self.wire.call("DELETE", _sample(project, sample, "lease"), params={"author": author})

    def set_status(self, project: str, sample: int, status: Status, author: str, key: str = "") -> SampleState:
        """Set a status without an annotation."""
        body = to_json(StatusRequest(status, author))
        headers = {Header.KEY: key} if key else {}
        return from_json(SampleState, self.wire.call("PATCH", _sample(project, sample), body=body, headers=headers))

    def put_annotation(
        self, project: str, sample: int, content: dict[str, Any], packed: bytes, key: str
    ) -> SampleState:
        """Send an annotation, once; it is on the engine's disk when this returns.

        Args:
            content: author, seconds, status, base_version, shape, dtype, not_annotated; see `outbox.Entry`. An entry
                of version 1 of the contract has no value for voxels that are not annotated.
            packed: gzip of the voxels.
            key: the same for each attempt.
        """
        headers = {
            Header.KEY: key,
            Header.SHAPE: ",".join(str(n) for n in content["shape"]),
            Header.DTYPE: content["dtype"],
            "Content-Encoding": "gzip",
        }
        if "not_annotated" in content:
            headers[Header.NOT_ANNOTATED] = str(content["not_annotated"])
        names = ("base_version", "author", "seconds", "status")
        params: dict[str, Any] = {name: content[name] for name in names if name in content}
        address = _sample(project, sample, "annotation")
        answer = self.wire.call("PUT", address, data=packed, params=params, headers=headers, repeat=False)
        return from_json(SampleState, answer)

    def fetch_annotation(self, project: str, sample: int, target: Path, version: int | None = None) -> dict[str, Any]:
        """Fetch the voxels of a sample's annotation as a file without header.

        Returns:
            ``shape`` (k, j, i), ``dtype`` and ``version``.
        """
        params = {} if version is None else {"version": str(version)}
        return self._fetch_voxels(_sample(project, sample, "annotation"), target, params)

    def fetch_proposal(self, project: str, sample: int, target: Path) -> dict[str, Any]:
        """Fetch the newest proposal for a sample, as `fetch_annotation`; ``version`` is the round of the model."""
        return self._fetch_voxels(_sample(project, sample, "proposal"), target, {})

    def fetch_uncertainty(self, project: str, sample: int, target: Path, measure: str) -> dict[str, Any]:
        """Fetch how unsure the newest model is of a sample's voxels, as `fetch_proposal`; float32."""
        return self._fetch_voxels(_sample(project, sample, "uncertainty"), target, {"measure": measure})

    def _fetch_voxels(self, address: str, target: Path, params: dict[str, str]) -> dict[str, Any]:
        with self.wire.send("GET", address, params=params) as answer:
            try:
                target.write_bytes(answer.content)
            except requests.RequestException as error:
                raise unreachable(self.wire.base, error) from error
            return {
                "shape": [int(n) for n in answer.headers[Header.SHAPE].split(",")],
                "dtype": answer.headers[Header.DTYPE],
                "version": int(answer.headers[Header.VERSION]),
            }

    def events(self, project: str, after: int = 0, limit: int = 1000) -> list[NumberedEvent]:
        """Events with numbers above `after`, oldest first."""
        params = {"after": after, "limit": limit}
        address = _path("projects", project, "events")
        return [from_json(NumberedEvent, item) for item in self.wire.call("GET", address, params=params)]

    def follow(self, project: str, after: int = 0) -> Iterator[NumberedEvent | None]:
        """Events as they happen, one connection long; None now and then, so that the caller can stop.

        Raises:
            Unreachable: the connection ended; go on with the last number seen.
        """
        address = _path("projects", project, "events")
        headers = {"Accept": EVENT_STREAM}
        params = {"after": after}
        with self.wire.send("GET", address, params=params, headers=headers, read_seconds=SILENCE_SECONDS) as answer:
            try:
                for line in _lines(answer):
                    if line.startswith(b"data:"):
                        yield from_json(NumberedEvent, json.loads(line[5:]))
                    else:
                        yield None
            except requests.RequestException as error:
                raise unreachable(self.wire.base, error) from error
        raise unreachable(self.wire.base, requests.ConnectionError())

    def _get(self, kind: type[Kind], address: str) -> Kind:
        return from_json(kind, self.wire.call("GET", address))

    def _list(self, kind: type[Kind], address: str) -> list[Kind]:
        return [from_json(kind, item) for item in self.wire.call("GET", address)]


def check_version(health: dict[str, Any]) -> None:
    """Raise `WrongVersion` where the service's version of the contract is out of range."""
    version = health.get("api")
    if version in range(OLDEST_API, NEWEST_API + 1):
        return
    known = f"{OLDEST_API} to {NEWEST_API}" if OLDEST_API < NEWEST_API else f"{NEWEST_API}"
    behind = isinstance(version, int) and version < OLDEST_API
    raise WrongVersion(
        f"The service speaks version {version} of the contract, this agent {known}.",
        "Update ALUNet on the engine's computer." if behind else "Update ALUNet on this computer.",
    )


def with_images(request: CaseRequest, images: list[Upload], label: Upload | None) -> CaseRequest:
    """A request for a case with its finished uploads filled in."""
    return replace(request, images=[image.id for image in images], label=label.id if label else None)


def _path(*parts: str | int) -> str:
    return "".join("/" + quote(str(part), safe="") for part in parts)


def _sample(project: str, sample: int, *rest: str) -> str:
    return _path("projects", project, "samples", sample, *rest)


def _lines(answer: requests.Response) -> Iterator[bytes]:
    """Lines as they come in; a pause in mid-line keeps none back that is whole."""
    rest = b""
    for block in answer.iter_content(chunk_size=None):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
