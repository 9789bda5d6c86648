"""A real service in a process of its own, and small real projects in it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from alunet.model.child import with_source

SHAPE = (4, 40, 48)


class Service:
    """`alunet serve` on a folder; `get`, `post`, … send requests with its token."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root, self.options = root, options
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "alunet", "serve", "--root", str(self.root), "--threads", "1", *self.options]
        self.log = (self.root.parent / f"{self.root.name}.log").open("ab")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, env=with_source(), text=True, encoding="utf-8"
        )
        line = self.process.stdout.readline()
        self.announced = json.loads(line)
        self.token = self.announced["token"]
        self.url = self.announced["address"] + "/v1"

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(60)
        self.process.stdout.close()
        self.log.close()

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=60, **options)

    def ok(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """The JSON of an answer that must have that status."""
        answer = self.send(method, path, **options)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def refused(self, method: str, path: str, status: int, code: str, **options: Any) -> dict[str, Any]:
        """The problem of an answer that must have that status and code."""
        answer = self.send(method, path, **options)
        assert answer.status_code == status, answer.text
        problem = answer.json()
        assert set(problem) == {"code", "message", "hint", "details"}
        assert problem["code"] == code and problem["message"], problem
        assert "Traceback" not in answer.text
        return problem

    def upload(self, file: Path, part: int = 1 << 20) -> str:
        content = file.read_bytes()
        about = {"filename": file.name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        upload = self.send("POST", "/uploads", json=about).json()
        while upload["offset"] < len(content):
            chunk = content[upload["offset"] : upload["offset"] + part]
            headers = {"Upload-Offset": str(upload["offset"])}
            upload = self.ok("PATCH", f"/uploads/{upload['id']}", data=chunk, headers=headers)
        return upload["id"]

    def project(self, name: str = "p", **more: Any) -> str:
        request = {"name": name, "labels": ["organ", "lesion"], "channels": ["MRI"], "epochs": 1, "iterations": 4}
        return self.send("POST", "/projects", json={**request, **more}).json()["id"]

    def add_case(self, project: str, name: str, image: Path, label: Path | None = None, role: str = "pool") -> dict:
        body = {
            "name": name,
            "role": role,
            "images": [self.upload(image)],
            "label": None if label is None else self.upload(label),
        }
        return self.ok("POST", f"/projects/{project}/cases", 201, json=body)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path / "root")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests of a file that leave it as it was."""
    running = Service(tmp_path_factory.mktemp("common") / "root")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a small scan with a bright disc, and gives its file."""
    folder = tmp_path_factory.mktemp("scans")

    def write(name: str, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Path:
        generator = np.random.default_rng(seed)
        rows, cols = np.mgrid[: shape[1], : shape[2]]
        disc = (rows - shape[1] / 2) ** 2 + (cols - shape[2] / 2) ** 2 < 80
        voxels = generator.normal(100, 10, shape) + 200 * disc
        image = sitk.GetImageFromArray(voxels.astype(np.int16))
        image.SetSpacing((0.8, 0.8, 3.0))
        file = folder / name
        sitk.WriteImage(image, str(file), True)
        return file

    return write


def kill(pid: int) -> None:
    """End a process at once, as a crash would."""
    os.kill(pid, signal.SIGKILL)
