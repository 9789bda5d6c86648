"""The connections of a service: who has not shown the token costs little, and not for long.

A connection is a stranger until a request with the right token came over it. A stranger has some
seconds, a few requests and some bytes for that, whatever it sends or does not send, its TLS
handshake among it. Strangers have a part of the room alone: where it is full, the one that came
first has to go. Others are ended where they do not go on: no request, half a head, a body that
stalls, an answer that nobody takes.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from collections import OrderedDict
from collections.abc import MutableMapping
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

STRANGER_SECONDS = 10.0
"""How long a connection may be without a request that carries the token."""
_STRANGER_BYTES, _STRANGER_REQUESTS = 1 << 20, 4
"""What is taken from it meanwhile: a body that is thrown away, so that its sender hears why."""
IDLE_SECONDS = 30.0
"""How long a request may take to arrive, and a part of its body to follow the one before."""
_UNREAD_SECONDS = 120.0
"""How long an answer may wait for its reader."""
_LOOK_SECONDS = 1.0
_MOST_HANDSHAKES, _TLS_BUFFER = 4096, 32 << 10
"""Strangers with TLS, each of 0.1 MiB, and bytes kept for each: asyncio would keep eight times as
many.
"""
_HANDSHAKE, _MOST_RECORD = b"\x16", 5 + (16 << 10)
_MOST_FILES, _SAFE_FILES = 65_536, 10_240
HEAD_BYTES = 16 << 10
"""Of the first line and all headers."""
WAITING, ACCEPTED = 2048, 64
"""How many connections the system keeps until they are accepted, and how many are at once."""

log = logging.getLogger("alunet.serve")


class Connections:
    """All connections of a service.

    Args:
        files: how many files and connections the process may have open.
        context: of TLS; None: plain HTTP.
    """

    def __init__(self, files: int, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.most_strangers, self.most_known = files // 4, files // 2  # the rest: projects
        if context is not None:
            SSLProtocol.max_size = _TLS_BUFFER  # type: ignore[attr-defined]
            self.most_strangers = min(self.most_strangers, _MOST_HANDSHAKES)
        self.strangers: OrderedDict[HttpConnection, None] = OrderedDict()
        self.known: OrderedDict[HttpConnection, None] = OrderedDict()

    def arrived(self, connection: HttpConnection) -> None:
        """Take up a connection, in the place of the oldest stranger where there are too many."""
        self.strangers[connection] = None
        while len(self.strangers) > self.most_strangers:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """End the stranger that came first."""
        if self.strangers:
            self.strangers.popitem(last=False)[0].end()

    def showed_token(self, connection: HttpConnection) -> None:
        """A request with the token came over a connection."""
        if connection.closed:
            return
        self.strangers.pop(connection, None)
        self.known[connection] = None
        self.known.move_to_end(connection)
        if len(self.known) > self.most_known:
            idle = next((each for each in self.known if not each.is_at_work), None)
            if idle is not None:
                idle.end()

    def left(self, connection: HttpConnection) -> None:
        """A connection is closed."""
        self.strangers.pop(connection, None)
        self.known.pop(connection, None)

    async def watch(self) -> None:
        """End what does not go on, for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = asyncio.get_running_loop().time()
            while (oldest := next(iter(self.strangers), None)) is not None:
                if now - oldest.since < STRANGER_SECONDS:
                    break
                self.drop_oldest()
            for connection in [each for each in self.known if each.is_stalled(now)]:
                connection.end()

    def heard_trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what the event loop has to say, in words that repeat; without descriptors make
        room.
        """
        error = context.get("exception")
        if isinstance(error, OSError) and "accept" in str(context.get("message")):
            self.drop_oldest()
            log.error("No connection can be accepted: %s.", error.strerror)
            return
        known = isinstance(error, ConnectionError | TimeoutError | ssl.SSLError)
        if not known:
            log.error("%s", context.get("message"), exc_info=error)


class HttpConnection(H11Protocol):
    """One connection: uvicorn's, and what `Connections` wants to know of it.

    Attributes:
        since: when it came, in seconds of the event loop.
        closed: whether it is gone.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        all_connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.app_state = {**app_state, "connection": self}
        self._all = all_connections
        self._raw: asyncio.Transport | None = None
        self._known = self.closed = self._is_open = False
        self.since = self._heard = self.loop.time()
        self._bytes, self._requests, self._early = 0, 0, b""
        self._unread_since: float | None = None
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take up the connection, and begin with TLS where there is any."""
        self._raw = transport
        self._all.arrived(self)
        if self.closed:
            return
        if self._all.context is None:
            self._opened(transport)

    def _greeted(self, data: bytes, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        """Begin with TLS when its first message is there: that costs memory and time, which a
        stranger that says nothing, half of it or something else is not worth.
        """
        self._early += data
        if not is_greeting(self._early):
            self.end()
        elif len(self._early) >= greeting_bytes(self._early):
            transport.pause_reading()
            self._handshake = self.loop.create_task(self._shake_hands(transport, context))

    async def _shake_hands(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        early, self._early = self._early, b""
        secures = self.loop.create_task(
            self.loop.start_tls(
                transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=STRANGER_SECONDS,
            )
        )
        try:
            for _ in range(2):  # it takes the transport over, and then begins to listen
                await asyncio.sleep(0)
            _feed(transport.get_protocol(), early)
            secured = await secures
        except (OSError, asyncio.CancelledError):  # an error of TLS is one of the system
            secures.cancel()
            transport.abort()
            self._gone()
            return
        if secured is not None and not self.closed:
            self._opened(secured)

    def _opened(self, transport: asyncio.Transport) -> None:
        self._is_open = True
        super().connection_made(transport)
        early, self._early = self._early, b""
        if early:
            super().data_received(early)

    def data_received(self, data: bytes) -> None:
        """Take bytes, of a stranger not many."""
        self._heard = self.loop.time()
        if not self._known:
            self._bytes += len(data)
            if self._bytes > _STRANGER_BYTES:
                self.end()
                return
        context = self._all.context
        if context is not None and self._handshake is None and self._raw is not None:
            self._greeted(data, self._raw, context)
        elif self._is_open:
            super().data_received(data)
        else:  # the first request came with the end of the handshake
            self._early += data

    def on_response_complete(self) -> None:
        """Go on to the next request, of a stranger not often."""
        self._heard = self.loop.time()
        self._requests += 1
        if not self._known and self._requests >= _STRANGER_REQUESTS:
            self.transport.close()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The reader of an answer does not follow."""
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._unread_since = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._gone()
        if self._is_open:
            super().connection_lost(exc)

    def _gone(self) -> None:
        self.closed = True
        self._all.left(self)

    def showed_token(self) -> None:
        """A request with the token came over it."""
        self._known = True
        self._all.showed_token(self)

    def end(self) -> None:
        """End the connection at once, and its request where that still arrives."""
        self._gone()
        if self._handshake is not None and not self._is_open:
            self._handshake.cancel()
        if self._raw is not None:
            self._raw.abort()

    @property
    def is_at_work(self) -> bool:
        """Whether a request is answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def is_stalled(self, now: float) -> bool:
        """Whether the other side keeps the connection from going on."""
        if self._unread_since is not None:
            return now - self._unread_since > _UNREAD_SECONDS
        waits_for_it = not self.is_at_work or (self.cycle.more_body and not self.flow.read_paused)
        return waits_for_it and now - self._heard > IDLE_SECONDS


def is_greeting(first: bytes) -> bool:
    """Return whether bytes are the beginning of a TLS connection (RFC 8446, 5.1)."""
    return first[:1] == _HANDSHAKE and greeting_bytes(first) <= _MOST_RECORD


def greeting_bytes(first: bytes) -> int:
    """Return how many bytes the first message of TLS takes; its head, where more are missing."""
    head = len(_HANDSHAKE) + 2 + 2  # kind, version, length
    return head if len(first) < head else head + int.from_bytes(first[head - 2 : head], "big")


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Give a protocol bytes that came before it, as its transport would."""
    while data and isinstance(protocol, asyncio.BufferedProtocol):
        buffer = memoryview(protocol.get_buffer(len(data)))
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]


def showed_token(scope: MutableMapping[str, Any]) -> None:
    """Tell the connection of a request that it carried the token."""
    connection = scope.get("state", {}).get("connection")
    if isinstance(connection, HttpConnection):
        connection.showed_token()


def raise_limit() -> int:
    """Raise the limit of open files to what the system allows; return it."""
    if sys.platform == "win32":
        return _SAFE_FILES  # sockets have no such limit there
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (_MOST_FILES, _SAFE_FILES):
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and most > soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            except (OSError, ValueError):  # macOS says it has no limit, and has one
                continue
            return most
    return _MOST_FILES if soft == resource.RLIM_INFINITY else min(soft, _MOST_FILES)
