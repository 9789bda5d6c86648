"""The application: all routes, one shape for every error, one description of it all."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import alunet
from alunet.errors import AlunetError
from alunet.schema import PREFIX, Code, Problem, to_json
from alunet.serve.problems import RETRY_AFTER, STATUS, problem_of
from alunet.serve.request_text import TextCheck
from alunet.serve.routes import cases, changes, jobs, service, structures, work
from alunet.serve.state import State

_DESCRIPTION = """
Every request carries `Authorization: Bearer TOKEN`. Every error is a `Problem`: a code for programs, a message and a
hint for people.
"""  # noqa: E501 - the document is compared with a recorded one


def build(state: State) -> FastAPI:
    """The application of a service, still without `alunet.serve.guard.RequestGuard`."""
    app = FastAPI(
        title="ALUNet",
        version=alunet.__version__,
        description=_DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": Problem, "description": "Refused"}},
    )
    for room in (service, structures, cases, changes, work, jobs):
        app.include_router(room.router(state), prefix=PREFIX)
    app.add_middleware(TextCheck)
    for kind in (AlunetError, OSError, Exception):
        # of the last, the framework logs the whole story
        app.add_exception_handler(kind, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return app


def respond(problem: Problem, headers: Any = None) -> JSONResponse:
    """A problem as an answer."""
    status = STATUS[problem.code]
    if status in RETRY_AFTER:
        headers = {**(headers or {}), "Retry-After": RETRY_AFTER[status]}
    return JSONResponse(to_json(problem), status, headers=headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return respond(problem_of(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    first = (
        error.errors()[0]
        if isinstance(error, RequestValidationError)
        else {"loc": (), "msg": "invalid"}
    )
    place = ".".join(str(part) for part in first["loc"][1:])
    hint = f"The description of this address is in {PREFIX}/openapi.json."
    return respond(Problem(Code.BAD_REQUEST, f"{place}: {first['msg']}".removeprefix(": "), hint))


async def _http(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: Code.NOT_FOUND, 405: Code.NOT_ALLOWED}.get(status, Code.BAD_REQUEST)
    headers = error.headers if isinstance(error, HTTPException) else None
    return respond(
        Problem(code, "There is nothing at this address for this method.", "See the description."),
        headers,
    )
