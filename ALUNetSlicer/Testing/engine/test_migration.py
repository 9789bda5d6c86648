"""Projects and outboxes that older versions made open in this one, and nothing in them is lost or
changed.

The recorded ones were made by the code of their commits, see `recorded/make_projects.py`.
ALUNET_MIGRATION_KILLS says how often the opening of each commit's is killed, ALUNET_MIGRATION_SEED
at which moments.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from recorded import facts

from alunet.cli.opening import opened_to_read
from alunet.model.child import with_source
from alunet.project import Project
from alunet.storage.database import OldSchema

RECORDED = Path(facts.__file__).parent
COMMITS = sorted(file.stem.removeprefix("project-") for file in RECORDED.glob("project-*.zip"))
PARTS = ("annotating", "training", "outbox")
KILLS = int(os.environ.get("ALUNET_MIGRATION_KILLS", "50"))
SEED = int(os.environ.get("ALUNET_MIGRATION_SEED", "0"))
AGAIN = 0.3
"""How often an opening that was killed is killed once more at the next try."""
OPENER = """
import os, signal, sys, time, traceback
from pathlib import Path
from alunet.agent.outbox import Outbox
from alunet.project import Project

def open_and_end(folder):
    code = 1
    try:
        (Outbox(folder) if folder.name == "outbox" else Project.open(folder)).close()
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)

for line in sys.stdin:
    moment, _, folder = line.rstrip("\\n").partition(" ")
    start = time.monotonic()
    child = os.fork()
    if not child:
        open_and_end(Path(folder))
    if moment != "never":
        time.sleep(float(moment))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    seconds = time.monotonic() - start
    print("killed" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), seconds, flush=True)
"""


@pytest.fixture(scope="module", params=COMMITS)
def commit(request):
    return request.param


@pytest.fixture(scope="module")
def wanted(commit):
    """What was in the projects and the outbox when they were made."""
    return json.loads((RECORDED / f"project-{commit}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(commit, tmp_path_factory):
    """The projects and the outbox as they were made; only copies of them are opened."""
    folder = tmp_path_factory.mktemp(commit)
    with zipfile.ZipFile(RECORDED / f"project-{commit}.zip") as archive:
        archive.extractall(folder)
    return folder


def read(folder: Path):
    """What is in a project or an outbox now."""
    found = facts.of_outbox(folder) if folder.name == "outbox" else facts.of_project(folder)
    return json.loads(json.dumps(found))


def check(wanted, folder: Path) -> None:
    """Nothing is lost or changed."""
    old = wanted["outbox"] if folder.name == "outbox" else wanted["projects"][folder.name]
    changed = facts.differences(old, read(folder))
    assert not changed, "\n".join(changed[:20])


def test_there_are_recorded_projects_of_two_commits():
    assert {"d61bfe5", "a4f7862"} <= set(COMMITS)


@pytest.mark.parametrize("part", PARTS)
def test_what_an_older_version_made_opens_with_all_that_was_in_it(part, made, wanted, tmp_path):
    check(wanted, shutil.copytree(made / part, tmp_path / part))


@pytest.mark.parametrize("part", ["annotating", "training"])
def test_it_is_the_same_when_it_is_opened_again(part, made, wanted, tmp_path):
    folder = shutil.copytree(made / part, tmp_path / part)
    read(folder)
    check(wanted, folder)


def test_a_command_that_only_reads_brings_an_older_project_up_to_date_first(made, wanted, tmp_path):
    folder = shutil.copytree(made / "annotating", tmp_path / "annotating")
    with pytest.raises(OldSchema):
        Project.open(folder, read_only=True)
    with opened_to_read(folder) as project:
        assert project.read_only
    check(wanted, folder)


def test_the_recorded_projects_show_what_can_be_lost(wanted):
    """A recording without these would prove little."""
    working, learning = wanted["projects"]["annotating"], wanted["projects"]["training"]
    assert [known["finished"] for known in working["rounds"]] == [True, True, True, False]
    assert len(working["curve"]) == 3
    assert {row["status"] for row in working["worklists"][-1]} == {
        "todo",
        "in_progress",
        "done",
        "skipped",
        "flagged",
    }
    assert any(row["ahead"] for row in working["worklists"][-1])
    assert any(entry["chosen by"] for known in working["rounds"] for entry in known["suggested"])
    versions = [version for entry in working["versions"].values() for version in entry["all"]]
    assert any(version["conflict"] for version in versions)
    assert any("255" in version["voxels"]["counts"] for version in versions)
    assert working["labels that come now belong to round"] == 3
    assert learning["labels that come now belong to round"] == 4
    assert learning["jobs"][-1]["state"] == "running"
    assert {entry["state"] for entry in wanted["outbox"]} == set(facts.STATES)
    assert sum(entry["state"] == "waiting" for entry in wanted["outbox"]) == 3


class Opener:
    """A process that opens folders, each in a child that can be killed; it has loaded all that
    this takes before.
    """

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(
            [sys.executable, "-c", OPENER], **pipes, text=True, env=with_source()
        )

    def __call__(self, folder: Path, moment: float | None = None) -> tuple[bool, float]:
        """Open a folder, and kill that so many seconds later; whether it was killed, and after
        which time it ended.
        """
        self.process.stdin.write(f"{'never' if moment is None else moment} {folder}\n")
        self.process.stdin.flush()
        end, seconds = self.process.stdout.readline().split()
        assert end in ("0", "killed"), f"{folder.name} does not open"
        return end == "killed", float(seconds)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture
def opener():
    if not hasattr(os, "fork"):
        pytest.skip("only a system that can fork kills an opening at a chosen moment")
    running = Opener()
    yield running
    running.close()


def schema(folder: Path, scratch: Path) -> int:
    """Schema version of a project as a reader finds it, whatever the killed process left beside
    the file.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for file in folder.glob("project.db*"):
        shutil.copyfile(file, scratch / file.name)
    database = sqlite3.connect(scratch / "project.db")
    try:
        return int(database.execute("PRAGMA user_version").fetchone()[0])
    finally:
        database.close()


@pytest.mark.slow
def test_killed_while_it_is_opened_it_is_the_old_or_the_new(
    made, wanted, tmp_path, opener, record_property
):
    """Nothing is half migrated: after each kill it opens, with all that was in it."""
    lengths, schemas = {}, {}
    for part in PARTS:
        folder = shutil.copytree(made / part, tmp_path / "calm" / part)
        old = schema(folder, tmp_path / "schema") if part != "outbox" else 0
        lengths[part] = opener(folder)[1]
        schemas[part] = {old, schema(folder, tmp_path / "schema") if part != "outbox" else 0}
    chance, killed, number = random.Random(SEED), 0, 0
    while killed < KILLS:
        part = PARTS[number % len(PARTS)]
        folder = shutil.copytree(made / part, tmp_path / str(number) / part)
        for _ in range(1 + (chance.random() < AGAIN)):
            killed += opener(folder, chance.uniform(0, 1.1 * lengths[part]))[0]
            if part != "outbox":
                assert schema(folder, tmp_path / "schema") in schemas[part]
        check(wanted, folder)
        shutil.rmtree(folder.parent)
        number += 1
        assert number < 4 * KILLS, "hardly any opening is caught in time"
    record_property("killed", f"{killed} of {number} openings, which take {lengths} s")
