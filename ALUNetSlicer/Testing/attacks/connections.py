"""Thousands of half-open connections, while a person with the token goes on annotating.

They send nothing, half a head, a byte now and then, or a body that stalls; to a second service half
of a TLS handshake. Each that the service ends is opened again.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import requests
import SimpleITK as sitk
from running import Service

from alunet.pool import CaseGeometry, Pool
from alunet.project import Project
from alunet.schema import Header
from attacks import Finding

COUNT = 5000
_ATTACKERS = Path(__file__).resolve().parents[1] / "service" / "half_open.py"
_SECONDS, _SHORT_SECONDS, _WHOLE = 60.0, 5.0, 1000
_SLOW, _LOG_BYTES, _GROWTH_MIB = 1.0, 100_000, {"HTTP": 200, "TLS": 600}
_SHAPE = (8, 64, 64)
_AUTHOR = "Ana"
Request = Callable[[], requests.Response]


def attack(count: int, seed: int, work: Path) -> list[Finding]:
    """Hold `count` connections open for a minute, or for a few seconds where they are few."""
    seconds = _SECONDS if count >= _WHOLE else _SHORT_SECONDS
    plain = _Played(work / "plain")
    findings = plain.under_attack(count, seed, seconds)
    if shutil.which("openssl"):
        pem = certificate(work)
        secure = _Played(work / "secure", "--tls-cert", str(pem), "--tls-key", str(pem))
        findings += secure.under_attack(count, seed, seconds)
    return findings


class _Played:
    """A service with a project, and the requests of a person who annotates there."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.service = Service(folder / "root", *options)
        self.log, self.tls = folder / "root.log", options[1] if options else ""
        self.session = requests.Session()
        self.session.trust_env = False  # a variable may name other authorities than ours
        self.session.headers["Authorization"] = f"Bearer {self.service.token}"
        self.session.verify = self.tls or True
        self.project, self._versions = "", dict[str, int]()

    def under_attack(self, count: int, seed: int, seconds: float) -> list[Finding]:
        """Annotate while the connections come, and count what happened."""
        try:
            self._prepare()
            return self._measure(count, seed, seconds)
        finally:
            self.session.close()
            self.service.stop()

    def _measure(self, count: int, seed: int, seconds: float) -> list[Finding]:
        name = "TLS" if self.tls else "HTTP"
        process, written = psutil.Process(self.service.process.pid), self.log.stat().st_size
        times, failed = self._annotate(3.0, None)
        quiet = _percentile(times)
        files, memory = _open_files(process), process.memory_info().rss
        address = self.service.url.split("//")[1].split("/")[0]
        command = [sys.executable, str(_ATTACKERS), address, str(count), str(seed), str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attackers:
            times, failed = self._annotate(seconds, attackers)
            opened = attackers.communicate(timeout=60)[0].strip()
        grown = (process.memory_info().rss - memory) / 2**20
        left = _settled(process, files)
        detail = f"{len(times)} requests; without the attack {quiet:.3f} s; {opened}"
        return [
            Finding(
                f"{name}: failed requests with the token", len(failed), 0, detail=str(failed[:3])
            ),
            Finding(
                f"{name}: 99th percentile ({detail})", round(_percentile(times), 3), _SLOW, "s"
            ),
            Finding(f"{name}: log", self.log.stat().st_size - written, _LOG_BYTES, "bytes"),
            Finding(f"{name}: descriptors left behind", left - files, 20),
            Finding(f"{name}: memory", round(grown), _GROWTH_MIB[name], "MiB"),
        ]

    def _annotate(
        self, seconds: float, attackers: subprocess.Popen[str] | None
    ) -> tuple[list[float], list[str]]:
        """Seconds of each request of a person who works on, and what went wrong."""
        times, failed, number = [], [], 0
        end = time.monotonic() + seconds
        while time.monotonic() < end and (attackers is None or attackers.poll() is None):
            request = self._requests(number)[number % 3]
            if number % 2:  # every other one over a connection of its own
                self.session.close()
            number, begun = number + 1, time.monotonic()
            try:
                answer = request()
                if not answer.ok:
                    failed.append(f"{answer.status_code} {answer.text[:100]}")
            except requests.RequestException as error:
                failed.append(repr(error)[:200])
            times.append(time.monotonic() - begun)
            time.sleep(0.02)
        return times, failed

    def _requests(self, number: int) -> tuple[Request, Request, Request]:
        base, sample = f"{self.service.url}/projects/{self.project}", number // 3 % _SHAPE[0]
        headers = {
            Header.KEY: str(uuid.uuid4()),
            Header.SHAPE: ",".join(map(str, (1, *_SHAPE[1:]))),
            Header.DTYPE: "uint8",
            "Content-Encoding": "gzip",
        }
        return (
            lambda: self.session.get(f"{self.service.url}/health", timeout=30),
            lambda: self.session.get(f"{base}/worklist", timeout=30),
            lambda: self._save(f"{base}/samples/{sample}/annotation", headers),
        )

    def _save(self, url: str, headers: dict[str, str]) -> requests.Response:
        labels = np.ones((1, *_SHAPE[1:]), np.uint8)
        version = self._versions.get(url, 0)
        about = {"author": _AUTHOR, "base_version": version, "status": "done"}
        body = gzip.compress(labels.tobytes(), 1)
        answer = self.session.put(url, params=about, data=body, headers=headers, timeout=30)
        if answer.ok:
            self._versions[url] = answer.json()["version"]
        return answer

    def _prepare(self) -> None:
        """A project with one case, each of its slices in the worklist."""
        about = {"name": "attacked", "labels": ["organ"], "channels": ["CT"]}
        answer = self.session.post(f"{self.service.url}/projects", json=about, timeout=60)
        self.project = answer.json()["id"]
        file = self.service.root.parent / "scan.mha"
        voxels = np.random.default_rng(0).integers(-1000, 1000, _SHAPE, np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
        geometry = CaseGeometry(
            "scan", _SHAPE, (0, 1, 2), tuple((0, extent) for extent in _SHAPE), _SHAPE
        )
        with Project.open(self.service.root / self.project) as project:
            project.cases.import_case("scan", [file])
            project.cases.set_geometry("scan", geometry)
            project.samples.set_pool(Pool.build([geometry], _SHAPE[1:]))
            project.rounds.begin("spread", _SHAPE[0])
            ids = list(range(_SHAPE[0]))
            project.worklist.suggest(0, ids, [0.0] * len(ids), [""] * len(ids))


def _percentile(times: list[float]) -> float:
    return float(np.percentile(times, 99)) if times else float("inf")


def _open_files(process: psutil.Process) -> int:
    return process.num_handles() if sys.platform == "win32" else process.num_fds()


def _settled(process: psutil.Process, before: int) -> int:
    """Open files of the service after the attack, when it has ended what does not go on."""
    end = time.monotonic() + 20
    while (found := _open_files(process)) > before and time.monotonic() < end:
        time.sleep(0.2)
    return found


def certificate(work: Path) -> Path:
    """A certificate for this computer and its key, in one file."""
    file = work / "own.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, "-keyout", str(file), "-out", str(file.with_suffix(".crt"))],
        check=True,
        capture_output=True,
    )
    with file.open("ab") as stream:
        stream.write(file.with_suffix(".crt").read_bytes())
    return file
