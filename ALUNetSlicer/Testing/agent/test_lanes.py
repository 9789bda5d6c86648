"""Whatever a call meets, it is answered, its lane goes on, and other agents keep their files."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from alunet.agent.client import Client
from alunet.agent.connection import Connection
from alunet.agent.connections.links import Link
from alunet.agent.http_transport import Unreachable, described
from alunet.agent.outbox import Entry, Outbox, pack
from alunet.agent.sender import DEFECTS, Sender
from alunet.agent.spool import SPOOL_DAYS, Spool
from alunet.agent.thread_pools import SIZES, ThreadPools
from alunet.schema import Operations

from .conftest import PROJECT, SECONDS, write_image

NOT_UTF8 = os.fsdecode(b"caf\xe9")
FAILURES = (MemoryError, RecursionError, SystemExit, KeyboardInterrupt, GeneratorExit, ValueError)
ENTRY = {
    "base_version": 0,
    "author": "ada",
    "seconds": 1.0,
    "status": "done",
    "shape": [1, 20, 24],
    "dtype": "uint8",
    "not_annotated": 255,
}


@pytest.mark.parametrize("lane", SIZES)
def test_no_exception_ends_a_lane(lane, capsys):
    pools, done = ThreadPools(), threading.Event()

    def fail(kind: type[BaseException]) -> None:
        raise kind

    for kind in FAILURES * SIZES[lane]:  # more often than there are threads
        pools.add(lane, lambda kind=kind: fail(kind))
    pools.add(lane, done.set)
    assert done.wait(SECONDS)
    assert "MemoryError at test_lanes.py" in capsys.readouterr().err


def test_a_name_that_is_not_utf8_is_answered_in_every_lane_and_ends_none(agent, service, tmp_path):
    agent.connect(service)
    image = tmp_path / f"{NOT_UTF8}.nrrd"
    given = {"base_version": 0, "author": NOT_UTF8, "seconds": 1.0}
    calls = [
        ("worklist", {"project": NOT_UTF8}),
        ("create_project", {"name": NOT_UTF8, "labels": [NOT_UTF8], "channels": ["CT"]}),
        ("read_folder", {"folder": str(tmp_path / NOT_UTF8)}),
        ("fetch", {"project": NOT_UTF8, "case": NOT_UTF8, "what": "annotation"}),
        ("add_case", {"project": NOT_UTF8, "name": NOT_UTF8, "images": [str(image)]}),
        (
            "submit",
            {"project": "p", "sample": 1, "file": str(image), "shape": [1, 1, 1], "dtype": "uint8"}
            | given,
        ),
        ("set_status", {"project": "p", "sample": 1, "status": "done", "author": NOT_UTF8}),
        ("follow", {"project": NOT_UTF8}),
        ("test", {"to": f"ssh://{NOT_UTF8}"}),
        ("test", {"to": f"local:{tmp_path / NOT_UTF8}", "python": NOT_UTF8}),
        (NOT_UTF8, {}),
    ]
    numbers = [agent.send(name, **args) for name, args in calls for _ in range(7)]
    for number in numbers:
        answer = agent.answer(number)
        error = answer.get("error", {"message": "x", "hint": "x"})
        assert error["message"] and "Error" not in error["message"], answer
    for name, args in (("hello", {}), ("health", {}), ("test", {"to": service.address})):
        assert "result" in agent.answer(agent.send(name, **args))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_an_image_whose_name_is_not_utf8_is_left_out_of_a_folder(agent, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    write_image(tmp_path / "a.nrrd")
    (tmp_path / "a.nrrd").rename(folder / f"{NOT_UTF8}.nrrd")
    write_image(folder / "b.nrrd")
    listing = agent.ask("read_folder", folder=str(folder))
    assert [case["name"] for case in listing["cases"]] == ["b"]
    (left_out,) = listing["left_out"]
    assert Path(left_out["file"]).name == f"{NOT_UTF8}.nrrd" and "UTF-8" in left_out["reason"]


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("[" * 100_000, None),
        ('{"id": "x", "call": "hello", "args": ' + '{"a":' * 100_000, None),
        ('{"id": ' + "[" * 500 + "]" * 500 + ', "call": "hello"}', None),
        ('{"id": [1], "call": "cancel", "args": {"id": [1]}}', None),
        ('{"id": "x", "call": "cancel", "args": [1]}', "x"),
        ('{"id": "x", "call": "hello", "args": 7}', "x"),
        ('{"id": "x", "call": ["hello"]}', "x"),
        ('{"id": "\\ud800", "call": "\\ud800"}', "\ud800"),
        ('"\\ud800"', None),
    ],
    ids=range(9),
)
def test_no_line_ends_the_agent(agent, line, number):
    agent.raw(line)
    assert "error" in agent.answer(number)
    assert agent.ask("hello")["pid"] == agent.process.pid


def test_what_is_no_text_is_told_in_words():
    with pytest.raises(UnicodeEncodeError) as caught:
        NOT_UTF8.encode()
    said = described(caught.value)
    assert said["message"] == "'caf\\udce9' holds a character that is no text."
    assert json.dumps(said).isascii()
    assert described(MemoryError())["message"] == "The memory of this computer is used up."


def grow_old(folder: Path) -> None:
    long_ago = time.time() - (SPOOL_DAYS + 1) * 86400
    os.utime(folder, (long_ago, long_ago))


def test_an_agent_never_removes_the_spool_folder_of_one_that_lives(start_agent, tmp_path):
    """However long it has lived without a new file."""
    first = start_agent()
    spool = Path(first.ask("hello")["spool"])
    (spool / "image.nrrd").write_bytes(b"voxels")
    grow_old(spool)
    second = start_agent()
    assert Path(second.ask("hello")["spool"]) != spool
    assert (spool / "image.nrrd").read_bytes() == b"voxels"
    first.kill()
    grow_old(spool)
    start_agent().ask("hello")
    assert not spool.exists()


def test_what_an_agent_left_is_kept_for_its_viewer_for_a_while(tmp_path):
    dead = tmp_path / "4194399-0"
    dead.mkdir()
    ours = tmp_path / f"{os.getpid()}-of-an-agent-of-before"
    ours.mkdir()
    (tmp_path / "no folder").write_bytes(b"")
    Spool(tmp_path).close()
    assert dead.exists()
    for place in (dead, ours, tmp_path / "no folder"):
        grow_old(place)
    Spool(tmp_path).close()
    assert not dead.exists() and ours.exists()


class Failing(Client):
    """The real client, which fails some times before."""

    def __init__(self, address: str, token: str, failures: list[BaseException]) -> None:
        super().__init__(address, token)
        self.failures = failures

    def put_annotation(self, *given, **more):
        if self.failures:
            raise self.failures.pop()
        return super().put_annotation(*given, **more)


def send_all(working, folder: Path, failures: list[BaseException], samples: list[int]) -> list[str]:
    """States of the entries of these samples, when each has a definite answer."""
    outbox, client = Outbox(folder), Failing(working.address, working.token, failures)
    states: dict[str, str] = {}
    sender = Sender(
        outbox, "e", lambda: client, lambda state, entry, _: states.update({entry.key: state})
    )
    body = pack(bytes(480), ENTRY["shape"], "uint8")
    entries = [sender.put(Entry("e", PROJECT, sample, ENTRY, body)) for sample in samples]
    sender.start()
    deadline = time.monotonic() + SECONDS
    while any(states.get(entry.key, "waiting") == "waiting" for entry in entries):
        assert time.monotonic() < deadline, states
        sender.wake()
        time.sleep(0.1)
    sender.stop()
    return [states[entry.key] for entry in entries]


@pytest.mark.parametrize("kind", [MemoryError, RecursionError, TypeError])
def test_a_defect_that_passes_loses_no_annotation(working, tmp_path, kind):
    failures = [kind() for _ in range(DEFECTS - 1)]
    assert send_all(working, tmp_path / "outbox", failures, [1, 2]) == ["sent", "sent"]


def test_a_defect_that_stays_holds_up_no_other_annotation(working, tmp_path):
    failures = [TypeError() for _ in range(DEFECTS)]
    assert send_all(working, tmp_path / "outbox", failures, [1, 2]) == ["refused", "sent"]


class FailingLink(Link):
    """A way that fails by a defect at first."""

    def __init__(self, service) -> None:
        self.failures, self._service = [RecursionError(), MemoryError(), TypeError()], service

    def connect(self) -> Client:
        if self.failures:
            raise self.failures.pop()
        return self._service.client()


def test_a_defect_does_not_end_the_watch_over_a_connection(shared_service):
    told: list[str] = []
    connection = Connection(FailingLink(shared_service), lambda state, news: told.append(state))
    with pytest.raises(Unreachable, match="cannot be reached"):
        connection.require(SECONDS)
    deadline = time.monotonic() + SECONDS
    while connection.client is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert told[-1] == "online" and connection.client.call(Operations.health)
    connection.close()
