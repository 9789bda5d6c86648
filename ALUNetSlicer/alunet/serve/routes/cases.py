"""Uploads, cases and their files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from alunet.schema import CaseInfo, CaseRequest, Code, Job, Operations, Upload, UploadRequest
from alunet.schema import Header as Names
from alunet.serve import cases, imports
from alunet.serve.problems import Refused
from alunet.serve.routes.declared import serves
from alunet.serve.state import State

_APPENDED_AT_ONCE = 4
"""Threads for parts of uploads; quick requests have their own."""


def router(state: State) -> APIRouter:
    """Routes of this subject."""
    routes = APIRouter()
    _add_uploads(routes, state)
    _add_cases(routes, state)
    _add_files(routes, state)
    return routes


def _add_uploads(routes: APIRouter, state: State) -> None:
    appending = CapacityLimiter(_APPENDED_AT_ONCE)

    @serves(routes, Operations.begin_upload)
    def begin(request: UploadRequest, response: Response) -> Upload:
        upload, fresh = state.uploads.begin(request)
        response.status_code = 201 if fresh else 200
        return upload

    @serves(routes, Operations.upload)
    def get(upload: str) -> Upload:
        return state.uploads.get(upload)

    @serves(routes, Operations.append)
    async def append(
        upload: str, request: Request, offset: Annotated[int, Header(alias=Names.OFFSET, ge=0)]
    ) -> Upload:
        # each part waits for the disk, the last for the checksum of all
        content = await request.body()
        return await run_sync(state.uploads.append, upload, offset, content, limiter=appending)


def _add_cases(routes: APIRouter, state: State) -> None:
    @serves(routes, Operations.add_case)
    def create(project: str, request: CaseRequest, response: Response) -> Job:
        limit = state.settings.limits.imports
        job, fresh = imports.begin(state.projects, state.uploads, project, request, limit)
        response.status_code = 202 if fresh else 200
        state.supervisor.wake(project)
        return job

    @serves(routes, Operations.cases)
    def get_all(project: str) -> list[CaseInfo]:
        with state.projects.open(project) as opened:
            return cases.describe_cases(opened)

    @serves(routes, Operations.case)
    def get(project: str, case: str) -> CaseInfo:
        with state.projects.open(project) as opened:
            return cases.describe_case(opened, case)


def _add_files(routes: APIRouter, state: State) -> None:
    async def send(
        request: Request, find: Callable[[], Path | None], name: str, form: str | None
    ) -> Response:
        file = await run_in_threadpool(find)
        if file is None or not file.is_file():
            raise Refused(
                Code.NOT_FOUND, "There is no such file yet.", "A job makes it, or an annotation."
            )
        return await state.files.answer(request, file, name, form)

    @serves(routes, Operations.case_image)
    async def image(
        request: Request, project: str, case: str, channel: int, format: str | None = None
    ) -> Response:
        find = partial(_image, state, project, case, channel)
        return await send(request, find, f"{case}_{channel}", format)

    @serves(routes, Operations.case_annotation)
    async def annotation(
        request: Request, project: str, case: str, format: str | None = None
    ) -> Response:
        find = partial(_annotation, state, project, case)
        return await send(request, find, f"{case}_annotation", format)

    @serves(routes, Operations.case_proposal)
    async def proposal(
        request: Request, project: str, case: str, format: str | None = None
    ) -> Response:
        find = partial(_output, state, project, case, "proposals")
        return await send(request, find, f"{case}_proposal", format)

    @serves(routes, Operations.case_uncertainty)
    async def uncertainty(
        request: Request,
        project: str,
        case: str,
        measure: str = "entropy",
        format: str | None = None,
    ) -> Response:
        if not measure.replace("-", "").replace("_", "").isalnum():
            raise Refused(Code.NOT_FOUND, "There is no such measure.")
        find = partial(_output, state, project, case, f"uncertainty/{measure}")
        return await send(request, find, f"{case}_{measure}", format)


def _image(state: State, project: str, case: str, channel: int) -> Path | None:
    with state.projects.open(project) as opened:
        images = cases.find(opened, case).images
        file = images[channel] if 0 <= channel < len(images) else None
        if file is not None:
            opened.cases.files.check_case(case, [file])
        return file


def _annotation(state: State, project: str, case: str) -> Path | None:
    with state.projects.open(project) as opened:
        found = cases.find(opened, case)
        annotated = opened.cases.row(found.name).voxels is not None
        return opened.annotations.maps.sound_file(found.name) if annotated else None


def _output(state: State, project: str, case: str, what: str) -> Path | None:
    with state.projects.open(project) as opened:
        found = cases.newest_output(opened, cases.find(opened, case).name, what)
        return None if found is None else found[1]
