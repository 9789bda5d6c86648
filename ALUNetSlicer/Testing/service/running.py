"""`alunet serve` in a process of its own, for the tests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import requests

from alunet.model.child import with_source


class Service:
    """`alunet serve` on a folder; `get`, `post`, … send requests with its token."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root, self.options = root, options
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "alunet", "serve", "--root", str(self.root)]
        command += ["--threads", "1", "--device", "cpu", *self.options]
        self.log = (self.root.parent / f"{self.root.name}.log").open("ab")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=with_source(),
            text=True,
            encoding="utf-8",
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

    def refused(
        self, method: str, path: str, status: int, code: str, **options: Any
    ) -> dict[str, Any]:
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
        about = {
            "filename": file.name,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        upload = self.send("POST", "/uploads", json=about).json()
        while upload["offset"] < len(content):
            chunk = content[upload["offset"] : upload["offset"] + part]
            headers = {"Upload-Offset": str(upload["offset"])}
            upload = self.ok("PATCH", f"/uploads/{upload['id']}", data=chunk, headers=headers)
        return upload["id"]

    def project(self, name: str = "p", **more: Any) -> str:
        request = {
            "name": name,
            "labels": ["organ", "lesion"],
            "channels": ["MRI"],
            "epochs": 1,
            "iterations": 4,
        }
        return self.send("POST", "/projects", json={**request, **more}).json()["id"]

    def add_case(
        self, project: str, name: str, image: Path, label: Path | None = None, role: str = "pool"
    ) -> dict:
        body = {
            "name": name,
            "role": role,
            "images": [self.upload(image)],
            "label": None if label is None else self.upload(label),
        }
        job = self.imported(project, body)
        assert job["state"] == "done", job
        return self.ok("GET", f"/projects/{project}/cases/{name}")

    def imported(self, project: str, body: dict[str, Any]) -> dict[str, Any]:
        """The job that imports a case, when it has ended."""
        job = self.ok("POST", f"/projects/{project}/cases", 202, json=body)
        return self.ended(project, job["id"])

    def ended(self, project: str, job: int) -> dict[str, Any]:
        """A job when it has ended, however."""
        while True:
            found = self.ok("GET", f"/projects/{project}/jobs/{job}")
            if found["state"] in ("done", "failed", "cancelled"):
                return found
            time.sleep(0.05)

    def unusable(self, project: str, body: dict[str, Any], code: str) -> dict[str, Any]:
        """The problem of a case that cannot be imported."""
        job = self.imported(project, body)
        assert job["state"] == "failed" and job["error"]["code"] == code, job
        assert "Traceback" not in str(job) and "\n" not in job["error"]["message"], job
        return job["error"]


def kill(pid: int) -> None:
    """End a process at once, as a crash would."""
    os.kill(pid, signal.SIGKILL)


def tree(root: Path) -> list[psutil.Process]:
    """Processes of the jobs of a service, and all that they started."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "alunet.serve.worker" in line and str(root) in line:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [process, *process.children(recursive=True)]
    return found
