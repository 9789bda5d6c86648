"""The service, an agent and the people who work with them, as `make_projects.py` plays them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from facts import STRUCTURES

from alunet.agent.client import Client
from alunet.schema import JobKind, JobState, Operations, Status, WorkRow

OPEN = STRUCTURES + 1
"""An unannotated voxel."""
SECONDS = 900.0


class Service:
    """`alunet serve` of the commit, and its client."""

    def __init__(self, root: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "alunet",
            "serve",
            "--root",
            str(root),
            "--threads",
            "1",
            "--device",
            "cpu",
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        line = json.loads(self.process.stdout.readline())
        self.root, self.address, self.token = root, line["address"], line["token"]
        self.client = Client(self.address, self.token)
        self.project = next((known.id for known in self.client.call(Operations.projects)), "")

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return self.root / self.project

    def stop(self) -> None:
        """End as a person ends it."""
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        """End as a power failure does, with the jobs that it started."""
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "alunet.serve.worker" in words and str(self.root) in words:
                for part in [process, *process.children(recursive=True)]:
                    part.kill()
        self.process.kill()
        self.process.wait()

    def start(self, **options: Any) -> int:
        """Start a job that learns and suggests."""
        given = {"project": self.project, "kind": JobKind.ROUND, "options": options}
        return self.client.call(Operations.start, **given).id

    def worklist(self) -> list[WorkRow]:
        """The rows of the newest round."""
        return self.client.call(Operations.worklist, project=self.project)

    def finish(self, job: int) -> None:
        """Wait for a job that has to succeed."""
        given = {"project": self.project, "job": job}
        running = (JobState.QUEUED, JobState.RUNNING)
        wait(lambda: self.client.call(Operations.job, **given).state not in running)
        found = self.client.call(Operations.job, **given)
        if found.state is not JobState.DONE:
            raise SystemExit(f"The job failed: {found}")

    def trains(self, job: int) -> bool:
        """Whether the job has come to its training."""
        events = self.client.call(Operations.events, project=self.project, limit=1000)
        steps = [event.data for event in events if event.kind == "step"]
        return any(step["job"] == job and step["name"] == "train" for step in steps)


def wait(ready: Callable[[], bool]) -> None:
    """Return when something is so."""
    end = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > end:
            raise SystemExit("It takes too long.")
        time.sleep(0.1)


class Agent:
    """`alunet agent` of the commit, spoken to as a viewer does."""

    def __init__(self, home: Path) -> None:
        command = [sys.executable, "-m", "alunet.agent", "--home", str(home)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answers: dict[int, Any] = {}
        self.settled: dict[str, str] = {}
        self.number = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            content = json.loads(line)
            if content.get("event") == "outbox" and content["state"] != "waiting":
                self.settled[content["key"]] = content["state"]
            elif "id" in content and "event" not in content:
                self.answers[content["id"]] = content

    def ask(self, call: str, **args: Any) -> Any:
        """Give a call and return its result."""
        self.number += 1
        number = self.number
        self.process.stdin.write(
            json.dumps({"id": number, "call": call, "args": args}).encode() + b"\n"
        )
        self.process.stdin.flush()
        wait(lambda: number in self.answers)
        if "result" not in self.answers[number]:
            raise SystemExit(f"{call}: {self.answers[number]}")
        return self.answers[number]["result"]

    def connect(self, service: Service) -> None:
        """Belong to a service."""
        self.ask("connect", to=service.address, token=service.token)

    def settle(self, key: str, state: str) -> None:
        """Wait for the engine's answer to an entry."""
        wait(lambda: key in self.settled)
        if self.settled[key] != state:
            raise SystemExit(f"The entry is {self.settled[key]}, not {state}.")

    def kill(self) -> None:
        """End as a power failure does."""
        self.process.kill()
        self.process.wait()


class Annotator:
    """A person who draws the reference, more or less."""

    def __init__(self, agent: Agent, truth: dict[str, np.ndarray], folder: Path) -> None:
        self.agent, self.truth, self.folder, self.project = agent, truth, folder, ""

    def drawn(self, row: WorkRow, careless: bool = False, unsure: bool = False) -> np.ndarray:
        """The labels of a row: the reference, a smaller organ, or one whose rim is left open."""
        labels = self.truth[row.case][tuple(slice(*extent) for extent in row.box)].copy()
        if careless:
            labels[:, : labels.shape[1] // 2] = 0
        if unsure:
            labels[:, :, -5:] = OPEN
        return labels

    def submit(
        self,
        row: WorkRow,
        author: str,
        labels: np.ndarray,
        base: int | None = None,
        status: Status = Status.DONE,
    ) -> str:
        """Hand labels in through the agent, by default to correct what the row shows; return the
        entry's key.
        """
        file = self.folder / "voxels.raw"
        file.write_bytes(np.ascontiguousarray(labels, np.uint8).tobytes())
        how = {
            "base_version": row.version if base is None else base,
            "author": author,
            "seconds": 12.5,
        }
        return self.agent.ask(
            "submit",
            project=self.project,
            sample=row.sample,
            file=str(file),
            shape=list(labels.shape),
            dtype="uint8",
            status=status.value,
            **how,
        )["key"]

    def annotate(self, row: WorkRow, author: str, state: str = "sent", **how: Any) -> None:
        """Hand labels in and wait for the engine's answer."""
        drawing = {name: how.pop(name) for name in ("careless", "unsure") if name in how}
        self.agent.settle(self.submit(row, author, self.drawn(row, **drawing), **how), state)

    def mark(self, row: WorkRow, author: str, status: Status) -> None:
        """Set a status without labels."""
        about = {"project": self.project, "sample": row.sample, "author": author}
        self.agent.settle(self.agent.ask("set_status", status=status.value, **about)["key"], "sent")
