"""`alunet serve`: one service a root, on one address, with a token, for as long as it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import secrets
import socket
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn

from alunet.errors import InputError
from alunet.schema import API, Announcement, to_json
from alunet.serve.app import build
from alunet.serve.connections import (
    ACCEPTED,
    HEAD_BYTES,
    WAITING,
    Connections,
    HttpConnection,
    raise_limit,
)
from alunet.serve.guard import RequestGuard
from alunet.serve.root_folder import prepare_root
from alunet.serve.running import NOTE, running_service
from alunet.serve.settings import ServiceSettings
from alunet.serve.state import State
from alunet.storage.files import write_json
from alunet.storage.locks import FileLock

_GRACE_SECONDS = 3
_TOKEN_BYTES = 32


@dataclass(frozen=True)
class Address:
    """Where to listen, and how.

    Attributes:
        host: name or number; loopback is safe, anything else needs TLS or `open_http`.
        port: 0: any free one.
        certificate, key: PEM files of TLS; None: plain HTTP.
        open_http: listen beyond loopback without TLS all the same.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    open_http: bool = False

    def check(self) -> None:
        """Raises InputError for what cannot be, or what should not be."""
        if (self.certificate is None) != (self.key is None):
            raise InputError(
                "TLS needs a certificate and its key.", "Give --tls-cert and --tls-key."
            )
        for file in (self.certificate, self.key):
            if file is not None and not file.is_file():
                raise InputError(f"There is no file {file}.", "Give a PEM file.")
        if not is_loopback(self.host) and self.certificate is None and not self.open_http:
            raise InputError(
                f"{self.host} can be reached from outside, and without TLS everybody on the way "
                f"can read along.",
                "Use ssh:// from the client instead, or give --tls-cert and --tls-key, or "
                "--allow-insecure-http.",
            )

    def context(self) -> ssl.SSLContext | None:
        """TLS of these files; None: plain HTTP. Raises InputError where they cannot be used."""
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"{self.certificate} and {self.key} cannot be used: {error}.",
                "Give a certificate and its key without a password, both PEM.",
            ) from error
        return context


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(
    settings: ServiceSettings, address: Address, announce: Callable[[Announcement], None]
) -> None:
    """Serve until the process is told to end, or until it is idle for too long.

    Where a service runs on that root already it is announced instead, and nothing is started.

    Raises:
        InputError: the address or the TLS files cannot be used.
    """
    address.check()
    prepare_root(settings.root)
    lock = FileLock(settings.own / "service.lock")
    if not lock.take():
        announce(running_service(settings.own))
        return
    with lock, _listen(address) as listening:
        # of a service that was killed: clients must not take it for this one's
        (settings.own / NOTE).unlink(missing_ok=True)
        _run(settings, address, listening, announce)


@contextlib.contextmanager
def _listen(address: Address) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # The protocol is named, or asyncio leaves Nagle's algorithm on: each short answer would wait 40
    # ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        if sys.platform == "win32":  # there others could listen beside us otherwise
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address.host, address.port))
        except (OSError, OverflowError) as error:
            hint = "Choose another --port, or 0 for any free one."
            raise InputError(
                f"{address.host}:{address.port} cannot be used: {error}.", hint
            ) from error
        yield listening


def _run(
    settings: ServiceSettings,
    address: Address,
    listening: socket.socket,
    announce: Callable[[Announcement], None],
) -> None:
    connections = Connections(raise_limit(), address.context())
    state = State(settings)
    guard = RequestGuard(build(state), settings)
    config = uvicorn.Config(
        guard,
        # uvicorn gives no header a time, and begins TLS before it knows of a connection
        http=partial(HttpConnection, all_connections=connections),  # type: ignore[arg-type]
        h11_max_incomplete_event_size=HEAD_BYTES,
        backlog=ACCEPTED,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    scheme = "http" if address.certificate is None else "https"
    host = f"[{address.host}]" if ":" in address.host else address.host
    place = f"{scheme}://{host}:{listening.getsockname()[1]}"
    note = Announcement(place, settings.token, os.getpid(), API)
    file = settings.own / NOTE

    def ready() -> None:
        write_json(file, to_json(note))
        announce(note)

    server = _Server(config, state, guard, connections, ready)
    try:
        server.run(sockets=[listening])
    finally:
        file.unlink(missing_ok=True)
        state.close()


class _Server(uvicorn.Server):
    """uvicorn, which says when it listens and ends when nobody needs it."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: State,
        guard: RequestGuard,
        connections: Connections,
        ready: Callable[[], object],
    ) -> None:
        super().__init__(config)
        self._state, self._guard, self._ready = state, guard, ready
        self._connections = connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._connections.heard_trouble)
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(WAITING)
        if not self.should_exit:
            self._watch = asyncio.create_task(self._connections.watch())
            self._ready()
            self._idle = asyncio.create_task(self._end_when_idle())

    async def _end_when_idle(self) -> None:
        limit = self._state.settings.idle_seconds
        while limit is not None and not self.should_exit:
            await asyncio.sleep(min(1.0, limit / 2))
            idle = time.monotonic() - self._guard.last
            if idle > limit and not self._guard.open and not self._state.busy():
                self.should_exit = True


def read_token(file: Path) -> str:
    """The token in `file`, made there where it is missing; only its owner may be able to read the
    file.

    Raises:
        InputError: others can read the file, or it holds no usable token.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="ascii") as stream:
            stream.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    if os.name != "nt" and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"Others can read the token file {file}.", f"Type: chmod 600 {file}")
    token = file.read_text(encoding="ascii", errors="replace").strip()
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"{file} holds no usable token.", "Remove the file; a new token is made then."
        )
    return token
