"""HTTP with manners: a timeout on everything, retries of what is safe to repeat, errors in plain
words.

The token goes in a header and nowhere else, and on this computer only to a service that has proved
itself (`proven`). It never follows a redirect, and it never goes in clear
text to another computer. Certificate checks cannot be switched off; a hospital's own authority is
named with `ca`.
"""

from __future__ import annotations

import ipaddress
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from alunet.agent import proxies
from alunet.agent.contract import check_engine
from alunet.agent.proven import Expected, ProvenAdapter, Tunnel
from alunet.agent.proxies import (
    NONE,
    PASSING,
    ProxyInTheWay,
    Stranger,
    advice,
    proxy_for,
    through,
)
from alunet.errors import AlunetError, Cancelled, InputError
from alunet.schema import PREFIX, Code, Header, Operation, Problem, from_json

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
ATTEMPTS = 5
FIRST_PAUSE = 0.2


class Unreachable(AlunetError):
    """No answer of the service; whether it got the request is not known."""

    code = "unreachable"


class ServiceError(AlunetError):
    """The service answered with a `Problem`; it has taken no harm, and changed nothing unless
    the code says so.
    """

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.message, problem.hint)
        self.status = status
        self.code: str = problem.code.value
        self.details = problem.details


class _Bearer(requests.auth.AuthBase):
    """Sets the header by itself: `requests` would otherwise put in what it finds in ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@dataclass
class Cancel:
    """A wish to stop, asked for at every step of a transfer and every pause."""

    event: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise `Cancelled` where the wish was uttered."""
        if self.event.is_set():
            raise Cancelled("Stopped.", "What was sent already is kept by the service.")

    def sleep(self, seconds: float) -> None:
        """Pause; raise `Cancelled` as soon as the wish is uttered."""
        self.event.wait(seconds)
        self.check()


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        path: below `PREFIX`.
        body: goes as JSON.
        data: goes as it is.
    """

    method: str
    path: str
    body: Any = None
    data: bytes | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def request_for(operation: Operation[Any], given: Mapping[str, Any], **more: Any) -> Request:
    """The request of an operation with these arguments; `more` is `data` and `headers`."""
    path, params, body = operation.split(given)
    return Request(operation.method, path, body, params=params, **more)


class HttpTransport:
    """Requests to one service; may be used from several threads.

    Args:
        base: for instance ``https://gpu.hospital.example:8443``, without `PREFIX`.
        token: of the service.
        ca: file with the certificate authority to trust; without it the ones `requests` knows.
        allow_plain: send the token in clear text to another computer, in a network that is trusted;
            on this one, trust a tunnel that the person has made.
        place: the engine's computer, as a person knows it; without: the host in `base`.
        direct: ask no proxy, whatever the environment says; never one is asked for loopback.
        tunnel: the way to `base`, which is the address on the other computer then.

    Raises:
        InputError: no such address, or it would need `allow_plain`.
    """

    def __init__(
        self,
        base: str,
        token: str,
        ca: str | None = None,
        allow_plain: bool = False,
        place: str = "",
        direct: bool = False,
        tunnel: Tunnel | None = None,
    ) -> None:
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"{base!r} is no address of a service.", "Write it like https://host:8443."
            )
        self.loopback = is_loopback(parts.hostname)
        if parts.scheme == "http" and not self.loopback and not allow_plain:
            raise InputError(
                f"{base} is not encrypted: token and images could be read on the way.",
                "Use https://…, or ssh://user@host, which needs no certificate; or allow it "
                "explicitly.",
            )
        if ca is not None and not Path(ca).is_file():
            raise InputError(
                f"There is no file {ca}.", "Name the PEM file of the authority to trust."
            )
        self.base, self._host = base.rstrip("/"), parts.hostname
        self.place = place or parts.hostname
        self.proxy = None if self.loopback or direct else proxy_for(self.base)
        self._auth = _Bearer(token)
        self._expected: Expected | None = None
        if parts.scheme == "http" and self.loopback:
            self._expected = Expected(token, self.base, self.place, tunnel, allow_plain)
        self._verify: str | bool = ca or True
        self._own = threading.local()

    def call(self, request: Request, *, repeat: bool = True, cancel: Cancel | None = None) -> Any:
        """One request and its JSON answer.

        Args:
            repeat: whether the same request twice does the same as once, so that it may be sent
                again.

        Raises:
            Unreachable, Stranger, ServiceError, WrongVersion, Cancelled
        """
        cancel = cancel or Cancel()
        attempt = 1
        while True:
            cancel.check()
            try:
                with self.send(request) as answer:
                    return self._content(answer)
            except Unreachable:
                if not repeat or attempt == ATTEMPTS:
                    raise
            cancel.sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1))
            attempt += 1

    def send(self, request: Request, read_seconds: float = READ_SECONDS) -> requests.Response:
        """One request, once; the answer's body is not read yet, and the caller closes it.

        Raises:
            Unreachable, Stranger, ServiceError, WrongVersion
        """
        data, headers = request.data, {"Accept-Encoding": "identity", **request.headers}
        if request.body is not None:
            data, headers["Content-Type"] = json.dumps(request.body).encode(), "application/json"
        elif data is not None:
            headers.setdefault("Content-Type", "application/octet-stream")
        try:
            answer = self._session().request(
                request.method,
                f"{self.base}{PREFIX}{request.path}",
                data=data,
                params=request.params,
                headers=headers,
                auth=self._auth,
                verify=self._verify,
                proxies=None if self.proxy else NONE,
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_SECONDS, read_seconds),
            )
        except requests.RequestException as error:
            raise self.lost(error) from error
        try:
            self._check(answer)
        except AlunetError:
            answer.close()
            raise
        return answer

    def _check(self, answer: requests.Response) -> None:
        """Raise what an answer means that is no success, or of another version of the contract."""
        version = answer.headers.get(Header.API)
        if version is not None:
            check_engine(int(version) if version.isdecimal() else None, self.place)
        if answer.status_code >= 300 or version is None:
            raise self._refusal(answer)

    def lost(self, error: requests.RequestException) -> AlunetError:
        """An error of `requests` in the agent's words; what is wrong in particular is for
        `diagnose`.
        """
        made_by_proxy = proxies.refusal(self.base, self.proxy, error)
        if made_by_proxy is not None:
            return _later_or_never(made_by_proxy)
        way = through(self.proxy)
        if isinstance(error, requests.exceptions.SSLError):
            words = f"its certificate is not trusted{way and f', seen{way}'}"
            hint = "Test the connection to see why."
        elif isinstance(error, requests.Timeout):
            words = f"it does not answer in time{way}"
            hint = "Try again; test the connection if it stays so."
        else:
            words = f"no connection{way}"
            hint = "Is the service running, and the network up? Test the connection to see more."
        if self.proxy is not None:
            hint = f"{hint} {advice(self._host)}"
        return Unreachable(f"{self.base}: {words}.", hint)

    def _content(self, answer: requests.Response) -> Any:
        try:
            raw = answer.content
            return json.loads(raw) if raw else None
        except requests.RequestException as error:
            raise self.lost(error) from error
        except ValueError as error:
            raise Stranger(
                f"{self.base} did not answer in JSON.", "Check name and port of the service."
            ) from error

    def _refusal(self, answer: requests.Response) -> AlunetError:
        """The error that an answer other than success stands for."""
        try:
            problem = from_json(Problem, json.loads(answer.content))
        except (ValueError, requests.RequestException):
            problem = None
        if problem and Header.API in answer.headers:
            return ServiceError(answer.status_code, problem)
        proxy = proxies.in_the_way(self.base, self.proxy, answer)
        if proxy is not None:
            return _later_or_never(proxy)
        if answer.status_code in PASSING:
            words = f"the way to the service is busy (status {answer.status_code})"
            return Unreachable(f"{self.base}: {words}.", "Try again.")
        return proxies.stranger(self.base, answer.status_code)

    def _session(self) -> requests.Session:
        """A session of this thread's own; what the environment says about proxies does not
        concern loopback.
        """
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = requests.Session()
            session.trust_env = not self.loopback
            if self._expected is not None:
                session.mount("http://", ProvenAdapter(self._expected))
        return session


def patiently(
    work: Callable[[], bool], done: Callable[[], int], cancel: Cancel, patience: float = 60.0
) -> None:
    """Repeat `work` until it returns True; a lost connection is forgiven until `done` stands still
    for `patience` s.

    Raises:
        Unreachable: nothing went through for so long; ServiceError, Cancelled: at once.
    """
    last, before, pause = time.monotonic(), done(), FIRST_PAUSE
    while True:
        cancel.check()
        try:
            if work():
                return
            failure = None
        except Unreachable as error:
            failure = error
        if done() != before:
            last, before, pause = time.monotonic(), done(), FIRST_PAUSE
        if failure is None:
            continue
        if time.monotonic() - last > patience:
            raise failure
        cancel.sleep(pause)
        pause = min(pause * 2, 5.0)


def is_loopback(host: str) -> bool:
    """Whether a host name can only mean this computer."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _later_or_never(proxy: ProxyInTheWay) -> AlunetError:
    """A proxy that may let the same request through later is a way that is broken for now."""
    return Unreachable(proxy.message, proxy.hint) if proxy.passes else proxy


def is_code(error: Exception, code: Code) -> bool:
    """Whether the service gave this code."""
    return isinstance(error, ServiceError) and error.code == code.value


def described(error: BaseException) -> dict[str, Any]:
    """An error as a viewer gets it: code, message, hint, and details where there are some."""
    if isinstance(error, UnicodeEncodeError):  # of a name of a file that is not UTF-8
        return {
            "code": Code.BAD_REQUEST.value,
            "message": f"{ascii(error.object)[:200]} holds a character that is no text.",
            "hint": "Rename it.",
        }
    if isinstance(error, MemoryError):
        return {
            "code": Code.FAILED.value,
            "message": "The memory of this computer is used up.",
            "hint": "Close other programs, then try again.",
        }
    if not isinstance(error, AlunetError):
        return {
            "code": "failed",
            "message": f"{type(error).__name__}: {error}",
            "hint": "This is a defect of ALUNet.",
        }
    usual = {Cancelled: "cancelled", InputError: Code.BAD_REQUEST.value}.get(
        type(error), Code.FAILED.value
    )
    content = {"code": getattr(error, "code", usual), "message": error.message, "hint": error.hint}
    return content | ({"details": error.details} if isinstance(error, ServiceError) else {})
