"""Connections on which the service has proved itself before anything is sent (`schema.proof`).

The check is part of each new connection, not of a session: a program that takes the port after the
service is gone gets a new connection, and is asked again. What follows goes over the connection
that was checked. The near end of a tunnel may be a Unix socket.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import NewConnectionError

from alunet.agent.contract import WrongVersion
from alunet.agent.proxies import Stranger, in_the_way, stranger
from alunet.errors import AlunetError
from alunet.schema import Code, Header
from alunet.schema.proof import NoProofError, ask_proof, spelled


class Unproven(Stranger):
    """The program that answers does not know the token, or only forwards requests."""

    code = Code.UNAUTHORIZED.value


@dataclass(frozen=True)
class Tunnel:
    """Where a tunnel begins on this computer, and where it leads.

    Attributes:
        address: of the service, as the other computer sees it: "127.0.0.1:4711".
        socket: file of the Unix socket; empty where it begins in a port of loopback.
        port: that port.
    """

    address: str
    socket: str = ""
    port: int = 0


@dataclass(frozen=True)
class Expected:
    """Who is to answer.

    Attributes:
        token: what it must know.
        base, place: its address and computer, for messages.
        tunnel: on the way; None for none.
        passed_on: trust a program in between that forwards requests.
    """

    token: str
    base: str
    place: str
    tunnel: Tunnel | None = None
    passed_on: bool = False

    def check(self, connection: socket.socket) -> None:
        """Raise Stranger, Unproven or WrongVersion where something else answers."""
        try:
            address = ask_proof(connection, self.token)
        except NoProofError as error:
            raise self._refused(error) from error
        if not self.passed_on and address != self._dialed(connection):
            raise Unproven(
                f"{self.base} is not the engine itself: another program passes requests on to "
                f"{address}.",
                "Use ssh://user@host, or a tunnel that begins at the port that the engine has.",
            )

    def _dialed(self, connection: socket.socket) -> str:
        return self.tunnel.address if self.tunnel else spelled(*connection.getpeername()[:2])

    def _refused(self, error: NoProofError) -> AlunetError:
        if error.status is None:
            words = f"{self.base} does not answer as an ALUNet service does."
            return Stranger(words, "Check name and port; another program may use them.")
        answer = requests.Response()
        answer.status_code, answer.headers = error.status, CaseInsensitiveDict(error.headers)
        says_version = Header.API in answer.headers
        if not says_version and (found := in_the_way(self.base, None, answer)) is not None:
            return found
        if says_version and error.status == 200:
            return Unproven(
                f"What answers at {self.base} does not know the token.",
                "Check the token; a service that was started anew may have another one, or another "
                "program has taken its port.",
            )
        if says_version:
            return WrongVersion(
                f"The engine ({self.place}) cannot prove that it knows the token: it is older.",
                f"Update ALUNet there ({self.place}) and start its service anew. What is annotated "
                "meanwhile waits on this computer, and is sent then.",
            )
        return stranger(self.base, error.status)


class ProvenAdapter(HTTPAdapter):
    """Plain HTTP of `requests`, to a service that proves itself on each new connection."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """Make connections of our own kind."""
        super().init_poolmanager(*arguments, **more)
        kinds: Any = {"http": partial(_Pool, self._expected)}
        self.poolmanager.pool_classes_by_scheme = kinds


class _Pool(HTTPConnectionPool):
    def __init__(self, expected: Expected, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.ConnectionCls: Any = partial(_Connection, expected)


class _Connection(HTTPConnection):
    def __init__(self, expected: Expected, **more: Any) -> None:
        super().__init__(**more)
        self._expected = expected

    def _new_conn(self) -> socket.socket:
        tunnel = self._expected.tunnel
        made = super()._new_conn() if tunnel is None else self._enter(tunnel)
        try:
            self._expected.check(made)
        except OSError as error:
            made.close()
            # urllib3 takes a broken pipe for one of a request that was sent
            raise NewConnectionError(self, f"it broke before the proof: {error}") from error
        except BaseException:
            made.close()
            raise
        return made

    def _enter(self, tunnel: Tunnel) -> socket.socket:
        family = socket.AF_UNIX if tunnel.socket else socket.AF_INET
        made = socket.socket(family)
        try:
            made.settimeout(self.timeout)
            if not tunnel.socket:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.connect(tunnel.socket or ("127.0.0.1", tunnel.port))
        except OSError as error:
            made.close()
            raise NewConnectionError(self, f"the tunnel is gone: {error}") from error
        return made
