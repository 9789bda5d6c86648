"""The operations of the service, each declared once.

The service's route, the client's request, the agent's call and docs/api.md follow from this table.
What an operation does is a handler in `alunet.serve.routes`.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from types import NoneType
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from alunet.schema import changes as c
from alunet.schema import messages as m
from alunet.schema import rounds as r
from alunet.schema import structures as s
from alunet.schema import work as w
from alunet.schema.codec import to_data

Answer = TypeVar("Answer")
PLACES = {
    "project": str,
    "case": str,
    "upload": str,
    "channel": int,
    "job": int,
    "sample": int,
    "structure": int,
}
"""Types of the names in paths."""


class File(bytes):
    """Answer: a file, with an ``ETag`` (SHA-256 of its bytes); a ``Range`` of it with status
    206.
    """


class Voxels(bytes):
    """Answer: voxels of a sample's box, (k, j, i), little-endian; shape, type, version: headers."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a query; without a default it is required."""

    name: str
    kind: Any
    default: Any = ...

    @property
    def field(self) -> Any:
        """A field of a dataclass with the same default."""
        return dataclasses.field(default=MISSING if self.default is ... else self.default)


@dataclass(frozen=True)
class Operation(Generic[Answer]):
    """One operation of the service.

    Attributes:
        request: method and path below `PREFIX`; names of `PLACES` are in braces.
        answer: dataclass of the schema or a list of one, None, `File` or `Voxels`.
        summary: one line, for docs/api.md.
        query: parameters.
        body: dataclass of the schema, bytes, or None where there is none.
        statuses: of success, the usual one first.
        keyed: it takes a `Header.KEY`, by which a request that is sent again is done once.
        step: it is a step of a transfer or a stream, for which client and agent have methods.
        name: in `Operations`; the agent's call has it, too.
    """

    request: str
    answer: type[Answer]
    summary: str
    query: tuple[Parameter, ...] = ()
    body: Any = None
    statuses: tuple[int, ...] = (200,)
    keyed: bool = False
    step: bool = False
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)

    @property
    def method(self) -> str:
        """Of HTTP."""
        return self.request.partition(" ")[0]

    @property
    def path(self) -> str:
        """Template of the address."""
        return self.request.partition(" ")[2]

    @property
    def places(self) -> list[str]:
        """Names in the path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def plain(self) -> bool:
        """Whether it is one request, with JSON alone."""
        return not self.step and self.body is not bytes and self.answer not in (File, Voxels)

    def arguments(self) -> type:
        """A dataclass of all that a caller gives: places, query, fields of the body, the key."""
        given = [(name, PLACES[name], dataclasses.field()) for name in self.places]
        given += [(part.name, part.kind, part.field) for part in self.query]
        given += fields_of(self.body) if dataclasses.is_dataclass(self.body) else []
        given += [("key", str, dataclasses.field(default=""))] if self.keyed else []
        return dataclasses.make_dataclass(self.name, given, kw_only=True)

    def split(self, given: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
        """Path, query and JSON body of a request with these arguments, of which the key is none.

        Raises:
            TypeError: there is no such argument, or one is missing.
        """
        left = dict(given)
        missing = [name for name in self.places if name not in left]
        if missing:
            raise TypeError(f"{self.name} needs the argument {missing[0]!r}")
        places = {name: quote(str(left.pop(name)), safe="") for name in self.places}
        query = {
            part.name: to_data(left.pop(part.name)) for part in self.query if part.name in left
        }
        body = None
        if dataclasses.is_dataclass(self.body):
            make: Any = self.body
            body, left = to_data(make(**left)), {}
        if left:
            raise TypeError(f"{self.name} knows no argument {next(iter(left))!r}")
        return self.path.format(**places), query, body


def fields_of(kind: Any) -> list[tuple[str, Any, Any]]:
    """Name, type and a new field with the same default of each field of a dataclass."""
    hints = typing.get_type_hints(kind)
    return [
        (part.name, hints[part.name], dataclasses.field(default_factory=part.default_factory))
        if part.default_factory is not MISSING
        else (part.name, hints[part.name], dataclasses.field(default=part.default))
        for part in dataclasses.fields(kind)
    ]


_PROJECT = "/projects/{project}"
_CASE = _PROJECT + "/cases/{case}"
_SAMPLE = _PROJECT + "/samples/{sample}"
_STRUCTURE = _PROJECT + "/structures/{structure}"
_FORMAT = Parameter("format", str | None, None)
_MEASURE = Parameter("measure", str, "entropy")
_AUTHOR = Parameter("author", str)
_SUBMITTED = (
    _AUTHOR,
    Parameter("base_version", int, 0),
    Parameter("seconds", float | None, None),
    Parameter("status", w.Status, w.Status.DONE),
)
_MADE = (201, 200)


class Operations:
    """What can be asked of the service."""

    health = Operation("GET /health", m.Health, "Version, device, free memory and disk.")
    strategies = Operation("GET /strategies", list[r.StrategyInfo], "The ways to choose slices.")

    projects = Operation("GET /projects", list[m.ProjectInfo], "All projects, by id.")
    create_project = Operation(
        "POST /projects",
        m.ProjectInfo,
        "Make a project; the same again finds it (200).",
        body=m.ProjectRequest,
        statuses=_MADE,
    )
    project = Operation(f"GET {_PROJECT}", m.ProjectInfo, "One project and how it stands.")
    rounds = Operation(f"GET {_PROJECT}/rounds", list[r.RoundInfo], "All rounds, by number.")
    curve = Operation(
        f"GET {_PROJECT}/curve",
        list[r.CurvePoint],
        "The learning curve: one point a finished round.",
    )

    structures = Operation(
        f"GET {_PROJECT}/structures", list[s.StructureInfo], "All structures, by number."
    )
    add_structure = Operation(
        f"POST {_PROJECT}/structures",
        s.StructureChange,
        "Add a structure under a number that was never used.",
        body=s.StructureRequest,
        keyed=True,
    )
    edit_structure = Operation(
        f"PATCH {_STRUCTURE}",
        s.StructureChange,
        "Give a structure another name or color.",
        body=s.StructureEdit,
        keyed=True,
    )
    remove_structure = Operation(
        f"DELETE {_STRUCTURE}",
        s.StructureChange,
        "Remove a structure; its voxels become what `voxels` says: background, open, or the name "
        "of another structure.",
        (_AUTHOR, Parameter("voxels", str | None, None)),
        keyed=True,
    )

    begin_upload = Operation(
        "POST /uploads",
        m.Upload,
        "Begin an upload, or find it (200).",
        body=m.UploadRequest,
        statuses=_MADE,
        step=True,
    )
    upload = Operation(
        "GET /uploads/{upload}", m.Upload, "How much of an upload is there.", step=True
    )
    append = Operation("PATCH /uploads/{upload}", m.Upload, "Send the next part.", body=bytes)

    add_case = Operation(
        f"POST {_PROJECT}/cases",
        m.Job,
        "Make a case of finished uploads, in a job; the same again finds that (200).",
        body=m.CaseRequest,
        statuses=(202, 200),
    )
    cases = Operation(f"GET {_PROJECT}/cases", list[m.CaseInfo], "All cases, by name.")
    case = Operation(f"GET {_CASE}", m.CaseInfo, "One case.")
    change_case = Operation(
        f"PATCH {_CASE}",
        c.ChangedCase,
        "Remove a case, take it in again, or change its role; says what follows.",
        body=c.CaseChange,
    )
    erase_case = Operation(
        f"POST {_CASE}/erasure",
        c.ChangedCase,
        "Erase a case for good, with everything made of it; says what is not reached.",
        body=c.EraseRequest,
        keyed=True,
    )
    case_image = Operation(
        f"GET {_CASE}/images/{{channel}}",
        File,
        "An image as it was uploaded, or in another format.",
        (_FORMAT,),
    )
    case_annotation = Operation(
        f"GET {_CASE}/annotation",
        File,
        "What is annotated of a case; 255 where nothing is annotated.",
        (_FORMAT,),
    )
    case_proposal = Operation(
        f"GET {_CASE}/proposal", File, "The newest segmentation of a case.", (_FORMAT,)
    )
    case_uncertainty = Operation(
        f"GET {_CASE}/uncertainty",
        File,
        "The newest uncertainty map of a case.",
        (_MEASURE, _FORMAT),
    )

    worklist = Operation(
        f"GET {_PROJECT}/worklist",
        list[w.WorkRow],
        "A round's batch in the order to work in; by default of the newest round.",
        (Parameter("round", int | None, None),),
    )
    add_slice = Operation(
        f"POST {_PROJECT}/worklist",
        list[w.WorkRow],
        "Put a slice of one's own choice into the worklist; the same again finds it (200).",
        body=w.SliceRequest,
        statuses=_MADE,
    )
    lease = Operation(
        f"POST {_SAMPLE}/lease",
        w.Lease,
        "Take a sample for a while, or for a while longer.",
        body=w.LeaseRequest,
    )
    give_back = Operation(
        f"DELETE {_SAMPLE}/lease", NoneType, "Give a sample back.", (_AUTHOR,), statuses=(204,)
    )
    set_status = Operation(
        f"PATCH {_SAMPLE}",
        w.SampleState,
        "Note a status without labels.",
        body=w.StatusRequest,
        keyed=True,
    )
    take_back = Operation(
        f"POST {_SAMPLE}/taking-back",
        c.TakenBack,
        "Take the labels of a sample back, or undo that; says what follows.",
        body=c.TakeBackRequest,
        keyed=True,
    )
    annotation = Operation(
        f"GET {_SAMPLE}/annotation",
        Voxels,
        "The newest labels of a sample, or those of a version.",
        (Parameter("version", int | None, None),),
    )
    put_annotation = Operation(
        f"PUT {_SAMPLE}/annotation",
        w.SampleState,
        "Submit labels of a sample; they are on disk when this is answered.",
        _SUBMITTED,
        body=bytes,
        keyed=True,
    )
    proposal = Operation(
        f"GET {_SAMPLE}/proposal",
        Voxels,
        "The best proposal for a sample, or a source's; its version is the model's round, else 0, "
        "and headers name source and expected Dice.",
        (Parameter("source", w.ProposalSource | None, None),),
    )
    uncertainty = Operation(
        f"GET {_SAMPLE}/uncertainty",
        Voxels,
        "How unsure the newest model is of each voxel of a sample, float32; "
        "its version is that model's round.",
        (_MEASURE,),
    )

    start = Operation(
        f"POST {_PROJECT}/jobs",
        m.Job,
        "Start a job.",
        body=m.JobRequest,
        statuses=(202,),
        keyed=True,
    )
    jobs = Operation(f"GET {_PROJECT}/jobs", list[m.Job], "All jobs, by number.")
    job = Operation(f"GET {_PROJECT}/jobs/{{job}}", m.Job, "One job.")
    cancel_job = Operation(
        f"DELETE {_PROJECT}/jobs/{{job}}", m.Job, "End a job; one that has ended stays as it is."
    )
    result = Operation(f"GET {_PROJECT}/jobs/{{job}}/result", File, "The file that a job made.")
    events = Operation(
        f"GET {_PROJECT}/events",
        list[m.NumberedEvent],
        "What happened after an event; as a list, or as a stream for those who accept "
        "`text/event-stream`.",
        (Parameter("after", int, 0), Parameter("limit", int, 100)),
        step=True,
    )


OPERATIONS: dict[str, Operation[Any]] = {
    name: found for name, found in vars(Operations).items() if isinstance(found, Operation)
}
"""Every operation by its name."""
