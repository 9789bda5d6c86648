"""A real proxy on loopback, between an agent and an engine: it is named, with what to do, and its
login never.
"""

from __future__ import annotations

import http.client
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from alunet.agent.client import Client
from alunet.agent.connections import Access
from alunet.agent.connections.target import parse
from alunet.agent.connections.tunnel import free_port
from alunet.agent.diagnose import diagnose
from alunet.agent.http_transport import HttpTransport, Unreachable
from alunet.agent.proxies import ProxyInTheWay, Stranger
from alunet.errors import AlunetError
from alunet.schema import API, Operations

from .conftest import Service
from .test_web import certificate, needs_openssl

ENGINE = "engine.example"
LOGIN = "ann:secret"
ANSWERS = {
    "login": (407, {"Proxy-Authenticate": "Basic", "Via": "1.1 squid.clinic.example (squid/5.7)"}),
    "gone": (504, {"X-Squid-Error": "ERR_CONNECT_FAIL 111", "Via": "1.1 squid.clinic.example"}),
    "denied": (403, {"Via": "http/1.1 squid.clinic.example:3128"}),
    "portal": (302, {"Location": "http://login.clinic.example/?ann"}),
    "page": (200, {"Content-Type": "text/html; charset=utf-8"}),
}
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.mode != "forward":
            self._say(*ANSWERS[self.server.mode], b"<html>")
            return
        line = http.client.HTTPConnection("127.0.0.1", self.server.to)
        line.request("GET", self.path.split(ENGINE, 1)[1].lstrip(":0123456789"), None, self.headers)
        with line.getresponse() as answer:
            self._say(answer.status, dict(answer.getheaders()), answer.read())

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)
        if self.server.mode != "forward":
            self._say(*ANSWERS[self.server.mode], b"")
            return
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(("127.0.0.1", self.server.to)) as far:
            back = threading.Thread(target=self._pump, args=(far, self.connection), daemon=True)
            back.start()
            self._pump(self.connection, far)
        self.close_connection = True

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while block := source.recv(65536):
                sink.sendall(block)
        except OSError:
            pass

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Nothing is printed."""


class Proxy(http.server.ThreadingHTTPServer):
    """A forward proxy, which lets everything through to one port, or one of `ANSWERS`."""

    daemon_threads = True

    def __init__(self, to: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.to, self.mode = to, "forward"
        self.asked: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture(autouse=True)
def no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the computer of the tests has set counts for nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy(shared_service: Service) -> Iterator[Proxy]:
    made = Proxy(shared_service.port)
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def on_the_way(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The proxy, for all addresses, with a login."""
    address = proxy.address.replace("//", f"//{LOGIN}@")
    for name in VARIABLES[:3]:
        monkeypatch.setenv(name, address)
    return proxy


def test_an_engine_behind_a_proxy_is_reached_and_the_test_names_the_proxy(
    on_the_way, shared_service
):
    access = Access(shared_service.token, allow_plain=True)
    steps = diagnose(parse(f"http://{ENGINE}"), access)
    assert [step.name for step in steps] == ["proxy", "token", "version", "machine"]
    said = f"The way goes through the proxy {on_the_way.address} (HTTP_PROXY)."
    assert steps[0].text == said and all(step.ok for step in steps)


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        (
            "login",
            ProxyInTheWay,
            "the proxy {proxy} (squid.clinic.example) on the way wants a login",
        ),
        ("gone", Unreachable, "the proxy {proxy} (squid.clinic.example) on the way does not reach"),
        (
            "denied",
            ProxyInTheWay,
            "the proxy {proxy} (squid.clinic.example:3128) on the way answers in",
        ),
        ("page", ProxyInTheWay, "the proxy {proxy} on the way answers in the engine's place"),
    ],
)
def test_what_a_proxy_answers_in_the_engines_place_is_told_with_its_name(
    on_the_way, mode, kind, words
):
    on_the_way.mode = mode
    with pytest.raises(kind) as caught:
        Client(f"http://{ENGINE}:80", "t", allow_plain=True).call(Operations.health)
    assert words.format(proxy=on_the_way.address) in caught.value.message
    assert f"Add {ENGINE} to the variable NO_PROXY" in caught.value.hint
    step = diagnose(parse(f"http://{ENGINE}"), Access("t", allow_plain=True))[-1]
    assert (step.ok, step.text, step.hint) == (False, caught.value.message, caught.value.hint)
    assert "secret" not in str(caught.value) + repr(caught.value) + str(step)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("portal", "the network answers with its login page (login.clinic.example), not the"),
        ("login", "the proxy squid.clinic.example on the way wants a login (status 407)"),
        ("page", "answers with status 200, but not as an ALUNet service does"),
    ],
)
def test_one_that_nobody_set_is_known_by_what_it_says(proxy, mode, words):
    """Between here and the engine, without this computer knowing."""
    proxy.mode = mode
    with pytest.raises(Stranger) as caught:
        Client(proxy.address, "t").call(Operations.health)
    assert words in caught.value.message and caught.value.hint
    assert isinstance(caught.value, ProxyInTheWay) or "login page" in caught.value.hint


@pytest.mark.parametrize(
    "form", ["http://{login}@127.0.0.1:{port}", "socks5://{login}@127.0.0.1:1"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_one_that_does_not_answer_or_cannot_be_used_is_named(monkeypatch, form, scheme):
    monkeypatch.setenv("ALL_PROXY", form.format(login=LOGIN, port=free_port()))
    with pytest.raises((Unreachable, Stranger)) as caught:
        wire = HttpTransport(f"{scheme}://{ENGINE}", "t", allow_plain=True)
        Client(wire.base, "t", allow_plain=True).call(Operations.health)
    assert f"the proxy {wire.proxy.address}" in caught.value.message
    step = diagnose(parse(f"{scheme}://{ENGINE}"), Access("t", allow_plain=True))[-1]
    assert step.name == "proxy" and "ALL_PROXY" in step.text and ENGINE in step.hint
    assert "secret" not in str(caught.value) + str(step) + repr(wire.proxy)


@needs_openssl
def test_a_tunnel_is_tested_to_its_end_and_its_refusal_is_told(on_the_way, tmp_path, monkeypatch):
    cert, key = certificate(tmp_path, "cert", f"DNS:{ENGINE}")
    service = Service(tmp_path / "root", "--tls-cert", str(cert), "--tls-key", str(key))
    try:
        on_the_way.to = service.port
        steps = diagnose(parse(f"https://{ENGINE}"), Access(service.token, str(cert)))
        assert [step.name for step in steps] == ["proxy", "tls", "token", "version", "machine"]
        assert all(step.ok for step in steps)
        step = diagnose(parse(f"https://{ENGINE}"), Access(service.token))[-1]
        assert step.name == "tls" and f"The proxy {on_the_way.address} may have" in step.text
        for mode, words in (("login", "wants a login"), ("gone", "does not reach the engine")):
            on_the_way.mode = mode
            step = diagnose(parse(f"https://{ENGINE}"), Access(service.token, str(cert)))[-1]
            assert step.name == "proxy" and on_the_way.address in step.text, step
            assert words in step.text and ENGINE in step.hint
            with pytest.raises(AlunetError, match=words):
                Client(f"https://{ENGINE}", service.token, str(cert)).call(Operations.health)
    finally:
        service.kill()


@pytest.mark.parametrize("way", ["NO_PROXY", "direct"])
def test_an_exception_for_the_engines_host_goes_around_the_proxy(on_the_way, monkeypatch, way):
    if way == "NO_PROXY":
        monkeypatch.setenv("NO_PROXY", f"elsewhere.example,{ENGINE}")
    access = Access("t", allow_plain=True, direct=way == "direct")
    assert diagnose(parse(f"http://{ENGINE}"), access)[-1].name == "name"
    client = Client(f"http://{ENGINE}", "t", allow_plain=True, direct=access.direct)
    with pytest.raises(Unreachable, match="no connection") as caught:
        client.call(Operations.health)
    assert "proxy" not in str(caught.value) and on_the_way.asked == []


def test_this_computer_is_never_asked_for_through_a_proxy(on_the_way, shared_service):
    """A local engine, and the end of a tunnel of ssh."""
    for host in ("127.0.0.1", "localhost"):
        client = Client(f"http://{host}:{shared_service.port}", shared_service.token)
        assert client.call(Operations.health).api == API
    assert HttpTransport("http://[::1]:9", "t").proxy is None
    assert on_the_way.asked == [] and os.environ["HTTP_PROXY"]
