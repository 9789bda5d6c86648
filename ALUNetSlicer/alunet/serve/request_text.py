"""Brings the text of requests into one Unicode form, and refuses what is not text.

JSON can spell half of a surrogate pair. No answer could ever send such a string again, so that none
may be stored.
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

from alunet.errors import AlunetError
from alunet.schema import Code, Problem
from alunet.schema.names import composed, is_text
from alunet.serve.guard import App, Message, Receive, Scope, Send, answer
from alunet.serve.problems import problem_of

_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
"""Half of a surrogate pair, as if UTF-8 had it."""


class TextCheck:
    """ASGI middleware: passes address, headers and JSON bodies on as composed text (NFC), or
    refuses them.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it in one line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope = {**scope, **_address(scope)}
            if _is_json(scope):
                receive = _replaying(_body(await _all_of(receive)), receive)
        except AlunetError as error:
            await answer(send, problem_of(error))
            return
        except UnicodeError as error:
            await answer(send, _no_text(str(error.args[-1])))
            return
        await self._app(scope, receive, send)


def _no_text(where: str) -> Problem:
    hint = "Send Unicode text in UTF-8, without NUL and without half of a surrogate pair."
    return Problem(Code.BAD_REQUEST, f"The {where} of the request holds what is no text.", hint)


def _address(scope: Scope) -> dict[str, Any]:
    """Path and query in the one Unicode form; raises UnicodeError where they are no text."""
    query = scope["query_string"]
    for where, raw in (("path", scope.get("raw_path") or b""), ("query", query)):
        _check(_decoded(unquote_to_bytes(raw), where), where)
    if any(_SURROGATE.search(value) or b"\0" in value for _, value in scope["headers"]):
        raise UnicodeError("header")
    pairs = parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True)
    if all(unicodedata.is_normalized("NFC", part) for pair in pairs for part in pair):
        return {"path": composed(scope["path"])}
    again = urlencode([(name, composed(value)) for name, value in pairs])
    return {"path": composed(scope["path"]), "query_string": again.encode("ascii")}


def _body(content: bytes) -> bytes:
    """A JSON body in the one Unicode form; what is no JSON stays, and is refused further on.

    Raises:
        UnicodeError: a string of it is no text.
    """
    if b"\0" in content:  # JSON has none, but in another encoding, which is not asked for
        raise UnicodeError("body")
    text = _decoded(content.removeprefix(codecs.BOM_UTF8), "body")
    try:
        data = json.loads(text)
        words = json.dumps(data, ensure_ascii=False)
    except (ValueError, RecursionError):
        return content
    if not is_text(words) or _holds_nul(words):
        raise UnicodeError("body")
    if unicodedata.is_normalized("NFC", words):
        return content
    return json.dumps(_composed(data)).encode("ascii")


def _holds_nul(words: str) -> bool:
    """Whether JSON spells a NUL: an odd number of backslashes before it makes it one."""
    return any(len(found[1]) % 2 for found in re.finditer(r"(\\+)u0000", words))


def _composed(data: Any) -> Any:
    if isinstance(data, str):
        return composed(data)
    if isinstance(data, list):
        return [_composed(item) for item in data]
    if isinstance(data, dict):
        return {composed(key): _composed(value) for key, value in data.items()}
    return data


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise UnicodeError(where) from None


def _check(text: str, where: str) -> None:
    if not is_text(text):
        raise UnicodeError(where)


def _is_json(scope: Scope) -> bool:
    """Whether the body is read as JSON: where its type says so."""
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return scope["method"] not in ("GET", "HEAD") and b"json" in kind.lower()


async def _all_of(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
    return b"".join(parts)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """The whole body at once, then whatever else there is to hear."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return waiting.pop() if waiting else await receive()

    return receiving
