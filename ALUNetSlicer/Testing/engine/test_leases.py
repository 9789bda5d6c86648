"""Leases last by a clock that nobody sets: the computer's time may jump, its start ends them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import planned_project
import pytest
import SimpleITK as sitk

from alunet.project import Project, lease_clock
from alunet.project.refusals import Leased

DAY = 24 * 3600.0
LABELS = {"background": 0, "a": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 9, (3, 8, 8)))
    sitk.WriteImage(image, str(tmp_path / "c.nrrd"))
    with Project.create(tmp_path / "p", name="p", labels=LABELS, channels=["MRI"]) as project:
        project.cases.import_case("c", [tmp_path / "c.nrrd"])
        planned_project.plan(project)
        planned_project.suggest(project, range(3))
    return tmp_path / "p"


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the computer's time forward, or back."""
    offset, usual = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: usual() + offset[0])

    def by(seconds: float) -> None:
        offset[0] += seconds

    return by


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Let time pass: the time of day, and that since the computer was started."""
    passed, day, boot = [0.0], time.time, lease_clock.boot_seconds
    monkeypatch.setattr(time, "time", lambda: day() + passed[0])
    monkeypatch.setattr(lease_clock, "boot_seconds", lambda: boot() + passed[0])

    def by(seconds: float) -> None:
        passed[0] += seconds

    return by


def holder(folder: Path) -> str | None:
    """Who has sample 0, as a service that was just started says."""
    with Project.open(folder, shared=True) as project:
        lease = project.worklist.rows()[0].lease
        return None if lease is None else lease.author


def is_kept_from(folder: Path, author: str) -> bool:
    with Project.open(folder, shared=True) as project:
        try:
            project.worklist.lease(0, author, 60)
        except Leased:
            return True
        return False


def take(folder: Path, author: str = "ann", seconds: float = 300) -> float:
    with Project.open(folder, shared=True) as project:
        return project.worklist.lease(0, author, seconds).until


@pytest.mark.parametrize("seconds", [DAY, -DAY, 400 * DAY, -400 * DAY])
def test_setting_the_clock_ends_no_lease(folder, jump, seconds):
    take(folder)
    jump(seconds)
    assert holder(folder) == "ann" and is_kept_from(folder, "bob")


@pytest.mark.parametrize("seconds", [DAY, -DAY])
def test_setting_the_clock_prolongs_no_lease(folder, jump, later, seconds):
    take(folder)
    jump(seconds)
    later(299)
    assert holder(folder) == "ann"
    later(2)
    assert holder(folder) is None and not is_kept_from(folder, "bob")


def test_people_see_when_a_lease_ends_by_the_time_of_day(folder, later):
    assert take(folder) == pytest.approx(time.time() + 300, abs=1)
    later(100)
    with Project.open(folder, shared=True) as project:
        lease = project.worklist.rows()[0].lease
    assert lease.until == pytest.approx(time.time() + 200, abs=1)


@pytest.mark.parametrize("names_its_start", [True, False])
def test_starting_the_computer_anew_ends_all_leases(folder, monkeypatch, names_its_start):
    take(folder)
    if names_its_start:
        monkeypatch.setattr(lease_clock, "boot_id", lambda: "another")
    else:  # then the clock begins anew
        monkeypatch.setattr(lease_clock, "boot_seconds", lambda: 1.0)
    assert holder(folder) is None and not is_kept_from(folder, "bob")
    assert holder(folder) == "bob" and is_kept_from(folder, "ann")


def test_leases_of_a_project_from_before_go_on(folder):
    take(folder)
    with Project.open(folder) as project:
        project._db.execute("DELETE FROM meta WHERE key = 'lease clock'")
        project._db.execute("UPDATE leases SET until = ?", (time.time() + 60,))
    assert holder(folder) == "ann" and is_kept_from(folder, "bob")
    with Project.open(folder) as project:
        project._db.execute("UPDATE leases SET until = until - 61")
    assert holder(folder) is None and not is_kept_from(folder, "bob")
