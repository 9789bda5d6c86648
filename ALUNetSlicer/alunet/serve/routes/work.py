"""The worklist, leases, statuses and annotations."""

from __future__ import annotations

import gzip
import hashlib
from collections import defaultdict
from typing import Annotated

import numpy as np
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Request, Response

from alunet.errors import InputError
from alunet.imaging.labels import Structures
from alunet.loop.proposing import ModelFile, propose
from alunet.loop.slice_maps import slice_map
from alunet.model.settings import MEASURES
from alunet.project import Project
from alunet.project.annotations import Submission
from alunet.schema import (
    LABEL_DTYPES,
    NOT_ANNOTATED,
    Code,
    Lease,
    LeaseRequest,
    Operations,
    ProposalSource,
    SampleState,
    SliceRequest,
    Status,
    StatusRequest,
    WorkRow,
    to_json,
)
from alunet.schema import Header as Names
from alunet.schema.names import PERSON, usable_name
from alunet.serve.cases import find, newest_output, newest_proposal
from alunet.serve.packed_body import gunzip
from alunet.serve.problems import Refused
from alunet.serve.routes.declared import serves
from alunet.serve.state import State

MOST_SECONDS = 24 * 3600.0
_SUBMITTED_AT_ONCE = 8  # in a project
Author = Annotated[str, Query(min_length=1, max_length=100)]
Key = Annotated[str, Header(alias=Names.KEY, max_length=100)]


def router(state: State) -> APIRouter:
    """Routes of this subject."""
    routes = APIRouter()
    _add_work(routes, state)
    _add_annotations(routes, state)
    _add_answers(routes, state)
    return routes


def _add_work(routes: APIRouter, state: State) -> None:
    @serves(routes, Operations.worklist)
    def worklist(
        project: str, round: Annotated[int | None, Query(ge=0, lt=1 << 31)] = None
    ) -> list[WorkRow]:
        with state.projects.open(project) as opened:
            return opened.worklist.rows(round)

    @serves(routes, Operations.add_slice)
    def choose(project: str, request: SliceRequest, response: Response) -> list[WorkRow]:
        check_author(request.author)
        with state.projects.open(project) as opened:
            case = find(opened, request.case).name
            rows, fresh = opened.worklist.choose(case, request.axis, request.slice, request.author)
        response.status_code = 201 if fresh else 200
        return rows

    @serves(routes, Operations.lease)
    def lease(project: str, sample: int, request: LeaseRequest) -> Lease:
        check_author(request.author)
        if not 1 <= request.seconds <= MOST_SECONDS:
            raise InputError(
                f"A lease of {request.seconds:g} seconds.", f"Ask for 1 to {MOST_SECONDS:g}."
            )
        with state.projects.open(project) as opened:
            check_sample(opened, sample)
            return opened.worklist.lease(sample, request.author, request.seconds)

    @serves(routes, Operations.give_back)
    def give_back(project: str, sample: int, author: Author) -> None:
        check_author(author)
        with state.projects.open(project) as opened:
            check_sample(opened, sample)
            opened.worklist.give_back(sample, author)

    @serves(routes, Operations.set_status)
    def set_status(project: str, sample: int, request: StatusRequest, key: Key = "") -> SampleState:
        check_author(request.author)
        with state.projects.open(project) as opened:
            check_sample(opened, sample)
            return opened.worklist.set_status(
                sample, request.status, request.author, key, digest_of(sample, to_json(request))
            )


def _add_annotations(routes: APIRouter, state: State) -> None:
    submitting: defaultdict[str, CapacityLimiter] = defaultdict(
        lambda: CapacityLimiter(_SUBMITTED_AT_ONCE)
    )

    @serves(routes, Operations.annotation)
    def get(
        request: Request,
        project: str,
        sample: int,
        version: Annotated[int | None, Query(ge=0, lt=1 << 31)] = None,
    ) -> Response:
        with state.projects.open(project) as opened:
            check_sample(opened, sample)
            try:
                number, labels = opened.annotations.version(sample, version)
            except InputError as error:
                raise Refused(Code.NOT_FOUND, error.message, error.hint) from error
        return _voxels(request, number, labels)

    @serves(routes, Operations.put_annotation)
    async def put(
        request: Request,
        project: str,
        sample: int,
        author: Author,
        key: Key,
        shape: Annotated[str, Header(alias=Names.SHAPE, pattern=r"^\d{1,6},\d{1,6},\d{1,6}$")],
        dtype: Annotated[str, Header(alias=Names.DTYPE)],
        not_annotated: Annotated[
            int | None, Header(alias=Names.NOT_ANNOTATED, ge=0, le=65535)
        ] = None,
        structures: Annotated[
            int | None, Header(alias=Names.STRUCTURES, ge=0, lt=NOT_ANNOTATED)
        ] = None,
        base_version: Annotated[int, Query(ge=0, lt=1 << 31)] = 0,
        seconds: Annotated[float | None, Query(ge=0, le=1e6)] = None,
        status: Status = Status.DONE,
    ) -> SampleState:
        body, packed = await request.body(), request.headers.get("content-encoding", "identity")

        check_author(author)

        def submit() -> SampleState:
            with state.projects.open(project) as opened:
                check_sample(opened, sample)
                labels = _labels(body, packed, opened.samples.place(sample).shape, shape, dtype)
                known = opened.cases.structures
                changed = bool(known.removed or opened.settings.added_structures)
                labels = _with_own_value(labels, known, changed, not_annotated)
                digest = digest_of(
                    sample, base_version, author, seconds, status.value, dtype, labels.tobytes()
                )
                submission = Submission(
                    labels, base_version, author, seconds, status, structures, key, digest
                )
                return opened.annotations.submit(sample, submission)

        # who waits for another's slice of the same case takes no thread from other projects
        return await run_sync(submit, limiter=submitting[project])


def _add_answers(routes: APIRouter, state: State) -> None:
    """What the model says of a sample."""

    @serves(routes, Operations.proposal)
    def proposal(
        request: Request, project: str, sample: int, source: ProposalSource | None = None
    ) -> Response:
        with state.projects.open(project) as opened:
            check_sample(opened, sample)
            place = opened.samples.place(sample)
            made = newest_proposal(opened, place.case, int(opened.samples.pool.slice[sample]))
            model = None if made is None else ModelFile(*made)
            try:
                found, number = propose(opened, sample, source, model)
            except InputError as error:
                raise Refused(Code.NOT_FOUND, error.message, error.hint) from error
        answer = _voxels(request, number, found.labels)
        answer.headers[Names.SOURCE] = found.source.value
        if found.quality is not None:
            answer.headers[Names.QUALITY] = f"{found.quality:.3f}"
        return answer

    @serves(routes, Operations.uncertainty)
    def uncertainty(
        request: Request, project: str, sample: int, measure: str = "entropy"
    ) -> Response:
        if measure not in MEASURES:
            raise Refused(
                Code.NOT_FOUND,
                f"There is no measure '{measure[:20]}'.",
                f"Ask for {', '.join(MEASURES)}.",
            )
        with state.projects.open(project) as opened:
            check_sample(opened, sample)
            place = opened.samples.place(sample)
            found = newest_output(opened, place.case, f"uncertainty/{measure}")
            newest = opened.rounds.current() - 1
            own = slice_map(opened.rounds_dir / f"{newest + 1:03d}", measure, place.case, sample)
        if newest < 0:
            raise Refused(
                Code.NOT_READY,
                "There is no model yet.",
                "The job 'round' trains one on annotated slices.",
            )
        if own.is_file():
            return _voxels(request, newest, np.load(own))
        if found is None or found[0] < newest:
            what = f"The model of round {newest} has made no map of {measure} for {place.case} yet."
            raise Refused(Code.NOT_READY, what, "Start the job 'uncertainty'.")
        part = state.files.voxels(found[1], place.slices)
        return _voxels(request, found[0], np.ascontiguousarray(part, np.float32))


def check_sample(project: Project, sample: int) -> None:
    """Raise Refused for a sample that is not there, or whose case does not count now."""
    try:
        if not 0 <= sample < 1 << 31:
            raise InputError(f"There is no sample {sample}.", "See the worklist.")
        project.samples.place(sample)
    except InputError as error:
        raise Refused(Code.NOT_FOUND, error.message, error.hint) from error


def check_author(author: str) -> None:
    """Raise InputError for what is no name of a person."""
    usable_name(author, PERSON)


def _labels(
    body: bytes, packed: str, expected: tuple[int, ...], shape: str, dtype: str
) -> np.ndarray:
    """The voxels of a body; raises InputError for anything but labels of the sample's shape."""
    if dtype not in LABEL_DTYPES:
        raise InputError(
            f"Labels cannot be {dtype[:20]}.", f"Send one of {', '.join(LABEL_DTYPES)}."
        )
    if tuple(int(extent) for extent in shape.split(",")) != expected:
        raise InputError(
            f"The labels have the shape {shape}, not {expected}.",
            "Send the sample's box, (k, j, i).",
        )
    kind = np.dtype(dtype).newbyteorder("<")
    size = int(np.prod(expected)) * kind.itemsize
    if packed == "gzip":
        body = gunzip(body, size)
    elif packed != "identity":
        raise InputError(
            f"The encoding {packed[:20]} is not known.", "Send gzip, or the plain bytes."
        )
    if len(body) != size:
        raise InputError(
            f"The body has {len(body)} bytes, not {size}.", "Send the voxels of the sample's box."
        )
    return np.frombuffer(body, kind).reshape(expected).astype(dtype)


def _with_own_value(
    labels: np.ndarray, structures: Structures, changed: bool, named: int | None
) -> np.ndarray:
    """The labels with `NOT_ANNOTATED` in place of the client's value, which alone is legal beside
    the structures.

    Args:
        changed: whether structures came or went since the project was made.
        named: what the client says it is; None: as in version 1 of the contract.
    """
    highest = max((*structures.numbers, *(gone.number for gone in structures.removed)))
    if named is None and changed:
        raise InputError(
            "The structures of the project changed, so nothing says which voxels are open.",
            f"Say it in the header {Names.NOT_ANNOTATED}.",
        )
    value = highest + 1 if named is None else named
    if value <= highest:
        raise InputError(
            f"{value} is a structure, so it cannot mark voxels left open.", f"Use {NOT_ANNOTATED}."
        )
    if value != NOT_ANNOTATED and (labels == NOT_ANNOTATED).any():
        raise InputError(
            f"Labels hold the value {NOT_ANNOTATED}, but {value} marks voxels that are not "
            f"annotated.",
            f"Say which does in the header {Names.NOT_ANNOTATED}.",
        )
    return np.where(labels == value, NOT_ANNOTATED, labels).astype(labels.dtype)


def _voxels(request: Request, number: int, labels: np.ndarray) -> Response:
    headers = {
        Names.VERSION: str(number),
        Names.SHAPE: ",".join(str(extent) for extent in labels.shape),
        Names.DTYPE: labels.dtype.name,
    }
    content = np.ascontiguousarray(labels, labels.dtype.newbyteorder("<")).tobytes()
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = gzip.compress(content, 1), "gzip"
    return Response(content, headers=headers, media_type="application/octet-stream")


def digest_of(*parts: object) -> str:
    """Return what tells a request from others that come with the same key."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()
