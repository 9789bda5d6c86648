"""A connection test that says in plain words what is wrong, and what to do.

The steps go from the cable upwards and end at the first that fails: name, port, TLS, token,
version; where a proxy is on the way it comes first, and finds the name and the port; for ssh: name,
port, host key, key, the engine there, the forwarded port.
"""

from __future__ import annotations

import base64
import http.client
import shutil
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests

from alunet.agent import proxies
from alunet.agent.client import Client
from alunet.agent.connections import Access, link_to
from alunet.agent.connections.links import Link
from alunet.agent.connections.ssh import Ssh, SshError
from alunet.agent.connections.target import Target
from alunet.agent.http_transport import ServiceError, Unreachable, is_loopback
from alunet.agent.proven import Unproven
from alunet.agent.proxies import Proxy, ProxyInTheWay, Stranger, advice, proxy_for
from alunet.errors import AlunetError, InputError
from alunet.schema import Health, Operations

SECONDS = 10.0
GIB = 2**30


@dataclass(frozen=True)
class Step:
    """What one step found.

    Attributes:
        name: "proxy", "name", "port", "tls", "token", "version", "ssh_key", "host_key", "engine", …
        text: the finding, in a sentence.
        hint: what to do; empty where it is fine.
    """

    name: str
    ok: bool
    text: str
    hint: str = ""


class _Failed(Exception):
    def __init__(self, step: Step) -> None:
        super().__init__(step.text)
        self.step = step


def diagnose(target: Target, access: Access) -> list[Step]:
    """Test the way to an engine; the last step is the one that failed, or all is well.

    A local engine, or one behind ssh, is started where it does not run.
    """
    found: list[Step] = []
    steps: dict[str, Callable[[Target, Access], Iterator[Step]]] = {"local": _local, "ssh": _ssh}
    try:
        for step in steps.get(target.kind, _web)(target, access):
            found.append(step)
    except _Failed as failed:
        found.append(failed.step)
    return found


def _web(target: Target, access: Access) -> Iterator[Step]:
    proxy = None if access.direct or is_loopback(target.host) else proxy_for(target.name)
    if proxy is not None:
        yield _proxy(proxy, target)
    else:
        yield _name(target.host)
        yield _port(target.host, target.port or 443)
    if target.kind == "https":
        yield _tls(target, access, proxy)
    try:
        link = link_to(target, access)
        yield from _service(link.connect())
    except InputError as error:
        raise _Failed(
            Step("token" if not access.token else "tls", False, error.message, error.hint)
        ) from error


def _local(target: Target, access: Access) -> Iterator[Step]:
    python = access.python or sys.executable
    if not shutil.which(python):
        raise _Failed(
            Step("engine", False, f"There is no Python at {python}.", "Choose the engine's Python.")
        )
    yield Step("python", True, f"The engine's Python is {python}.")
    yield from _engine(link_to(target, access), Path(target.root).as_posix())


def _ssh(target: Target, access: Access) -> Iterator[Step]:
    ssh = Ssh(target, access.ssh_options)
    try:
        said = ssh.run("echo alunet-was-here; uname -sm", seconds=60)
    except SshError as error:
        if error.code in ("host_key_unknown", "host_key_changed", "ssh_key"):
            yield Step("port", True, f"An ssh server answers at {target.host}.")
        if error.code == "ssh_key":
            yield Step("host_key", True, "Its host key is the known one.")
        name = "host_key" if error.code.startswith("host_key") else error.code
        raise _Failed(Step(name, False, error.message, error.hint)) from error
    if "alunet-was-here" not in said:
        text = f"{target.host} runs no commands for {target.login}."
        raise _Failed(Step("ssh", False, text, "Ask its administrator."))
    yield Step(
        "ssh_key", True, f"ssh to {target.login} works ({said.split(maxsplit=1)[1].strip()})."
    )
    yield from _engine(link_to(target, access), target.host)


def _engine(link: Link, place: str) -> Iterator[Step]:
    try:
        client = link.connect()
        yield Step("engine", True, f"The engine runs: {place}.")
        yield from _service(client)
    except AlunetError as error:
        raise _Failed(
            Step(str(getattr(error, "code", "engine")), False, error.message, error.hint)
        ) from error
    finally:
        link.close()


def _name(host: str) -> Step:
    try:
        numbers = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError) as error:
        hint = "Check the spelling; is the VPN on?"
        raise _Failed(Step("name", False, f"There is no computer called {host}.", hint)) from error
    return Step("name", True, f"{host} is {', '.join(numbers[:3])}.")


def _proxy(proxy: Proxy, target: Target) -> Step:
    """Whether the proxy is there; it finds the engine's name by itself."""
    parts = urlsplit(proxy.url)
    try:
        socket.create_connection((parts.hostname, parts.port or 80), SECONDS).close()
    except (OSError, UnicodeError, ValueError) as error:
        text = f"The proxy {proxy.address} ({proxy.source}) does not answer."
        raise _Failed(Step("proxy", False, text, advice(target.host))) from error
    text = f"The way goes through the proxy {proxy.address} ({proxy.source})."
    return Step("proxy", True, text)


def _port(host: str, port: int) -> Step:
    try:
        socket.create_connection((host, port), SECONDS).close()
    except ConnectionRefusedError as error:
        hint = "Check the port; ask whether the service runs there."
        raise _Failed(
            Step("port", False, f"Nothing listens on port {port} of {host}.", hint)
        ) from error
    except OSError as error:
        hint = "Is it switched on, the VPN on, and the port open in the firewall?"
        raise _Failed(
            Step("port", False, f"{host} does not answer on port {port}.", hint)
        ) from error
    return Step("port", True, f"Port {port} of {host} is open.")


def _line(target: Target, proxy: Proxy | None) -> socket.socket:
    """A connection to an engine, through the proxy where there is one.

    Raises:
        OSError: there is none, or the proxy refuses it.
    """
    place = (target.host, target.port or 443)
    if proxy is None:
        return socket.create_connection(place, SECONDS)
    parts, headers = urlsplit(proxy.url), {}
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(login).decode('ascii')}"
    tunnel = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=SECONDS)
    tunnel.set_tunnel(*place, headers)
    tunnel.connect()
    return tunnel.sock


def _tls(target: Target, access: Access, proxy: Proxy | None) -> Step:
    """The handshake with the same authorities that the client trusts."""
    try:
        context = ssl.create_default_context(
            cafile=access.ca or requests.utils.DEFAULT_CA_BUNDLE_PATH
        )
        with (
            _line(target, proxy) as plain,
            context.wrap_socket(plain, server_hostname=target.host) as secure,
        ):
            return Step(
                "tls", True, f"Encrypted with {secure.version()}, and the certificate is trusted."
            )
    except ssl.SSLCertVerificationError as error:
        text, hint = _certificate(target.host, error)
        if proxy is not None:
            text = f"{text} The proxy {proxy.address} may have put its own in its place."
    except ssl.SSLError as error:
        text, hint = (
            f"Port {target.port} does not speak TLS: {error.reason}.",
            "Check the port, or use ssh://…",
        )
    except OSError as error:
        way = proxies.refusal(target.name, proxy, requests.exceptions.ProxyError(error))
        if way is not None and not isinstance(error, FileNotFoundError):
            raise _Failed(Step("proxy", False, way.message, way.hint)) from error
        text, hint = (
            f"The authority's file {access.ca} or the line is broken: {error}.",
            "Check the file's path.",
        )
    raise _Failed(Step("tls", False, text, hint))


def _certificate(host: str, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    words = error.verify_message or str(error)
    if "expired" in words:
        return (
            f"The certificate of {host} has run out.",
            "Its administrator must renew it; also check this clock.",
        )
    if "not yet valid" in words:
        return f"The certificate of {host} is not valid yet.", "Check the clock of this computer."
    if "match" in words.lower():
        return (
            f"The certificate is not for {host}.",
            "Use the name that the certificate was made for.",
        )
    return (
        f"Nobody this computer trusts vouches for the certificate of {host} ({words}).",
        "Ask its administrator for the authority's certificate (PEM) and name that file as ca.",
    )


def _service(client: Client) -> Iterator[Step]:
    """Token and version, then what the engine has to work with."""
    try:
        health = client.call(Operations.health)
    except ServiceError as error:
        name = "token" if error.status == 401 else "service"
        hint = "Ask whoever runs the service for the token; it changes when they make a new one."
        raise _Failed(
            Step(name, False, error.message, hint if name == "token" else error.hint)
        ) from error
    except Unproven as error:
        raise _Failed(Step("token", False, error.message, error.hint)) from error
    except ProxyInTheWay as error:
        raise _Failed(Step("proxy", False, error.message, error.hint)) from error
    except (Stranger, Unreachable) as error:
        raise _Failed(Step("service", False, error.message, error.hint)) from error
    except AlunetError as error:
        raise _Failed(Step("version", False, error.message, error.hint)) from error
    yield Step("token", True, "The token is right.")
    yield Step("version", True, f"ALUNet {health.version}, version {health.api} of the contract.")
    yield _machine(health)


def _machine(health: Health) -> Step:
    device = ", ".join(health.devices) or health.device
    runs = "It still looks for its devices" if device == "unknown" else f"It runs on {device}"
    free = (
        f"{health.memory_free / GIB:.0f} GiB of memory and {health.disk_free / GIB:.0f} GiB of "
        f"disk are free"
    )
    if health.disk_free < 2 * GIB:
        return Step("machine", False, f"{runs}; {free}.", "Free space on the engine's disk.")
    return Step("machine", True, f"{runs}; {free}.")
