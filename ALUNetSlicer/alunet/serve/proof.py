"""The service's half of `alunet.schema.proof`: the one request that needs no token."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict
from typing import Any

from alunet.schema import API, Code, Header, Problem
from alunet.schema.proof import PROOF_PATH, prove

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def is_asked(scope: MutableMapping[str, Any]) -> bool:
    """Return whether a request asks for the service's proof."""
    return scope["method"] == "GET" and scope["path"].startswith(PROOF_PATH)


async def answer_proof(scope: MutableMapping[str, Any], send: Send, token: str) -> Problem | None:
    """Answer with the proof; return the problem where the request is no proper one."""
    number = scope["path"].removeprefix(PROOF_PATH)
    host, port = scope.get("server") or ("", 0)
    proof = prove(token, number, str(host), int(port or 0))
    if proof is None:
        return Problem(Code.BAD_REQUEST, "This is no number to prove.", "Send 64 hex digits.")
    body = json.dumps(asdict(proof)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (Header.API.lower().encode(), str(API).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return None
