"""The real service on loopback, the real agent as a process, and a real sshd where it is
installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from planned_project import plan, suggest

from alunet.agent.client import Client
from alunet.agent.connections.starting import own_environment
from alunet.loop.setup import Setup, create
from alunet.project import Project
from alunet.schema import ENDED, Operations

PACKAGE = Path(__file__).resolve().parents[2]
SECONDS = 120.0
SHAPE = (40, 20, 24)
PROJECT = "work"


def speaking(api: int | None) -> dict[str, str]:
    """Variables of a process that speaks this version of the contract; None: the usual one."""
    variables = own_environment(sys.executable)
    if api is not None:
        path = f"{PACKAGE / 'Testing' / 'other_version'}{os.pathsep}{variables['PYTHONPATH']}"
        variables |= {"PYTHONPATH": path, "ALUNET_TEST_API": str(api)}
    return variables


class Service:
    """A real `alunet serve` that can be killed and started again on the same root and port."""

    def __init__(self, root: Path, *options: str, api: int | None = None) -> None:
        self.root, self.options, self.api = root, options, api
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "alunet",
            "serve",
            "--root",
            str(self.root),
            "--port",
            str(self.port),
        ]
        command += ["--threads", "1", "--device", "cpu", *self.options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=speaking(self.api),
            start_new_session=True,
        )
        line = json.loads(self.process.stdout.readline())
        self.address, self.token = line["address"], line["token"]
        self.port = int(self.address.rsplit(":", 1)[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def client(self) -> Client:
        return Client(self.address, self.token)


class AgentProcess:
    """A real agent, spoken to as a viewer does."""

    def __init__(self, home: Path, api: int | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "alunet.agent", "--home", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=speaking(api),
        )
        self.number = 0
        self.answers: dict[Any, queue.Queue] = {}
        self.events: list[dict] = []
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            content = json.loads(line)
            if "event" in content:
                with self.news:
                    self.events.append(content)
                    self.news.notify_all()
            else:
                self.answers.setdefault(content["id"], queue.Queue()).put(content)

    def send(self, call: str, **args: Any) -> int:
        self.number += 1
        self.answers[self.number] = queue.Queue()
        self.raw(json.dumps({"id": self.number, "call": call, "args": args}))
        return self.number

    def raw(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, number: Any, seconds: float = SECONDS) -> dict:
        return self.answers.setdefault(number, queue.Queue()).get(timeout=seconds)

    def ask(self, call: str, **args: Any) -> Any:
        answer = self.answer(self.send(call, **args))
        assert "result" in answer, answer
        return answer["result"]

    def refused(self, call: str, **args: Any) -> dict:
        answer = self.answer(self.send(call, **args))
        assert "error" in answer, answer
        return answer["error"]

    def event(self, seconds: float = SECONDS, **wanted: Any) -> dict:
        """The first event with these entries, waited for."""
        deadline = time.monotonic() + seconds
        with self.news:
            while True:
                for event in self.events:
                    if all(event.get(name) == value for name, value in wanted.items()):
                        return event
                left = deadline - time.monotonic()
                assert left > 0, f"no event {wanted}; there were {self.events[-5:]}"
                self.news.wait(left)

    def connect(self, service: Service) -> dict:
        return self.ask("connect", to=service.address, token=service.token)

    def close(self) -> int:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "root")
    yield made
    made.kill()


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("root"))
    yield made
    made.kill()


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Any]:
    """Starts agents that share one home, and ends them."""
    started: list[AgentProcess] = []

    def start(home: Path = tmp_path / "home", api: int | None = None) -> AgentProcess:
        started.append(AgentProcess(home, api))
        return started[-1]

    yield start
    for agent in started:
        agent.close()


@pytest.fixture
def agent(start_agent: Any) -> AgentProcess:
    return start_agent()


def end_service_of(root: Path) -> None:
    """End the service that an agent started for a root."""
    note = root / ".alunet" / "service.json"
    if note.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(json.loads(note.read_text(encoding="utf-8"))["pid"], 9)


def write_image(file: Path, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """A small scan of noise."""
    voxels = np.random.default_rng(seed).integers(0, 800, shape).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    return voxels


def import_case(client: Client, name: str, image: str, project: str = PROJECT) -> None:
    """Make a case of an upload, and wait for it."""
    job = client.call(Operations.add_case, project=project, name=name, images=[image])
    while job.state not in ENDED:
        time.sleep(0.1)
        job = client.call(Operations.job, project=project, job=job.id)
    assert job.error is None, job


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a service with a project whose 40 slices are suggested; made by hand, without
    a network.
    """
    folder = tmp_path_factory.mktemp("prepared")
    service = Service(folder / "root")
    try:
        client = service.client()
        labels = {"background": 0, "organ": 1}
        create(
            service.root / PROJECT, name=PROJECT, labels=labels, channels=["CT"], setup=Setup()
        ).close()
        write_image(folder / "a.nrrd")
        image = client.upload(folder / "a.nrrd").id
        import_case(client, "a", image)
    finally:
        service.kill()
    with Project.open(service.root / PROJECT) as opened:
        suggest(plan(opened), range(SHAPE[0]))
    return service.root


@pytest.fixture
def working(prepared: Path, tmp_path: Path) -> Iterator[Service]:
    """A service with the prepared project."""
    shutil.copytree(prepared, tmp_path / "root")
    made = Service(tmp_path / "root")
    yield made
    made.kill()


class Relay:
    """A TCP line between an agent and a service that can be cut and mended.

    It passes requests on, as a tunnel of a person's own does, so that `allow_plain` is needed.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: set[socket.socket] = set()
        self._up = True
        self.taken = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self.taken += 1
                if not self._up:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open |= {near, far}
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                self._heard(sink, block)
                sink.sendall(block)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _heard(self, sink: socket.socket, block: bytes) -> None:
        """What goes one way or the other."""

    def cut(self) -> None:
        self._up = False
        for end in tuple(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def mend(self) -> None:
        self._up = True

    def close(self) -> None:
        self._listening.close()
        self.cut()


@pytest.fixture
def relay(working: Service) -> Iterator[Relay]:
    made = Relay(working.port)
    yield made
    made.close()


class Recorder(Relay):
    """A line that keeps every byte that goes to the service."""

    def __init__(self, port: int) -> None:
        self.sent = b""
        super().__init__(port)

    def _heard(self, sink: socket.socket, block: bytes) -> None:
        if sink.getpeername()[1] == self._to:
            self.sent += block


@pytest.fixture
def recorder(service: Service) -> Iterator[Recorder]:
    made = Recorder(service.port)
    yield made
    made.close()
