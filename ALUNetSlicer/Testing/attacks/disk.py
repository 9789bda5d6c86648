"""Fill the engine's disk up to every level, and annotate, read, upload and start jobs there.

Each level between 4 and 512 KiB is played on a file system in memory, and on one with blocks that
are smaller than a page, where files that are mapped have holes. The service is a real one.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import requests
import SimpleITK as sitk
from running import Service
from small_disks import KINDS, NoMount, fill, mounted
from test_work import get, labels, pooled, put

from attacks import Finding

COUNT = 50
_LOWEST, _HIGHEST = 4, 512  # KiB
_MEBIBYTES = 700  # more than uploads and jobs leave free
_JOB_EVERY = 10
_READ = ("", "/work", "/work/worklist", "/work/cases", "/work/jobs", "/work/events?after=0")
_IMAGE = "/work/cases/a/images/0"


def attack(count: int, seed: int, work: Path) -> list[Finding]:
    """Play `count` levels on each kind of disk; see the module."""
    levels = np.linspace(_LOWEST, _HIGHEST, count).round().astype(int)
    np.random.default_rng(seed).shuffle(levels)
    findings: list[Finding] = []
    for kind in KINDS:
        try:
            with mounted(work / kind, _MEBIBYTES, kind) as disk:
                findings += _Play(disk, work, kind).play(levels.tolist())
        except NoMount as reason:
            findings.append(Finding(f"{kind}: NOT PLAYED, {reason}", 0, 0))
    return findings


class _Play:
    """One service on one small disk."""

    def __init__(self, disk: Path, work: Path, kind: str) -> None:
        self._disk, self._work, self._kind = disk, work, kind
        self._service = Service(disk / "root")
        self._count: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._acknowledged: dict[int, tuple[int, np.ndarray]] = {}

    def play(self, levels: list[int]) -> list[Finding]:
        """Play the levels and give what was counted."""
        try:
            pooled(self._service, self._scan)
            for number, level in enumerate(levels):
                self._level(number, level)
            self._service.stop(9)
            self._service.start()
            for sample, (version, array) in self._acknowledged.items():
                stored = get(self._service, sample)
                if stored[0] != version or not np.array_equal(stored[1], array):
                    self._note("lost", f"sample {sample}")
            self._job("after everything")
        finally:
            self._service.stop()
        words = {
            "deaths": "deaths of the service",
            "lost": "acknowledged annotations lost",
            "unread": "reads refused",
            "codes": "answers with a wrong code",
            "stuck": "what did not go on with room again",
        }
        return [
            Finding(
                f"{self._kind}: {what}", self._count[key], 0, detail=self._examples.get(key, "")
            )
            for key, what in words.items()
        ]

    def _note(self, key: str, example: str) -> None:
        self._count[key] += 1
        self._examples.setdefault(key, example)

    def _level(self, number: int, level: int) -> None:
        """Fill the disk, do everything, make room, and do again what was refused."""
        sample, running = number % 11, None
        version = self._acknowledged.get(sample, (0,))[0]
        array, key = labels(1 + number % 2), f"{self._kind} {number}"
        if self._acknowledged and number % _JOB_EVERY == 1:
            running = self._service.ok("POST", "/projects/work/jobs", 202, json=_EXPORT)["id"]
        filler = fill(self._disk, level)
        try:
            answer = put(self._service, sample, array, version, key)
            done = self._expect(answer, level, "annotation", 200)
            status = self._send(
                "PATCH", "/samples/11", json=_STATUS, headers={"Idempotency-Key": f"s {key}"}
            )
            self._expect(status, level, "status", 200)
            self._read(level)
            self._expect(self._send("POST", "/jobs", json=_EXPORT), level, "job")
            upload = {"filename": "x.nrrd", "size": 9, "sha256": _digest(key)}
            self._expect(self._service.send("POST", "/uploads", json=upload), level, "upload")
        except requests.RequestException as error:
            done = False
            self._died(level, error)
        filler.unlink()
        if not done:
            answer = put(self._service, sample, array, version, key)
        if answer.status_code == 200 and answer.json()["version"] == version + 1:
            self._acknowledged[sample] = version + 1, array
        else:
            self._note("stuck", f"{level} KiB: {answer.text[:200]}")
        if running is not None:
            self._ended(running, level)

    def _read(self, level: int) -> None:
        addresses = [f"/projects{path}" for path in (*_READ, _IMAGE)]
        for address in (*addresses, "/health"):
            answer = self._service.send("GET", address)
            if answer.status_code != 200 or not answer.content:
                self._note("unread", f"{level} KiB, {address}: {answer.text[:200]}")

    def _expect(
        self, answer: requests.Response, level: int, what: str, success: int | None = None
    ) -> bool:
        """Whether it was done; it may be refused for want of room, and for nothing else."""
        if answer.status_code == success:
            return True
        if answer.status_code != 507 or answer.json()["code"] != "disk_full":
            text = f"{level} KiB, {what}: {answer.status_code} {answer.text[:200]}"
            self._note("codes", text)
        return False

    def _died(self, level: int, error: requests.RequestException) -> None:
        try:
            code = self._service.process.wait(5)
        except subprocess.TimeoutExpired:
            self._note("stuck", f"{level} KiB: {error}")
            return
        self._note("deaths", f"{level} KiB: exit code {code}")
        (self._disk / "filler").unlink(missing_ok=True)
        self._service.stop()
        self._service.start()
        (self._disk / "filler").touch()

    def _job(self, when: str) -> None:
        job = self._service.ok("POST", "/projects/work/jobs", 202, json=_EXPORT)["id"]
        found = self._service.ended("work", job)
        if found["state"] != "done":
            self._note("stuck", f"{when}: {found['error']}")

    def _ended(self, job: int, level: int) -> None:
        """A job that ran when the disk got full ended well, or for want of room."""
        found = self._service.ended("work", job)
        if found["state"] != "done" and found["error"]["code"] != "disk_full":
            self._note("codes", f"{level} KiB, running job: {found['error']}")

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._service.send(method, f"/projects/work{path}", **options)

    def _scan(self, name: str, seed: int, shape: tuple[int, int, int]) -> Path:
        voxels = np.random.default_rng(seed).normal(100, 10, shape).astype(np.int16)
        file = self._work / name
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file), True)
        return file


_EXPORT = {"kind": "export", "options": {"what": "labels", "format": "nrrd"}}
_STATUS = {"status": "skipped", "author": "ann"}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
