"""Jobs and events."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from alunet.errors import InputError
from alunet.project import Project
from alunet.schema import (
    EVENT_STREAM,
    Code,
    Job,
    JobKind,
    JobRequest,
    NumberedEvent,
    Operations,
    to_json,
)
from alunet.schema import Header as Names
from alunet.serve import tasks
from alunet.serve.problems import Refused
from alunet.serve.routes.declared import serves
from alunet.serve.state import State
from alunet.storage.disk_space import check_room

_LOOK_SECONDS = 0.3
_MOST_EVENTS = 1000
_HEARTBEAT_SECONDS = 10.0
Number = Annotated[int, Query(ge=0, lt=1 << 62)]


def router(state: State) -> APIRouter:
    """Routes of this subject."""
    routes = APIRouter()
    _add_jobs(routes, state)
    _add_events(routes, state)
    return routes


def _add_jobs(routes: APIRouter, state: State) -> None:
    @serves(routes, Operations.start)
    def start(
        project: str,
        request: JobRequest,
        key: Annotated[str, Header(alias=Names.KEY, max_length=100)] = "",
    ) -> Job:
        if request.kind is JobKind.IMPORT:
            raise InputError(
                "An import begins with its case.", "Send the case's name and its uploads."
            )
        tasks.check(request.kind, request.options)
        with state.projects.open(project) as opened:
            number = _begin(opened, request, key, state.settings.limits.jobs)
            state.supervisor.wake(project)
            return opened.jobs.get(number)

    @serves(routes, Operations.jobs)
    def get_all(project: str) -> list[Job]:
        with state.projects.open(project) as opened:
            return opened.jobs.all()

    @serves(routes, Operations.job)
    def get(project: str, job: int) -> Job:
        with state.projects.open(project) as opened:
            return _find(opened, job)

    @serves(routes, Operations.cancel_job)
    def cancel(project: str, job: int) -> Job:
        with state.projects.open(project) as opened:
            _find(opened, job)
            opened.jobs.cancel(job)
            state.supervisor.wake(project)
            return opened.jobs.get(job)

    @serves(routes, Operations.result)
    async def result(request: Request, project: str, job: int) -> Response:
        def find() -> Path | None:
            with state.projects.open(project) as opened:
                _find(opened, job)
                return opened.jobs.result(job)

        file = await run_in_threadpool(find)
        if file is None or not file.is_file():
            raise Refused(
                Code.NOT_FOUND,
                "The job has made no file.",
                "Only exports and simulations make one.",
            )
        return await state.files.answer(request, file, file.stem)


def _begin(project: Project, request: JobRequest, key: str, most: int) -> int:
    """Number of the job of that request, new unless its key was there before."""
    digest = hashlib.sha256(json.dumps(to_json(request), sort_keys=True).encode()).hexdigest()
    with project.together():
        known = project.requests.answer(key, digest)
        if known is not None:
            return known["job"]
        waiting = [job for job in project.jobs.all(unfinished=True) if job.kind != JobKind.IMPORT]
        if len(waiting) >= most:
            raise Refused(
                Code.TOO_MANY,
                f"{most} jobs of the project wait already.",
                "Wait for them, or cancel some.",
            )
        check_room(project.root)
        number = project.jobs.add(request.kind, request.options)
        project.requests.keep(key, digest, {"job": number})
        return number


def _find(project: Project, number: int) -> Job:
    try:
        return project.jobs.get(number if abs(number) < 1 << 62 else 0)
    except InputError as error:
        raise Refused(Code.NOT_FOUND, error.message, error.hint) from error


def _add_events(routes: APIRouter, state: State) -> None:
    stream = {200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}}

    @serves(routes, Operations.events, stream)
    async def events(
        request: Request,
        project: str,
        after: Number = 0,
        limit: Annotated[int, Query(ge=1, le=_MOST_EVENTS)] = 100,
        last: Annotated[str, Header(alias="Last-Event-ID")] = "",
    ) -> Response | list[NumberedEvent]:
        def read(position: int) -> list[NumberedEvent]:
            with state.projects.open(project) as opened:
                found = opened.events.after(position, limit)
            return [
                NumberedEvent(number, event.kind, event.data, event.time) for number, event in found
            ]

        first = await run_in_threadpool(read, after)
        if EVENT_STREAM not in request.headers.get("accept", ""):
            return first

        async def lines() -> AsyncIterator[str]:
            position, spoken = (
                int(last) if last.isdecimal() and len(last) < 19 else after,
                time.monotonic(),
            )
            yield ": begin\n\n"
            while not state.closing:
                for event in await run_in_threadpool(read, position):
                    position, spoken = event.number, time.monotonic()
                    content = json.dumps(to_json(event), ensure_ascii=False)
                    yield f"id: {event.number}\nevent: {event.kind}\ndata: {content}\n\n"
                if time.monotonic() - spoken > _HEARTBEAT_SECONDS:
                    spoken = time.monotonic()
                    yield ": alive\n\n"
                await asyncio.sleep(_LOOK_SECONDS)

        return StreamingResponse(
            lines(), media_type=EVENT_STREAM, headers={"Cache-Control": "no-store"}
        )
