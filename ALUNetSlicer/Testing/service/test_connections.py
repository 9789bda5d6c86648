"""Connections that do not show the token cost little, and what stalls is ended."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import ssl
import threading
import time

import psutil
import pytest
from attacks import assert_holds, connections
from running import Service

from alunet.serve.connections import STRANGER_SECONDS, raise_limit
from alunet.serve.log import Repeated

_HEAD = b"PUT /v1/x HTTP/1.1\r\nHost: x\r\n"


def connect(service: Service, first: bytes) -> socket.socket:
    """A connection to the service over which `first` was sent."""
    host, port = service.url.split("//")[1].split("/")[0].split(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(60)
    connection.sendall(first)
    return connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the service ends the connection."""
    said = b""
    try:
        while part := connection.recv(1 << 16):
            said += part
    except ConnectionError:
        pass
    return said


def with_token(service: Service, line: str, *headers: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: x", f"Authorization: Bearer {service.token}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.slow
def test_half_open_connections_stop_nobody(tmp_path):
    """Of the findings time is none here: the computer is shared."""
    findings = connections.attack(200, 0, tmp_path)
    assert_holds([found for found in findings if "percentile" not in found.what])
    assert len(findings) == (10 if shutil.which("openssl") else 5)


@pytest.mark.slow
def test_what_stalls_is_ended(service):
    """Whatever a connection waits with, and a request with the token is answered meanwhile."""
    stalls = {
        "nothing": b"",
        "half a head": _HEAD,
        "a body without the token": _HEAD + b"Content-Length: 9999\r\n\r\nabc",
        "half a head after a request": with_token(service, "GET /v1/health") + b"GET /",
        "a body with the token": with_token(
            service, "POST /v1/projects", "Content-Type: application/json", "Content-Length: 999"
        )
        + b"{",
    }
    ended: dict[str, bytes] = {}

    def wait(name: str, connection: socket.socket) -> None:
        ended[name] = answer(connection)

    waiting = [
        threading.Thread(target=wait, args=(name, connect(service, first)))
        for name, first in stalls.items()
    ]
    for thread in waiting:
        thread.start()
    while any(thread.is_alive() for thread in waiting):
        service.ok("GET", "/health")
        time.sleep(0.5)
    assert set(ended) == set(stalls)
    assert b" 401 " in ended["a body without the token"]
    assert b" 200 " in ended["half a head after a request"]
    assert "Traceback" not in log_of(service)


def test_a_byte_now_and_then_keeps_no_connection(common):
    connection, begun = connect(common, b"GET /"), time.monotonic()
    connection.settimeout(1)
    with pytest.raises(ConnectionError):
        while time.monotonic() - begun < 10 * STRANGER_SECONDS:
            connection.sendall(b"a")
            try:
                if not connection.recv(100):
                    raise ConnectionError
            except TimeoutError:
                continue


def test_little_is_taken_without_the_token(common):
    """Neither a body without end nor many requests at once."""
    connection = connect(common, _HEAD + b"Content-Length: 1000000000\r\n\r\n")
    with pytest.raises(ConnectionError):
        for _ in range(2000):
            connection.sendall(bytes(1 << 16))
    many = connect(common, b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
    assert answer(many).count(b" 401 ") < 10
    common.ok("GET", "/health")


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_tls_begins_when_its_first_message_is_there(tmp_path):
    """In however many pieces; what begins otherwise is ended at once."""
    pem = connections.certificate(tmp_path)
    service = Service(tmp_path / "root", "--tls-cert", str(pem), "--tls-key", str(pem))
    try:
        assert answer(connect(service, b"GET / HTTP/1.1\r\n\r\n")) == b""
        assert answer(connect(service, b"\x16\x03\x01\xff\xff")) == b""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ssl.create_default_context(cafile=str(pem)).wrap_bio(
            incoming, outgoing, server_hostname="127.0.0.1"
        )
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        connection, hello = connect(service, b""), outgoing.read()
        for place in range(0, len(hello), 99):
            connection.sendall(hello[place : place + 99])
            time.sleep(0.01)
        while True:
            incoming.write(connection.recv(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
        # with the last message of the handshake, at one go
        client.write(with_token(service, "GET /v1/health", "Connection: close"))
        connection.sendall(outgoing.read())
        incoming.write(answer(connection))
        assert client.read().startswith(b"HTTP/1.1 200 ")
    finally:
        service.stop()


def test_a_refused_body_gets_its_answer(common):
    """Whoever has the wrong token is told so, also where the request has a body."""
    headers = {"Authorization": "Bearer wrong"}
    for size in (10, 200_000):
        common.refused("PUT", "/x", 401, "unauthorized", headers=headers, data=bytes(size))


@pytest.mark.parametrize(
    "first",
    [
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000,
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
    ids=["url", "headers", "chunk", "TLS"],
)
def test_heads_are_bounded(common, first):
    """And what they are refused with is short, however long they are."""
    try:
        connection = connect(common, first)
    except ConnectionError:
        return
    assert len(answer(connection)) < 1000


def test_the_log_repeats_nothing(service):
    for _ in range(50):
        answer(connect(service, b"nonsense\r\n\r\n"))
    assert log_of(service).count("Invalid HTTP request") == 1


def test_what_was_said_before_is_counted(monkeypatch):
    """And said again after a minute, with how often it was meanwhile."""
    now = [100.0]
    monkeypatch.setattr("alunet.serve.log.time.monotonic", lambda: now[0])
    repeated, written = Repeated(), []

    def say(words: str) -> None:
        record = logging.LogRecord("x", logging.WARNING, "", 0, words, (), None)
        if repeated.filter(record):
            written.append(record.getMessage())

    for _ in range(3):
        say("again")
    say("other")
    now[0] += 61
    say("again")
    assert written == ["again", "other", "again (and 2 times in the minute before)"]
    for number in range(10_000):
        say(f"message {number}")
    assert len(written) < 500, "of many different ones the first are written"


def test_the_limit_of_open_files_is_raised(common):
    resource = pytest.importorskip("resource")
    if not hasattr(psutil.Process, "rlimit"):
        pytest.skip("this system does not tell the limits of another process")
    soft, hard = psutil.Process(common.process.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536) or hard == resource.RLIM_INFINITY
    assert raise_limit() >= 256


def log_of(service: Service) -> str:
    return (service.root.parent / f"{service.root.name}.log").read_text(encoding="utf-8")
