"""Routes from the declarations of `alunet.schema.operations`."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any

from fastapi import APIRouter, Response

from alunet.schema import File, Operation, Voxels

_BINARY = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
}
_BYTES: dict[Any, dict[int, Any]] = {
    File: {
        200: {**_BINARY, "description": "The bytes"},
        206: {**_BINARY, "description": "Some of the bytes"},
        304: {},
    },
    Voxels: {
        200: {**_BINARY, "description": "Voxels of the sample's box, (k, j, i), little-endian"}
    },
}
Handler = Callable[..., Any]


def serves(
    routes: APIRouter, operation: Operation[Any], responses: dict[int, Any] | None = None
) -> Callable[[Handler], Handler]:
    """Make a function the handler of an operation; its parameters are the operation's arguments.

    Args:
        responses: what OpenAPI says of answers beyond the declaration.
    """
    more: dict[str, Any] = {"responses": responses}
    if operation.answer in _BYTES:
        more = {"responses": _BYTES[operation.answer], "response_class": Response}
    elif operation.answer is not NoneType:
        more["response_model"] = operation.answer
    if operation.body is bytes:
        more["openapi_extra"] = {"requestBody": {**_BINARY, "required": True}}
    return routes.api_route(
        operation.path,
        methods=[operation.method],
        status_code=operation.statuses[0],
        description=operation.summary,
        **more,
    )
