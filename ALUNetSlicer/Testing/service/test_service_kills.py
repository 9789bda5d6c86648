"""Kill -9 of the service and of its jobs at random moments while cases go up, slices are annotated
and models trained.

Nothing acknowledged is lost, the project opens, and every job ends in a true state.
ALUNET_SERVICE_KILLS: how often.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections import Counter

import numpy as np
import pytest
from insisting import annotate, bring_case, insist, labels_of, upload
from running import kill
from test_jobs import tree, worklist

from alunet.project import Project

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("ALUNET_SERVICE_KILLS", "12"))
WORK, UPLOAD = "train and suggest", "upload"
LONGEST = {WORK: 6.0, UPLOAD: 0.3}
"""Seconds between two kills, at most; half a second in the other phases."""
JOBS = 0.3
"""How much of the kills go to a job, where one runs; the others to the service."""


class Killer(threading.Thread):
    """Kills until KILLS are done; a service that was killed is started again at once.

    Attributes:
        killed: what was killed in which phase, how often.
    """

    def __init__(self, service) -> None:
        super().__init__(daemon=True)
        self.service = service
        self._phase, self._changed = "", threading.Event()
        self.killed: Counter[tuple[str, str]] = Counter()
        self._moments = random.Random(3)

    def enter(self, phase: str) -> None:
        """Says what is going on from now on."""
        self._phase = phase
        self._changed.set()

    def run(self) -> None:
        while not self.done:
            self._changed.clear()
            phase = self._phase
            if self._changed.wait(self._moments.uniform(0.05, LONGEST.get(phase, 0.5))):
                continue
            processes = tree(self.service.root) if self._moments.random() < JOBS else []
            for process in processes:
                kill(process.pid)
            if not processes:
                self.service.stop(9)
                self.service.start()
            self.killed["job" if processes else "service", phase] += 1

    @property
    def done(self) -> bool:
        """Whether there were enough."""
        return self.killed.total() >= KILLS


class Person:
    """Works with a project in spite of the kills: what got no answer is sent again.

    Attributes:
        acknowledged: sample -> the labels that it has for certain.
    """

    def __init__(self, service, killer: Killer, project: str, scan) -> None:
        self.service, self.killer, self.project, self.scan = service, killer, project, scan
        self.acknowledged: dict[int, np.ndarray] = {}
        self._labels = np.random.default_rng(4)
        insist(service)

    def brings_a_case(self, number: int) -> None:
        self.killer.enter(UPLOAD)
        file = self.scan(f"case{number}.nii.gz", number)
        uploaded = upload(self.service, file, part=200)
        bring_case(self.service, self.project, f"case{number}", uploaded)

    def asks_for_a_batch(self, strategy: str) -> None:
        """Trains on what is annotated and waits for the batch; a job that died too often is
        renewed.
        """
        self.killer.enter(WORK)
        for _ in range(40):
            headers = {"Idempotency-Key": str(uuid.uuid4())}
            body = {"kind": "round", "options": {"strategy": strategy, "budget": 3, "ahead": 0}}
            place = f"/projects/{self.project}/jobs"
            job = self.service.ok("POST", place, 202, json=body, headers=headers)
            while job["state"] not in ("done", "failed"):
                time.sleep(0.1)
                job = self.service.ok("GET", f"{place}/{job['id']}")
            if job["state"] == "done":
                return
            assert "died several times" in job["error"]["message"], job
        raise AssertionError("no job ends")

    def annotates(self) -> None:
        self.killer.enter("annotate")
        for row in worklist(self.service, self.project):
            shape = [high - low for low, high in row["box"]]
            labels = self._labels.integers(0, 3, shape, np.uint8)
            annotate(self.service, self.project, row, labels)
            self.acknowledged[row["sample"]] = labels
            time.sleep(self._labels.uniform(0, 0.5))

    def finds_everything(self) -> None:
        for sample, labels in self.acknowledged.items():
            assert labels_of(self.service, self.project, sample) == labels.tobytes(), sample


def test_killed_at_random_moments_it_loses_nothing_acknowledged(service, scan, record_property):
    project = service.project()
    killer = Killer(service)
    person = Person(service, killer, project, scan)
    killer.start()
    turn = 0
    while not killer.done:
        person.brings_a_case(turn)
        person.asks_for_a_batch("entropy" if turn else "random")
        person.annotates()
        person.finds_everything()
        turn += 1
    killer.join()
    person.finds_everything()
    jobs = service.ok("GET", f"/projects/{project}/jobs")
    assert {job["state"] for job in jobs} <= {"done", "failed"} and not tree(service.root)
    with Project.open(service.root / project) as opened:
        assert set(np.flatnonzero(opened.samples.labelled())) == set(person.acknowledged)
    record_property("killed", str(dict(killer.killed)))
