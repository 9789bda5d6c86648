"""A disk that is full: one clear line from whichever part met it first, nothing half written, and
on with more room.

Two real ways: a limit on the size of files (`RLIMIT_FSIZE`: "File too large"), for everyone on
Linux and macOS; and a small file system in memory that is filled up ("No space left on device"),
for root on Linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from test_bad_input import alunet, assert_one_line, content  # noqa: F401  a fixture and two helpers

import alunet as package
from alunet.project import Project
from alunet.simulation.phantom import make_phantom

Fill = Callable[[int], Path]
ENGINE = Path(package.__file__).parents[1]
LIBRARIES = """
import sys
from pathlib import Path
import resource
import blosc2, numpy as np, SimpleITK as sitk, sqlite3, torch
from alunet.errors import InputError
from alunet.project.tables import MIGRATIONS
from alunet.storage.database import Database
from alunet.storage.files import atomic_path, write_json
from alunet.imaging.reading import save_image

folder, noise = Path(sys.argv[1]), np.random.default_rng(0).random((40, 50, 60))
database = Database(folder / "project.db", MIGRATIONS)
database.migrate()
writers = {
    "a.nii.gz": lambda file: save_image(sitk.GetImageFromArray(noise), file),
    "a.nrrd": lambda file: save_image(sitk.GetImageFromArray(noise), file),
    "a.mha": lambda file: save_image(sitk.GetImageFromArray(noise), file),
    "a.b2nd": lambda file: blosc2.asarray(noise, urlpath=str(file)),
    "a.pth": lambda file: torch.save(torch.from_numpy(noise), file),
    "a.npz": lambda file: np.savez(file, noise=noise),
    "a.json": lambda file: file.write_text("x" * 900_000, encoding="utf-8"),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
for name, write in writers.items():
    try:
        with atomic_path(folder / name) as part:
            write(part)
    except InputError as error:
        print(name, error)
try:
    database.execute("INSERT INTO meta (key, value) VALUES ('x', ?)", ("x" * 900_000,))
except InputError as error:
    print("project.db", error)
print(database.rows("SELECT count(*) FROM meta"))
"""


def command(*words: object, limit: int | None = None) -> tuple[int, str]:
    """Runs `alunet` in a process of its own, where files may not grow beyond `limit` bytes; exit
    code and error.
    """

    def hold() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    done = subprocess.run(
        [sys.executable, "-m", "alunet", *map(str, words)],
        cwd=ENGINE,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        preexec_fn=hold if limit else None,
    )
    return done.returncode, done.stderr


def noise(path: Path, shape: tuple[int, int, int] = (30, 100, 100), high: int = 256) -> Path:
    """An image that cannot be compressed."""
    array = np.random.default_rng(0).integers(0, high, shape).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


# --- libraries ------------------------------------------------------------------------------------

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no limit on the size of files"
)


@posix
def test_every_library_that_writes_says_it_in_the_same_words(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIBRARIES, str(tmp_path)],
        cwd=ENGINE,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.stderr == ""
    *lines, count = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "a.nii.gz",
        "a.nrrd",
        "a.mha",
        "a.b2nd",
        "a.pth",
        "a.npz",
        "a.json",
        "project.db",
    ]
    for line in lines:
        assert f"The disk of {tmp_path} is full (" in line
        assert "MiB free): File too large. Make room, then repeat the command" in line
    assert count == "[(0,)]"
    assert {path.name for path in tmp_path.iterdir()} <= {
        "project.db",
        "project.db-wal",
        "project.db-shm",
    }


# --- import and database --------------------------------------------------------------------------


@posix
def test_import_of_a_file_that_is_too_large(tmp_path: Path) -> None:
    root, file = tmp_path / "p", noise(tmp_path / "x.nrrd", (60, 100, 100))
    Project.create(root, name="p", labels={"background": 0, "a": 1}, channels=["MRI"]).close()
    before = content(root)
    code, err = command("add", root, file, limit=300_000)
    assert_one_line((code, "", err), f"The disk of {root / 'images'} is full (")
    assert content(root) == before
    assert command("add", root, file) == (0, "")


@pytest.mark.parametrize("left", [0, 8, 24, 40, 200])
def test_import_without_room(
    alunet,  # noqa: F811
    small_disk: Path,
    fill: Fill,
    tmp_path: Path,
    left: int,
) -> None:
    """With little room the lock, the database or the images are what does not fit."""
    root, file = small_disk / "p", noise(tmp_path / "x.nii")
    Project.create(root, name="p", labels={"background": 0, "a": 1}, channels=["MRI"]).close()
    before, filler = content(root), fill(left)
    assert_one_line(
        alunet("add", root, file), "is full (0 MiB free): No space left on device. Make room"
    )
    assert content(root) == before
    filler.unlink()
    assert alunet("add", root, file)[0] == 0
    with Project.open(root) as project:
        (case,) = project.cases.all()
        assert sitk.ReadImage(str(case.images[0])).GetSize() == (100, 100, 30)


def test_a_project_that_has_no_room_to_begin(alunet, small_disk: Path, fill: Fill) -> None:  # noqa: F811
    filler = fill(12)
    words = ("init", small_disk / "p", "--label", "a", "--channel", "CT")
    assert_one_line(alunet(*words), "is full (0 MiB free): No space left on device.")
    assert list(small_disk.iterdir()) == [filler]
    filler.unlink()
    assert alunet(*words)[0] == 0


# --- planning, annotation, training ---------------------------------------------------------------


@pytest.mark.slow
def test_planning_and_annotation_without_room(
    alunet,  # noqa: F811
    fill: Fill,
    small_disk: Path,
    tmp_path: Path,
) -> None:
    root, file, drawn = (
        small_disk / "p",
        noise(tmp_path / "x.nii"),
        noise(tmp_path / "label.nii.gz", high=2),
    )
    assert alunet("init", root, "--label", "a", "--channel", "MRI")[0] == 0
    assert alunet("add", root, file)[0] == 0
    filler = fill(600)
    code, _, err = alunet("plan", root)
    assert (code, err.count("alunet: ")) == (2, 1)
    assert "is full (0 MiB free): No space left on device. Make room" in err.splitlines()[-1]
    assert not list(root.rglob("tmp-*"))
    filler.unlink()
    assert alunet("plan", root)[0] == 0
    assert alunet("suggest", root, "--strategy", "random", "--budget", "3")[0] == 0
    before = content(root)
    for left in (0, 8, 24, 40):
        filler = fill(left)
        words = ("annotate", root, drawn, "--case", "x", "--all-slices")
        assert_one_line(alunet(*words), "is full (0 MiB free): No space left on device.")
        assert content(root) == before
        filler.unlink()
    assert alunet(*words)[0] == 0
    with Project.open(root) as project:
        assert project.samples.labelled().all()
        assert np.array_equal(
            project.annotations.read("x"), sitk.GetArrayFromImage(sitk.ReadImage(str(drawn)))
        )


@posix
@pytest.mark.slow
def test_a_checkpoint_without_room(tmp_path: Path) -> None:
    """The training runs in a process of its own; with more room the same command goes on to the
    same end.
    """
    folder, out = make_phantom(tmp_path / "set", cases=5, seed=0), tmp_path / "study"
    words = [
        "simulate",
        folder,
        "--strategy",
        "random",
        "--rounds",
        "1",
        "--initial",
        "5",
        "--budget",
        "5",
    ]
    words += ["--epochs", "1", "--iterations", "2", "--out", out]
    code, err = command(*words, limit=2_000_000)
    assert code == 2
    assert "Traceback" not in err
    assert "is full (" in err.splitlines()[-1]
    assert "File too large. Make room" in err.splitlines()[-1]
    assert not list(out.rglob("tmp-*"))
    assert not list(out.rglob("weights.pth"))
    assert command(*words)[0] == 0
    assert (out / "curves.csv").is_file()
    shutil.rmtree(out)
