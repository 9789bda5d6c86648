"""What a person waits for passes before single slices that are looked at on demand, and who waits
is told whom for.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.errors import Cancelled
from alunet.project import Project
from alunet.schema import Code, JobKind, JobState
from alunet.serve import tasks, worker
from alunet.serve.priority import comes_before, gives_way, note_holder, waits_for, waits_for_device

SLICES = {"samples": [3, 4]}


@pytest.fixture
def project(tmp_path):
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    (tmp_path / "root" / ".alunet").mkdir(parents=True)
    labels = {"background": 0, "organ": 1}
    root = tmp_path / "root" / "p"
    with Project.create(root, name="Livers", labels=labels, channels=["CT"]) as made:
        made.cases.import_case("a", [tmp_path / "a.nii.gz"])
    with Project.open(root, shared=True) as opened:
        yield opened


@pytest.mark.parametrize("kind", [kind for kind in JobKind if kind is not JobKind.UNCERTAINTY])
def test_every_other_job_passes_before_slices_on_demand(project, kind):
    slices = project.jobs.get(project.jobs.add(JobKind.UNCERTAINTY, SLICES))
    other = project.jobs.get(project.jobs.add(kind, {}))
    assert comes_before(project, other) is None, "it waits for none"
    assert comes_before(project, slices).id == other.id, "although it came later"
    project.jobs.end(other.id, JobState.DONE)
    assert comes_before(project, slices) is None


def test_jobs_of_one_kind_keep_their_order(project):
    for kind, options in ((JobKind.UNCERTAINTY, SLICES), (JobKind.EXPORT, {})):
        first, second = (project.jobs.get(project.jobs.add(kind, options)) for _ in range(2))
        assert comes_before(project, second).id == first.id
        for job in (first, second):
            project.jobs.end(job.id, JobState.DONE)


def test_whole_cases_that_somebody_asked_for_do_not_give_way(project):
    for options in ({}, {"cases": ["a"]}):
        assert not gives_way(project.jobs.get(project.jobs.add(JobKind.UNCERTAINTY, options)))


def test_a_running_job_gives_way_within_a_second_and_goes_on_afterwards(project, monkeypatch):
    """The work stands in for the network's: it ends when it is told to."""
    number = project.jobs.add(JobKind.UNCERTAINTY, SLICES)
    begun: list[float] = []
    other: list[int] = []

    def work(task):
        begun.append(time.monotonic())
        if len(begun) == 1:
            other.append(project.jobs.add(JobKind.EXPORT, {}))
            assert task.cancel.wait(10), "it is told to give way"
            raise Cancelled("It gives way.")

    told = []

    def waits(asked, job, watch, why):
        told.append(why)
        asked.jobs.wait(job.id, why)
        assert asked.jobs.get(number).state is JobState.QUEUED
        asked.jobs.end(other[0], JobState.DONE)  # the other is done meanwhile

    monkeypatch.setattr(tasks, "run", work)
    monkeypatch.setattr(worker, "_wait", waits)
    worker.work(project.root.parent, project.root.name, number, 1)
    assert project.jobs.get(number).state is JobState.DONE and len(begun) == 2
    assert told == [f"Waits for the export (job {other[0]})."]


def test_a_person_cancels_it_all_the_same(project, monkeypatch):
    number = project.jobs.add(JobKind.UNCERTAINTY, SLICES)

    def work(task):
        project.jobs.add(JobKind.EXPORT, {})
        project.jobs.cancel(number)
        assert task.cancel.wait(10)
        time.sleep(0.6)
        raise Cancelled("It ends.")

    monkeypatch.setattr(tasks, "run", work)
    monkeypatch.setattr(os, "_exit", pytest.fail)
    worker.work(project.root.parent, project.root.name, number, 1)
    assert project.jobs.get(number).state is JobState.CANCELLED


def test_a_defect_of_the_watch_ends_the_job_with_a_reason(project, monkeypatch, caplog):
    """Without its watch a job could neither be cancelled nor give way."""
    number = project.jobs.add(JobKind.ROUND, {})

    def work(task):
        assert task.cancel.wait(10), "it is told to end"
        raise Cancelled("It ends.")

    def look(watch, project, beats):
        raise ZeroDivisionError

    monkeypatch.setattr(tasks, "run", work)
    monkeypatch.setattr(worker.Watch, "_look", look)
    worker.work(project.root.parent, project.root.name, number, 1)
    job = project.jobs.get(number)
    assert job.state is JobState.FAILED and job.error.code is Code.FAILED
    assert "ZeroDivisionError" in caplog.text


def test_whom_a_job_waits_for_is_told_as_an_event(project, tmp_path):
    first = project.jobs.get(project.jobs.add(JobKind.ROUND, {}))
    second = project.jobs.add(JobKind.EXPORT, {})
    project.jobs.wait(second, waits_for(first))
    kind, data = [(event.kind, event.data) for _, event in project.events.after(0, 100)][-1]
    assert (kind, data["job"], data["state"]) == ("job", second, "queued")
    assert data["waiting"] == f"Waits for the next round (job {first.id})."
    note_holder(tmp_path / "holder", project, first)
    assert (
        waits_for_device(tmp_path / "holder") == "Waits for the next round of the project 'Livers'."
    )
    (tmp_path / "holder").write_text("{", encoding="utf-8")
    assert "another project's job" in waits_for_device(tmp_path / "holder")
