"""Check each request before it is served: its token, the length of its body, and the version of
the contract, which every answer names.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from alunet.schema import API, PART_BYTES, Code, Header, Problem, to_json
from alunet.serve.connections import showed_token
from alunet.serve.problems import RETRY_AFTER, STATUS, Refused, problem_of
from alunet.serve.proof import answer_proof, is_asked
from alunet.serve.settings import ServiceSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestGuard:
    """ASGI middleware around the whole application.

    Attributes:
        last: `time.monotonic` of the last request with the right token.
        open: requests being answered now.
    """

    def __init__(self, app: App, settings: ServiceSettings, raw_limit: int = PART_BYTES) -> None:
        self._app, self._settings, self._raw_limit = app, settings, raw_limit
        self._expected = b"Bearer " + settings.token.encode("ascii")
        self.last, self.open = time.monotonic(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it before anything of it is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if is_asked(scope):
            if (problem := await answer_proof(scope, send, self._settings.token)) is not None:
                await answer(send, problem)
            return
        headers = dict(scope["headers"])
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            hint = (
                "Send the header 'Authorization: Bearer …' with the token that the service was "
                "started with."
            )
            await answer(send, Problem(Code.UNAUTHORIZED, "The token is missing or wrong.", hint))
            return
        showed_token(scope)
        self.last, self.open = time.monotonic(), self.open + 1
        try:
            await self._serve(scope, headers, receive, send)
        finally:
            self.last, self.open = time.monotonic(), self.open - 1

    async def _serve(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [
                    *message["headers"],
                    (Header.API.lower().encode(), str(API).encode()),
                ]
            await send(message)

        limit = self._limit(headers)
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:
            await answer(send, _too_large(limit).problem)
            return
        try:
            await self._app(scope, _bounded(receive, limit), sending)
        except Exception as error:  # the last line of defence: one shape for every error
            if begun:
                raise
            await answer(send, problem_of(error))

    def _limit(self, headers: dict[bytes, bytes]) -> int:
        json_body = headers.get(b"content-type", b"").startswith(b"application/json")
        return self._settings.limits.json_body if json_body else self._raw_limit


def _bounded(receive: Receive, limit: int) -> Receive:
    got = 0

    async def receiving() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > limit:
            raise _too_large(limit)
        return message

    return receiving


def _too_large(limit: int) -> Refused:
    return Refused(
        Code.TOO_LARGE, f"The body is larger than {limit} bytes.", "Send less at a time."
    )


async def answer(send: Send, problem: Problem) -> None:
    """Send a problem as the whole answer."""
    body = json.dumps(to_json(problem), ensure_ascii=False).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (Header.API.lower().encode(), str(API).encode()),
    ]
    if problem.code is Code.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    status = STATUS[problem.code]
    if status in RETRY_AFTER:
        headers.append((b"retry-after", RETRY_AFTER[status].encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
