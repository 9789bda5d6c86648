"""Uploads, cases and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from alunet.schema import CaseInfo, CaseRequest, Code, Upload, UploadRequest
from alunet.schema import Header as Names
from alunet.serve import cases
from alunet.serve.problems import Refused
from alunet.serve.state import State

BINARY = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
FILE = {200: {**BINARY, "description": "The bytes"}, 206: {**BINARY, "description": "Some of the bytes"}, 304: {}}


def router(state: State) -> APIRouter:
    """Routes of this subject."""
    routes = APIRouter()
    _add_uploads(routes, state)
    _add_cases(routes, state)
    _add_files(routes, state)
    return routes


def _add_uploads(routes: APIRouter, state: State) -> None:
    @routes.post("/uploads", status_code=201)
    def begin(request: UploadRequest, response: Response) -> Upload:
        """Begin an upload, or find it (200)."""
        upload, fresh = state.uploads.begin(request)
        response.status_code = 201 if fresh else 200
        return upload

    @routes.get("/uploads/{upload}")
    def get(upload: str) -> Upload:
        """How much of an upload is there."""
        return state.uploads.get(upload)

    @routes.patch("/uploads/{upload}", openapi_extra={"requestBody": {**BINARY, "required": True}})
    async def append(upload: str, request: Request, offset: Annotated[int, Header(alias=Names.OFFSET, ge=0)]) -> Upload:
        """Send the next part."""
        return await run_in_threadpool(state.uploads.append, upload, offset, await request.body())


def _add_cases(routes: APIRouter, state: State) -> None:
    @routes.post("/projects/{project}/cases", status_code=201)
    def create(project: str, request: CaseRequest, response: Response) -> CaseInfo:
        """Make a case of finished uploads; the same again finds it (200)."""
        fresh = cases.create(state.projects, state.uploads, project, request, state.settings.limits)
        response.status_code = 201 if fresh else 200
        with state.projects.open(project) as opened:
            return cases.describe(opened, request.name)

    @routes.get("/projects/{project}/cases")
    def get_all(project: str) -> list[CaseInfo]:
        """All cases, by name."""
        with state.projects.open(project) as opened:
            return cases.describe_all(opened)

    @routes.get("/projects/{project}/cases/{case}")
    def get(project: str, case: str) -> CaseInfo:
        """One case."""
        with state.projects.open(project) as opened:
            return cases.describe(opened, case)


def _add_files(routes: APIRouter, state: State) -> None:
    place = "/projects/{project}/cases/{case}"

    def send(request: Request, file: Path | None, name: str, form: str | None) -> Response:
        if file is None or not file.is_file():
            raise Refused(Code.NOT_FOUND, "There is no such file yet.", "A job makes it, or an annotation.")
        return state.files.answer(request, file, name, form)

    @routes.get(place + "/images/{channel}", response_class=Response, responses=FILE)
    def image(request: Request, project: str, case: str, channel: int, format: str | None = None) -> Response:
        """An image as it was uploaded, or in another format."""
        with state.projects.open(project) as opened:
            images = cases.find(opened, case).images
        file = images[channel] if 0 <= channel < len(images) else None
        return send(request, file, f"{case}_{channel}", format)

    @routes.get(place + "/annotation", response_class=Response, responses=FILE)
    def annotation(request: Request, project: str, case: str, format: str | None = None) -> Response:
        """What is annotated of a case; the largest label plus 1 where nobody did."""
        with state.projects.open(project) as opened:
            file = opened.annotations.file(cases.find(opened, case).name)
        return send(request, file, f"{case}_annotation", format)

    @routes.get(place + "/proposal", response_class=Response, responses=FILE)
    def proposal(request: Request, project: str, case: str, format: str | None = None) -> Response:
        """The newest segmentation of a case."""
        return send(request, _output(state, project, case, "proposals"), f"{case}_proposal", format)

    @routes.get(place + "/uncertainty", response_class=Response, responses=FILE)
    def uncertainty(
        request: Request, project: str, case: str, measure: str = "entropy", format: str | None = None
    ) -> Response:
        """The newest uncertainty map of a case."""
        if not measure.replace("-", "").replace("_", "").isalnum():
            raise Refused(Code.NOT_FOUND, "There is no such measure.")
        return send(request, _output(state, project, case, f"uncertainty/{measure}"), f"{case}_{measure}", format)


def _output(state: State, project: str, case: str, what: str) -> Path | None:
    with state.projects.open(project) as opened:
        found = cases.newest_output(opened, cases.find(opened, case).name, what)
        return None if found is None else found[1]
