"""A list of projects says what opening each would say, and opens none that lies still."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from alunet.project import Project
from alunet.schema import JobKind, ProjectRequest
from alunet.serve.projects import Projects, describe_project
from alunet.serve.settings import ServiceSettings
from alunet.storage.database import Database


@pytest.fixture
def projects(tmp_path) -> Projects:
    """Three projects that nobody has written for a while."""
    found = Projects(ServiceSettings(tmp_path, "t" * 20))
    for name in ("one", "two", "three"):
        found.create(ProjectRequest(name, ["liver", "tumor"], ["CT"]))
    age(tmp_path)
    return found


def age(root: Path) -> None:
    """As if the databases had been written a minute ago."""
    for file in root.glob("*/project.db*"):
        os.utime(file, (time.time() - 60, time.time() - 60))


def opened(projects: Projects):
    """What opening each project says."""
    found = []
    for identifier in projects.ids():
        with projects.open(identifier) as project:
            found.append(describe_project(identifier, project))
    return found


def test_a_list_opens_no_project_that_lies_still(projects, monkeypatch):
    expected = opened(projects)
    monkeypatch.setattr(Project, "__init__", lambda *_, **__: pytest.fail("it was opened"))
    for _ in range(2):  # read, and kept
        assert projects.listed() == expected
    assert {info.name for info in expected} == {"one", "two", "three"}


@pytest.mark.parametrize(
    "change",
    [
        lambda project: project.events.add("message", {"text": "x"}),
        lambda project: project.structures.add("kidney", color="#102030"),
        lambda project: project.jobs.add(JobKind.PLAN, {}),
    ],
    ids=["event", "structure", "job"],
)
@pytest.mark.parametrize("stays_open", [False, True])
def test_what_changed_is_told_at_once(projects, change, stays_open):
    """Also while the program that changed it has the project open."""
    identifier = projects.ids()[1]
    projects.listed()
    with Project.open(projects.folder(identifier)) as project:
        change(project)
        if stays_open:
            assert projects.listed() == opened(projects)
    assert projects.listed() == opened(projects)


def test_what_a_killed_process_left_is_told(projects, tmp_path):
    """Its log holds what the database's file does not."""
    identifier = projects.ids()[0]
    folder, copy = projects.folder(identifier), tmp_path / "copy-1"
    with Project.open(folder, shared=True) as project:
        project.events.add("message", {"text": "x"})
        shutil.copytree(folder, copy)
    age(tmp_path)
    (info,) = [info for info in projects.listed() if info.id == "copy-1"]
    assert info.event == projects.catalog.find(identifier).info.event


def test_a_project_that_is_not_as_it_should_be_is_left_to_who_opens_it(projects):
    """Damaged, of another version, or none at all."""
    damaged, older, gone = projects.ids()
    projects.listed()
    (projects.folder(damaged) / "project.db").write_bytes(b"no database" * 100)
    with Project.open(projects.folder(older), shared=True) as project:
        project._db.execute("PRAGMA user_version = 99")
    age(projects.folder(damaged).parent)
    shutil.rmtree(projects.folder(gone))
    assert [projects.catalog.find(one) for one in (damaged, older, gone)] == [None] * 3


def test_who_has_a_job_is_known(projects):
    identifier = projects.ids()[2]
    with projects.open(identifier) as project:
        options = {"name": "a", "images": ["1" * 32, "2" * 32], "label": "3" * 32, "role": "pool"}
        done = project.jobs.add(JobKind.IMPORT, options)
        age(projects.folder(identifier).parent)
    age(projects.folder(identifier).parent)
    known = projects.catalog.find(identifier)
    assert known.unfinished and known.uploads == {number * 32 for number in "123"}
    assert projects.catalog.idle(projects.ids()) == set(projects.ids()) - {identifier}
    with projects.open(identifier) as project:
        project.jobs.cancel(done)
    age(projects.folder(identifier).parent)
    assert projects.catalog.find(identifier).uploads == frozenset()


def test_a_name_is_found_without_opening(projects, monkeypatch):
    made, fresh = projects.create(ProjectRequest("two", ["liver", "tumor"], ["CT"]))
    assert not fresh and made.name == "two"
    counted = []
    monkeypatch.setattr(Database, "__init__", lambda *_, **__: counted.append(1))
    assert projects._named("none", projects.ids()) is None and not counted
