"""A backup is the project at one moment, while people go on annotating; a restore is whole or not
there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import small_disks
from attacks import rot

from alunet.errors import InputError
from alunet.model.child import with_source
from alunet.project import Project
from alunet.project.backup import MANIFEST, back_up, restore
from alunet.project.checking import check
from alunet.project.held import held_files
from alunet.project.kept_files import NotAsStored, forget_digests
from alunet.schema import ignore_events
from alunet.storage.database import is_sound
from alunet.storage.files import sha256_file


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    with rot._children_know_the_framework():
        return rot.make_project(tmp_path_factory.mktemp("backup"))


@pytest.fixture
def root(whole, tmp_path) -> Path:
    forget_digests()
    return shutil.copytree(whole, tmp_path / "project")


@pytest.fixture
def archive(root, tmp_path) -> Path:
    with Project.open(root, shared=True) as project:
        return back_up(project, tmp_path / "backup.zip", ignore_events).file


def label_maps(project: Project) -> dict[str, bytes]:
    return {case: project.annotations.read(case).tobytes() for case in project.annotations.cases()}


def test_what_is_restored_is_what_was_there_and_passes_the_check(root, archive, tmp_path):
    heard = []
    with Project.open(root, read_only=True) as project:
        before, weights = label_maps(project), rot.loop_of(project).newest_weights().read_bytes()
    with restore(archive, tmp_path / "new", heard.append) as project:
        assert check(project, ignore_events).damages == ()
        assert label_maps(project) == before
        assert rot.loop_of(project).newest_weights().read_bytes() == weights
        rot._next_annotation(rot.loop_of(project), tmp_path)
    assert {event.data["phase"] for event in heard} == {"restore"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("restore-", "tmp-"))]
    assert not [path for path in root.iterdir() if "backup" in path.name]
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700 or os.name == "nt"


def test_what_a_person_keeps_in_the_folder_of_a_project_stays(root):
    """Of a killed backup goes what it made; no file or folder of another name."""
    (root / "backup-1.zip").write_bytes(b"mine")
    (root / "backup-monday").mkdir()
    (root / "backup-monday" / "lock").write_text("mine")
    with contextlib.suppress(KeyboardInterrupt), held_files(root) as place:
        kept = shutil.copytree(place, root / f"{place.name}again")
        raise KeyboardInterrupt
    Project.open(root).close()
    assert (root / "backup-1.zip").read_bytes() == b"mine"
    assert (root / "backup-monday" / "lock").read_text() == "mine"
    assert not place.exists() and not kept.exists()


def test_it_goes_on_where_it_was(archive, tmp_path):
    """Preprocessed images are made again, and a round is trained."""
    with rot._children_know_the_framework(), restore(archive, tmp_path / "new", print) as project:
        loop = rot.loop_of(project)
        loop.prepare()
        rot._next_annotation(loop, tmp_path)
        assert loop.learn().number == 1 and not project.rounds.anew(1)


ANNOTATE = """
import sys
from pathlib import Path
from attacks import rot
from alunet.project import Project

with Project.open(Path(sys.argv[1]), shared=True) as project:
    samples = [int(project.pool.samples_of(name)[0]) for name in rot.CASES]
    print("ready", flush=True)
    number = 0
    while True:
        for sample in samples:
            number += 1
            rot.draw(project, sample, number, by_hand=number % 4 == 0)
            print(number, flush=True)
"""


def test_backups_while_annotations_come_in_are_sound(root, tmp_path):
    """Label maps that were written and not yet committed at the moment are made from versions."""
    engine = Path(rot.__file__).parents[1]
    variables = with_source()
    variables["PYTHONPATH"] += f":{engine}"
    working = subprocess.Popen(
        [sys.executable, "-c", ANNOTATE, str(root)],
        stdout=subprocess.PIPE,
        text=True,
        env=variables,
    )
    try:
        assert working.stdout.readline() == "ready\n"
        drawn = []
        reader = threading.Thread(target=lambda: drawn.extend(working.stdout), daemon=True)
        reader.start()
        for number in range(4):
            with Project.open(root, shared=True) as project:
                made = back_up(project, tmp_path / f"{number}.zip", ignore_events)
            with restore(made.file, tmp_path / str(number), ignore_events) as project:
                found = check(project, ignore_events)
                assert found.damages == (), found.damages
                label_maps(project)
    finally:
        working.kill()
        working.wait()
    assert len(drawn) > 4, "nobody annotated meanwhile"


def test_nobody_waits_for_images_that_are_copied(root, tmp_path, monkeypatch):
    """On a disk without hard links, or where another project has the images on another disk."""
    copied, whole = [], shutil.copyfile

    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "another disk")

    def copy(source: Path, target: Path) -> None:
        whole(source, target)
        if Path(source).parent.name == "images":
            with Project.open(root, shared=True, wait=0.1) as other:
                other._db.execute("PRAGMA busy_timeout = 100")
                other.events.add("message", {"text": "saved meanwhile"})
            copied.append(source)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(shutil, "copyfile", copy)
    with Project.open(root, shared=True) as project:
        made = back_up(project, tmp_path / "b.zip", ignore_events)
    assert copied
    with restore(made.file, tmp_path / "new", ignore_events) as project:
        assert check(project, ignore_events).damages == ()


def test_damage_is_not_backed_up(root, tmp_path):
    image = next((root / "images").iterdir())
    content = bytearray(image.read_bytes())
    content[-5] ^= 1
    image.write_bytes(content)
    with Project.open(root, shared=True) as project, pytest.raises(NotAsStored, match="Repair the"):
        back_up(project, tmp_path / "backup.zip", ignore_events)
    assert not (tmp_path / "backup.zip").exists()


def test_a_damaged_label_map_is_backed_up_as_it_was_stored(root, tmp_path):
    with Project.open(root, shared=True) as project:
        before = label_maps(project)
        rot._flip(random.Random(1), [project.annotations.file("a")], root)
        made = back_up(project, tmp_path / "backup.zip", ignore_events)
    with restore(made.file, tmp_path / "new", ignore_events) as project:
        assert label_maps(project) == before and check(project, ignore_events).damages == ()


def test_a_run_that_shares_images_has_its_own_afterwards(root, tmp_path):
    with Project.open(root) as project, project.fork(tmp_path / "fork") as fork:
        made = back_up(fork, tmp_path / "backup.zip", ignore_events)
    with restore(made.file, tmp_path / "new", ignore_events) as project:
        assert project.data == project.root
        assert all(image.is_file() for case in project.cases.all() for image in case.images)
        assert check(project, ignore_events).damages == ()


# --- files that are no backup ---------------------------------------------------------------------


def rebuilt(archive: Path, target: Path, change) -> Path:
    """A copy of an archive in which `change` gave other members and another list."""
    with zipfile.ZipFile(archive) as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    about = json.loads(members.pop(MANIFEST))
    with zipfile.ZipFile(target, "w") as new:
        change(members, about, new)
        for name, content in members.items():
            new.writestr(zipfile.ZipInfo(name), content)
        new.writestr(MANIFEST, json.dumps(about))
    return target


def digest(content: bytes, place: Path) -> str:
    place.write_bytes(content)
    return sha256_file(place)


HOSTILE = (
    "../outside",
    "/tmp/outside",
    "a/../../outside",
    "C:\\outside",
    "a\\..\\b",
    "./a",
    "a//b",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_written_outside_of_the_folder(name, archive, tmp_path):
    def change(members, about, new):
        members[name] = b"x"
        about["files"][name] = digest(b"x", tmp_path / "x")

    refuse(rebuilt(archive, tmp_path / "hostile.zip", change), tmp_path, "no file of a project")
    assert not (tmp_path.parent / "outside").exists() and not Path("/tmp/outside").exists()


def test_no_link_is_made(archive, tmp_path):
    def change(members, about, new):
        info = zipfile.ZipInfo("images/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        new.writestr(info, "/etc/passwd")
        about["files"]["images/link"] = digest(b"/etc/passwd", tmp_path / "x")

    refuse(rebuilt(archive, tmp_path / "hostile.zip", change), tmp_path, "no file of a project")


def test_nothing_grows_when_it_is_unpacked(archive, tmp_path):
    def change(members, about, new):
        zeros = bytes(50 << 20)
        new.writestr("images/zeros", zeros, zipfile.ZIP_DEFLATED)
        about["files"]["images/zeros"] = digest(zeros, tmp_path / "x")

    refuse(rebuilt(archive, tmp_path / "hostile.zip", change), tmp_path, "is compressed")


@pytest.mark.parametrize("what", ["more", "less", "changed", "no list", "cut off", "text", "empty"])
def test_what_is_not_what_was_backed_up_is_refused(what, archive, tmp_path):
    def change(members, about, new):
        if what == "more":
            members["images/more"] = b"x"
        if what == "less":
            members.pop("project.db")
        if what == "changed":
            members["project.db"] = members["project.db"][:-1] + b"x"
        if what == "no list":
            about.clear()

    file = rebuilt(archive, tmp_path / "odd.zip", change)
    content = file.read_bytes()
    if what in ("cut off", "text", "empty"):
        file.write_bytes({"cut off": content[:-200], "text": b"hello", "empty": b""}[what])
    refuse(file, tmp_path, "cannot be restored")


def test_what_a_killed_restoration_left_goes_with_the_next_one(archive, tmp_path):
    """It holds images of patients."""
    place = tmp_path / "projects"
    place.mkdir()
    with held_files(place) as held:
        (held / "scan.mha").touch()
        left = shutil.copytree(held, place / f"{held.name}x")
        restore(archive, place / "first", ignore_events).close()
        assert held.is_dir() and not left.exists(), "the one that goes on stays"
    assert [path.name for path in place.iterdir()] == ["first"]


def test_a_folder_that_is_taken_stays_as_it_is(archive, root, tmp_path):
    refuse(archive, tmp_path, "exists already", root)
    with pytest.raises(InputError, match="There is no file"):
        restore(tmp_path / "none.zip", tmp_path / "new", ignore_events)


def refuse(file: Path, tmp_path: Path, words: str, folder: Path | None = None) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=words) as caught:
        restore(file, folder or tmp_path / "new", ignore_events)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before, "nothing is left of it"


def alunet(*words: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "alunet", *map(str, words)],
        capture_output=True,
        text=True,
        env=with_source(),
    )
    return done.returncode, done.stdout + done.stderr


def test_the_terminal_checks_repairs_backs_up_and_restores(root, tmp_path):
    assert alunet("check", root)[0] == 0
    (root / "annotations" / "a.mha").write_bytes(b"")
    code, said = alunet("check", root)
    assert code == 1 and "a.mha is not what was stored" in said and "alunet repair" in said
    code, said = alunet("check", root, "--json")
    assert code == 1 and json.loads(said[said.index("{") : said.rindex("}") + 1])["damages"]
    code, said = alunet("repair", root, "--dry-run")
    assert code == 1 and "1 of 1 repairable" in said
    assert (root / "annotations" / "a.mha").read_bytes() == b""
    code, said = alunet("repair", root)
    assert code == 0 and "rebuilt from its versions" in said
    assert alunet("backup", root, tmp_path / "b.zip")[0] == 0
    assert alunet("restore", tmp_path / "b.zip", tmp_path / "new")[0] == 0
    assert alunet("check", tmp_path / "new")[0] == 0
    code, said = alunet("restore", tmp_path / "b.zip", tmp_path / "new")
    assert code == 2 and said.count("\n") == 1


def test_on_a_disk_that_is_read_only_a_sound_project_is_no_damaged_one(root, tmp_path):
    """SQLite cannot open its log there, which says nothing of the database."""
    disk = tmp_path / "disk"
    with contextlib.ExitStack() as mounts:
        try:
            mounts.enter_context(small_disks.mounted(disk, 64, "ext4"))
        except small_disks.NoMount as reason:
            pytest.skip(str(reason))
        project = shutil.copytree(root, disk / "project")
        with Project.open(project, shared=True) as opened:
            opened.events.add("message", {"text": "so that there is a log"})
            shutil.copytree(project, disk / "copied")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for folder in (project, disk / "copied"):
            assert is_sound(folder / "project.db")
            code, said = alunet("check", folder)
            assert code == 0 and "all as it was stored" in said, said


def test_a_database_that_sqlite_finds_damaged_is_named(root):
    """Nothing that it says counts then."""
    Project.open(root).close()
    file = root / "project.db"
    assert is_sound(file)
    pages = bytearray(file.read_bytes())
    pages[2 * 4096 : 3 * 4096] = bytes(4096)
    file.write_bytes(pages)
    assert not is_sound(file)
    for command in ("check", "repair", "backup"):
        words = [command, root, *([root.parent / "b.zip"] if command == "backup" else [])]
        code, said = alunet(*words)
        assert code == 1 and said.count("\n") == 1 and "Restore it from a backup." in said
