"""Nothing only grows: what nobody needs any more goes, and nothing that somebody uses."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from pathlib import Path

import pytest
from running import Service

from alunet.agent.client import Client
from alunet.project import Project, tidying
from alunet.schema import JobKind, JobState
from alunet.serve.housekeeping import Housekeeping, forget_copies
from alunet.serve.projects import Projects
from alunet.serve.service_thread import ServiceThread
from alunet.serve.settings import ServiceSettings
from alunet.serve.uploads import Uploads
from alunet.storage.files import cut_log

WEEK = 7 * 24 * 3600.0
LABELS = {"background": 0, "a": 1}


def aged(path: Path, seconds: float) -> Path:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))
    return path


def left(folder: Path, name: str = "x.json") -> Path:
    """What a writer that was killed left."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"tmp-{uuid.uuid4().hex}-{name}"
    file.write_text("half", encoding="utf-8")
    return file


def begun(folder: Path, number: int, age: float = 0.0) -> str:
    """An upload of which nothing has come."""
    identity = f"{number:032x}"
    content = {"id": identity, "offset": 0, "size": 5, "sha256": "0" * 64, "ending": ".nrrd"}
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"{identity}.json"
    note.write_text(json.dumps(content), encoding="utf-8")
    aged(note, age)
    return identity


@pytest.fixture
def settings(tmp_path: Path) -> ServiceSettings:
    found = ServiceSettings(tmp_path / "root", "x" * 40)
    (found.own / "converted").mkdir(parents=True)
    return found


def tidied(settings: ServiceSettings) -> None:
    """One look of a service that was just started."""
    uploads = Uploads(settings)
    keeping = Housekeeping(settings, Projects(settings), uploads)
    with contextlib.closing(keeping):
        keeping._tidy()
        assert keeping.stuck() == []


def test_uploads_that_nobody_touched_for_a_week_go_but_not_those_that_an_import_waits_for(settings):
    folder = settings.own / "uploads"
    old, waited_for, new = (
        begun(folder, i, age) for i, age in ((1, WEEK + 9), (2, WEEK + 9), (3, 0))
    )
    with Project.create(settings.root / "p-1", name="p", labels=LABELS, channels=["CT"]) as project:
        options = {"name": "c", "images": [waited_for], "label": None, "role": "pool"}
        project.jobs.add(JobKind.IMPORT, options)
    tidied(settings)
    assert {file.stem for file in folder.glob("*.json")} == {waited_for, new} and old


def test_what_killed_writers_left_goes_when_the_service_starts(settings):
    files = [left(settings.own / name) for name in ("uploads", "converted")]
    making = settings.own / "making" / "p-0123abcd"
    making.mkdir(parents=True)
    (making / "project.db").touch()
    Housekeeping(settings, Projects(settings), Uploads(settings)).close()
    assert not any(file.exists() for file in files) and not making.exists()


def test_copies_go_when_nobody_used_them_for_a_day_or_they_are_too_much(tmp_path):
    names = ("just-used", "used-an-hour-ago", "used-before", "of-yesterday")
    for name, age in zip(names, (10, 3600, 7200, 90_000), strict=True):
        (tmp_path / name).write_bytes(bytes(100))
        aged(tmp_path / name, age)
    forget_copies(tmp_path, 86_400, most=250)
    assert {file.name for file in tmp_path.iterdir()} == set(names[:2])
    forget_copies(tmp_path, 86_400, most=0)
    assert {file.name for file in tmp_path.iterdir()} == {"just-used"}


def test_old_events_and_jobs_are_forgotten_and_clients_are_told(settings, monkeypatch):
    monkeypatch.setattr(tidying, "KEPT_EVENTS", 50)
    monkeypatch.setattr(tidying, "KEPT_JOBS", 4)
    monkeypatch.setattr(tidying, "KEPT_RESULTS", 2)
    with Project.create(settings.root / "p-1", name="p", labels=LABELS, channels=["CT"]) as project:
        for number in range(200):
            project.events.add("message", {"text": str(number)})
        folder = project.jobs.folder
        for _ in range(9):
            job = project.jobs.add(JobKind.EXPORT, {})
            project.jobs.lock(job).touch()
            (folder / f"{job}.log").write_text("said\n", encoding="utf-8")
            (folder / f"{job}-labels.zip").write_bytes(b"made")
            project.jobs.begin(job)
            project.jobs.end(job, JobState.DONE, result=folder / f"{job}-labels.zip")
        project._db.execute("UPDATE jobs SET finished = finished - 100000")
        waiting = project.jobs.add(JobKind.PLAN, {})
        newest = project.events.newest()
    tidied(settings)
    with Project.open(settings.root / "p-1") as project:
        assert project.events.newest() == newest, "numbers only grow"
        found = project.events.after(0)
        (number, gap), *others = found
        assert (gap.kind, gap.data) == ("gap", {"after": 0, "first": number + 1})
        assert [own for own, _ in others] == list(range(newest - 49, newest + 1))
        assert project.events.after(number) == others, "who goes on from there misses nothing more"
        assert [job.id for job in project.jobs.all()] == [6, 7, 8, 9, waiting]
        made = {file.name for file in project.jobs.folder.glob("*.zip")}
        assert made == {"8-labels.zip", "9-labels.zip"}
        assert [job.id for job in project.jobs.all() if job.result] == [8, 9]
        assert sorted(file.stem for file in project.jobs.folder.glob("*.log")) == list("6789")


def test_who_follows_from_a_forgotten_event_is_told_and_misses_nothing_more(common):
    project = common.project("gap")
    with Project.open(common.root / project, shared=True) as opened:
        for number in range(30):
            opened.events.add("message", {"text": str(number)})
        assert opened.events.forget(10, 100) == 20
        client = Client(common.announced["address"], common.token)
        stream = (event for event in client.follow(project, 3) if event is not None)
        found = [next(stream) for _ in range(11)]
        assert [event.kind for event in found] == ["gap", *["message"] * 10]
        assert found[0].data == {"after": 3, "first": 21}
        assert [event.number for event in found] == list(range(20, 31))
        opened.events.add("message", {"text": "news"})
        assert next(stream).data == {"text": "news"}
    listed = common.ok("GET", f"/projects/{project}/events?after=3&limit=2")
    assert [event["number"] for event in listed] == [20, 21, 22]
    assert common.ok("GET", f"/projects/{project}/events?after=20&limit=1")[0]["number"] == 21


def test_what_killed_jobs_left_goes_but_nothing_of_a_job_that_goes_on(settings):
    with Project.create(settings.root / "p-1", name="p", labels=LABELS, channels=["CT"]) as project:
        waiting = project.jobs.add(JobKind.SIMULATE, {})
        root, jobs = project.root, project.jobs.folder
        kept = jobs / f"{waiting}-simulation"
        gone = [
            jobs / "77-simulation",
            jobs / "tmpab_9cd3e",
            root / "tmp-export-ab_9cd3e",
            root / "rounds" / "000" / "proposals" / "tmp-0123456789abcdef",
            root / "rounds" / "000" / "uncertainty" / "entropy" / "tmp-0123456789abcdef",
        ]
        mine = root / "tmp_backups"  # a person put it there
        for folder in (kept, mine, *gone):
            folder.mkdir(parents=True)
            (folder / "half.zip").touch()
        files = [left(jobs, "3-labels.zip"), left(root / "rounds" / "000" / "proposals", "c.mha")]
        own = root / "rounds" / "000" / "proposals" / "tmp-1.mha"
        own.touch()  # of a case of that name, in a project of before
    tidied(settings)
    assert kept.is_dir() and own.is_file() and mine.is_dir()
    assert not any(path.exists() for path in (*gone, *files))


def test_a_project_that_is_at_work_is_left_alone(settings):
    with Project.create(settings.root / "p-1", name="p", labels=LABELS, channels=["CT"]) as project:
        being_written = left(project.rounds_dir)
        tidied(settings)
        assert being_written.is_file()


def test_a_log_keeps_its_newer_half(tmp_path):
    log = tmp_path / "1.log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)), encoding="utf-8")
    with log.open("a", encoding="utf-8") as writer:
        cut_log(log, 4000)
        writer.write("goes on\n")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("line ") and lines[-2:] == ["line 999", "goes on"]
    assert log.stat().st_size <= 2100
    cut_log(log, 4000)
    assert log.read_text(encoding="utf-8").splitlines() == lines


def test_uploads_work_beside_what_kills_left(common, scan):
    folder = common.root / ".alunet" / "uploads"
    left(folder, f"{'a' * 32}.json")
    (folder / f"{'b' * 32}.json").write_text("", encoding="utf-8")
    (folder / f"{'c' * 32}.part").write_bytes(b"half")
    (folder / f"{'d' * 32}.json").mkdir(exist_ok=True)
    project = common.project("beside")
    body = {"name": "a", "role": "pool", "images": [common.upload(scan("u.nii.gz", 8))]}
    assert common.imported(project, body)["state"] == "done"
    for name in "abcd":
        common.refused("GET", f"/uploads/{name * 32}", 404, "not_found")


def test_a_service_with_many_begun_uploads_starts_and_takes_more(tmp_path, scan):
    for number in range(2_000):
        begun(tmp_path / "root" / ".alunet" / "uploads", number, WEEK + 9 if number % 2 else 0)
    service = Service(tmp_path / "root")
    try:
        service.upload(scan("m.nii.gz", 9))
        folder = service.root / ".alunet" / "uploads"
        while len(list(folder.glob("*.json"))) > 1_001:
            time.sleep(0.1)
        assert service.ok("GET", "/health")["stuck"] == []
    finally:
        service.stop()


def test_nothing_ends_a_thread_of_the_service_and_what_it_cannot_do_is_told(caplog):
    failures, done = [OSError("odd"), OSError("odd"), ValueError("other")], []

    def step() -> float:
        if failures:
            raise failures.pop(0)
        done.append(1)
        return 60.0

    thread = ServiceThread("The thread", step)
    thread.start()
    said = set()
    while not done:
        said.update(thread.stuck())
        thread.wake()
        time.sleep(0.01)
    time.sleep(0.1)
    assert thread.stuck() == []
    assert said <= {"The thread fails: OSError: odd.", "The thread fails: ValueError: other."}
    assert len(caplog.records) == 2, "each is logged once"
    thread.close()


def test_a_thread_that_hangs_or_ended_is_told(monkeypatch):
    monkeypatch.setattr("alunet.serve.service_thread.STUCK_SECONDS", 0.05)
    thread = ServiceThread("The thread", lambda: time.sleep(0.5) or 60.0)
    thread.start()
    time.sleep(0.2)
    assert "The thread has not looked for" in thread.stuck()[0]
    thread.close()
