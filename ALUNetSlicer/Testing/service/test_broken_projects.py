"""A project that cannot be opened is told of, and troubles no other: neither lists, nor new
projects, uploads, imports, jobs, nor the end of an idle service.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import kills
from running import Service

from alunet.agent.client import Client
from alunet.agent.outbox import Entry, Outbox, pack
from alunet.agent.sender import Sender
from alunet.project import Project
from alunet.schema import JobKind, JobState
from alunet.serve.projects import Projects
from alunet.serve.settings import ServiceSettings
from alunet.serve.supervisor import Supervisor


def statement(folder: Path, text: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "project.db")) as database:
        database.execute(text)
        database.commit()


def half_made(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "project.db").touch()


def without_tables(folder: Path) -> None:
    half_made(folder)
    statement(folder, "PRAGMA journal_mode = WAL")


def a_folder_as_database(folder: Path) -> None:
    half_made(folder)
    (folder / "project.db").unlink()
    (folder / "project.db").mkdir()


def newer(folder: Path) -> None:
    statement(folder, "PRAGMA user_version = 999")


def damaged(folder: Path) -> None:
    (folder / "project.db").write_bytes(os.urandom(8192))


def damaged_within(folder: Path) -> None:
    content = (folder / "project.db").read_bytes()
    (folder / "project.db").write_bytes(content[:4096] + os.urandom(len(content) - 4096))


def without_settings(folder: Path) -> None:
    statement(folder, "DELETE FROM meta")


def with_odd_settings(folder: Path) -> None:
    statement(folder, "UPDATE meta SET value = '{\"name\": ' WHERE key = 'project'")


def data_moved_away(folder: Path) -> None:
    statement(folder, "INSERT INTO meta VALUES ('data', '\"../gone\"')")


def moved_behind_a_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.with_name("gone"), target_is_directory=True)


def a_link_in_a_circle(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.name, target_is_directory=True)


def database_moved_away(folder: Path) -> None:
    for part in folder.glob("project.db*"):
        part.unlink()


def without_rights(folder: Path) -> None:
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("nobody keeps this user out")
    folder.chmod(0)


WAYS = [
    half_made,
    without_tables,
    a_folder_as_database,
    newer,
    damaged,
    damaged_within,
    without_settings,
    with_odd_settings,
    data_moved_away,
    database_moved_away,
    without_rights,
]
LINKS = [moved_behind_a_link, a_link_in_a_circle]
if os.name != "nt":  # links need rights there
    WAYS += LINKS


@pytest.fixture(scope="module")
def neighbors(tmp_path_factory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("neighbors") / "root")
    yield running
    running.stop()


CODES = {damaged: "damaged", damaged_within: "damaged"}
STATUS = {"unusable": 409, "damaged": 500, "locked": 503}


def works_beside(service: Service, ill: str, scan, name: str, code: str = "unusable") -> None:
    """Everything that others do goes on; the project itself says why it does not."""
    service.refused("GET", f"/projects/{ill}", STATUS[code], code)
    listed = {row["id"]: row for row in service.ok("GET", "/projects")}
    problem = listed[ill]["problem"]
    assert problem["code"] == code and problem["message"] and "\n" not in problem["message"]
    assert ill in problem["message"] and "Traceback" not in str(problem)
    well = service.project(f"well {name}")
    assert service.project(f"well {name}") == well, "found again"
    assert service.ok("GET", f"/projects/{well}")["problem"] is None
    body = {"name": "a", "role": "pool", "images": [service.upload(scan("a.nii.gz"))]}
    job = service.imported(well, body)
    assert job["state"] == "done" and service.ok("GET", f"/projects/{well}/cases")[0]["name"] == "a"
    told = service.refused("GET", f"/projects/{ill}", STATUS[code], code)["message"]
    assert told == problem["message"]
    service.refused("GET", f"/projects/{ill}/jobs", STATUS[code], code)
    assert any(ill in line for line in service.ok("GET", "/health")["stuck"])


@pytest.mark.parametrize("way", WAYS)
def test_a_project_that_cannot_be_opened_troubles_no_other(neighbors, scan, way):
    ill = neighbors.project(f"ill {way.__name__}")
    neighbors.ok("POST", f"/projects/{ill}/jobs", 202, json={"kind": "plan", "options": {}})
    while neighbors.ok("GET", f"/projects/{ill}/jobs/1")["state"] in ("queued", "running"):
        time.sleep(0.05)
    way(neighbors.root / ill)
    works_beside(neighbors, ill, scan, way.__name__, CODES.get(way, "unusable"))


def test_a_project_that_another_program_holds_troubles_no_other(neighbors, scan):
    ill = neighbors.project("held")
    with contextlib.closing(
        sqlite3.connect(neighbors.root / ill / "project.db", isolation_level=None)
    ) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("BEGIN EXCLUSIVE")
        works_beside(neighbors, ill, scan, "held", "locked")
        body = {"name": "held", "labels": ["organ"], "channels": ["MRI"]}
        neighbors.refused("POST", "/projects", 503, "locked", json=body)
    found = {row["id"]: row for row in neighbors.ok("GET", "/projects")}
    assert found[ill]["problem"] is None, "it is free again"
    assert not any(ill in line for line in neighbors.ok("GET", "/health")["stuck"])


def test_a_service_starts_and_works_beside_all_of_them(tmp_path, scan):
    service = Service(tmp_path / "root")
    try:
        ill = {way: service.project(way.__name__) for way in WAYS if way is not without_rights}
        service.stop()
        for way, identifier in ill.items():
            way(service.root / identifier)
        service.start()
        for way, identifier in ill.items():
            code = CODES.get(way, "unusable")
            service.refused("GET", f"/projects/{identifier}", STATUS[code], code)
        works_beside(service, ill[newer], scan, "all")
        listed = service.ok("GET", "/projects")
        assert {row["id"] for row in listed if row["problem"]} == set(ill.values())
        assert service.ok("GET", "/health")["projects"] == len(listed)
    finally:
        service.stop()


def annotation(project: str, shape: tuple[int, ...] = (1, *kills.SHAPE[1:])) -> Entry:
    content = {"base_version": 0, "author": "ann", "seconds": 1.0, "status": "done"}
    content |= {"dtype": "uint8", "shape": list(shape)}
    body = pack(bytes(shape[1] * shape[2]), shape, "uint8")
    return Entry("engine", project, 0, content, body)


def test_annotations_wait_for_a_project_and_hold_no_other_up(tmp_path):
    for name in ("ill", "well"):
        kills.planned(tmp_path / "root" / name, tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "root" / "ill" / "project.db")) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
    newer(tmp_path / "root" / "ill")
    service, outbox = Service(tmp_path / "root"), Outbox(tmp_path / "outbox")
    client = Client(service.announced["address"], service.token)
    told: list[tuple[str, str]] = []
    sender = Sender(
        outbox,
        "engine",
        lambda: client,
        lambda state, entry, _: told.append((state, entry.project)),
    )
    sender.start()
    try:
        sender.put(annotation("ill"))
        while not told:
            time.sleep(0.05)
        sender.put(annotation("well"))
        while ("sent", "well") not in told:
            time.sleep(0.05)
        statement(service.root / "ill", f"PRAGMA user_version = {version}")
        while ("sent", "ill") not in told:
            time.sleep(0.05)
        assert told[0] == ("waiting", "ill") and {state for state, _ in told} == {"waiting", "sent"}
    finally:
        sender.stop()
        service.stop()


@pytest.fixture
def supervised(tmp_path) -> Iterator[tuple[Project, Supervisor]]:
    """A project with a job that waits, and a supervisor that sees to it in this process."""
    settings = ServiceSettings(tmp_path / "root", "x" * 40, device="cpu")
    settings.own.mkdir(parents=True)
    create = {"name": "p", "labels": {"background": 0, "a": 1}, "channels": ["CT"]}
    with Project.create(settings.root / "p-1", **create) as project:
        project.jobs.add(JobKind.PLAN, {})
    supervisor = Supervisor(settings, Projects(settings))
    with Project.open(settings.root / "p-1", shared=True) as project:
        yield project, supervisor
    supervisor.close()


@pytest.mark.skipif(os.name == "nt", reason="there is no /bin/false")
def test_a_job_whose_process_always_dies_before_it_begins_fails_in_the_end(monkeypatch, request):
    """As where the engine's environment is broken: it is not started for ever."""
    monkeypatch.setattr("alunet.serve.supervisor.sys.executable", shutil.which("false"))
    project, supervisor = request.getfixturevalue("supervised")
    while project.jobs.get(1).state is not JobState.FAILED:
        time.sleep(0.05)
    assert "died several times" in project.jobs.get(1).error.message
    while supervisor.busy:
        time.sleep(0.05)


def test_a_job_that_cannot_be_started_waits_and_says_why(monkeypatch, request):
    monkeypatch.setattr("alunet.serve.supervisor._GIVE_UP_SECONDS", 0.5)
    monkeypatch.setattr("alunet.serve.supervisor.sys.executable", "/no/such/python")
    project, supervisor = request.getfixturevalue("supervised")
    while "cannot be started" not in project.jobs.get(1).waiting:
        time.sleep(0.05)
    while supervisor.busy:
        time.sleep(0.05)
    (line,) = supervisor.stuck()
    assert "p-1" in line and "/no/such/python" in line
    assert project.jobs.get(1).state is JobState.QUEUED, "it is tried again"
    monkeypatch.undo()
    supervisor.wake("p-1")
    while project.jobs.get(1).attempts == 0:
        time.sleep(0.05)


def never_opens(folder: Path) -> None:
    damaged(folder)


def never_starts(folder: Path) -> None:
    """A job waits that no process can be started for."""
    with Project.open(folder) as project:
        project.jobs.add(JobKind.PLAN, {})
    shutil.rmtree(folder / "jobs", ignore_errors=True)
    (folder / "jobs").touch()


@pytest.mark.parametrize("way", [never_opens, never_starts])
def test_an_idle_service_ends_all_the_same(tmp_path, way):
    service = Service(tmp_path / "root")
    ill = service.project()
    service.stop()
    way(service.root / ill)
    service.options = ("--idle", "0.05")
    service.start()
    assert service.process.wait(90) == 0
    service.stop()
