"""Images that are no case of a project are segmented by its model as if they were one."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import slices, write
from small import RECIPE
from typer.testing import CliRunner

from alunet import cli
from alunet.errors import Cancelled, InputError
from alunet.imaging.grids import EXACT, Grid, displacement
from alunet.imaging.reading import grid_of
from alunet.loop import Loop, outputs
from alunet.loop.outside import outside_images, predict_images
from alunet.loop.setup import Setup
from alunet.project import Project
from alunet.schema import Event


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def scan(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 30, (6, 40, 44)).astype(np.float32)


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


# --- which files are which images -----------------------------------------------------------------


def found(channels: int, *paths: Path) -> dict[str, list[str]]:
    cases, _ = outside_images(paths, channels)
    return {name: [file.name for file in files] for name, files, _ in cases}


def test_files_and_folders_of_one_channel(tmp_path: Path) -> None:
    files = [save(scan(), tmp_path / name) for name in ("x_0000.nrrd", "y.nii.gz", "amos_0017.mha")]
    assert found(1, *files) == {
        "amos_0017": ["amos_0017.mha"],
        "x": ["x_0000.nrrd"],
        "y": ["y.nii.gz"],
    }
    assert found(1, tmp_path) == found(1, *files)


def test_channels_by_their_names_or_in_their_order(tmp_path: Path) -> None:
    names = ("p_0000.nrrd", "p_0001.nrrd", "q_0000.nrrd", "q_0001.nrrd")
    files = [save(scan(), tmp_path / "named" / name) for name in names]
    pairs = {"p": list(names[:2]), "q": list(names[2:])}
    assert found(2, *files) == found(2, tmp_path / "named") == pairs
    two = [save(scan(), tmp_path / name) for name in ("t1.nrrd", "flair.nrrd")]
    assert found(2, *two) == {"t1": ["t1.nrrd", "flair.nrrd"]}


def test_two_images_of_one_name_and_paths_that_are_not_there(tmp_path: Path) -> None:
    files = [save(scan(), tmp_path / folder / "x.nrrd") for folder in ("a", "b")]
    with pytest.raises(InputError, match="two|twice"):
        found(1, *files)
    with pytest.raises(InputError, match=r"There is no image .*none.nrrd"):
        found(1, tmp_path / "none.nrrd")


# --- segmenting -----------------------------------------------------------------------------------


EXACTLY = replace(RECIPE, scoring=replace(RECIPE.scoring, precision="fp32"))


@pytest.fixture
def loop(started: Path) -> Iterator[Loop]:
    """A trained project, open for reading only."""
    with Project.open(started, read_only=True) as project:
        yield Loop(project, EXACTLY, seed=4, threads=1)


def content(root: Path) -> dict[str, str]:
    """All files of a project but the log of a prediction."""
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "predict.log"]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
class TestSegmenting:
    def test_an_image_gets_the_voxels_that_the_same_case_gets(self, loop, tmp_path):
        case = loop.project.cases.all()[0]
        before = content(loop.project.root)
        shutil.copy(case.images[0], tmp_path / "new.mha")
        done = predict_images(loop, [tmp_path / "new.mha"], tmp_path / "out", ".nii.gz")
        assert (done.files, done.failed) == ([tmp_path / "out/new.nii.gz"], {})
        assert content(loop.project.root) == before
        as_case = outputs.predict(loop, [case.name], tmp_path / "cases", ".nii.gz")[0]
        assert done.files[0].read_bytes() == as_case.read_bytes()
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "dataset.json",
            "new.nii.gz",
        ]

    def test_values_follow_the_structures_after_one_was_removed(self, started, tmp_path):
        shutil.copytree(started, tmp_path / "p")
        with Project.open(tmp_path / "p") as project:
            project.settings.annotation = asdict(Setup())
            gone, left = list(project.labels)[1:3]
            project.structures.remove(gone, "background")
            loop, case = Loop(project, EXACTLY, seed=4, threads=1), project.cases.all()[0]
            shutil.copy(case.images[0], tmp_path / "new.mha")
            done = predict_images(loop, [tmp_path / "new.mha"], tmp_path / "out", ".nii.gz")
            as_case = outputs.predict(loop, [case.name], tmp_path / "cases", ".nii.gz")[0]
            assert done.files[0].read_bytes() == as_case.read_bytes()
            assert set(np.unique(voxels(as_case))) == {0, project.labels[left]}

    def test_one_bad_image_is_named_and_the_others_go_on(self, loop, tmp_path):
        inside = tmp_path / "in"
        save(scan(1), inside / "good.nrrd")
        save(scan(2), inside / "z.mha")
        save(np.zeros((7, 40, 44), np.int16), inside / "flat.nrrd")
        file = save(scan(3), inside / "cut.nii.gz")
        file.write_bytes(file.read_bytes()[:2000])
        said: list[Event] = []
        loop.emit = said.append
        done = predict_images(loop, [inside], tmp_path / "out", ".mha")
        assert [file.name for file in done.files] == ["good.mha", "z.mha"]
        assert sorted(done.failed) == ["cut", "flat"]
        texts = [event.data["text"] for event in said if event.kind == "message"]
        assert any("'flat' was left out:" in text and "zeros" in text for text in texts)
        assert any("'cut' was left out:" in text and "cut.nii.gz" in text for text in texts)
        assert all(file.is_file() and grid_of(file).shape == (6, 40, 44) for file in done.files)

    def test_a_dicom_series_on_its_own_grid(self, loop, tmp_path):
        array = np.random.default_rng(5).integers(0, 900, (6, 36, 40)).astype(np.int16)
        write(tmp_path / "study/series", slices(array))
        done = predict_images(loop, [tmp_path / "study"], tmp_path / "out", ".nrrd")
        assert [file.name for file in done.files] == ["series.nrrd"]
        with Project.create(
            tmp_path / "p", name="p", labels=loop.project.labels, channels=["MRI"]
        ) as other:
            other.cases.import_dataset(tmp_path / "study")
            kept = other.cases.all()[0].images[0]
        assert displacement(grid_of(kept), grid_of(done.files[0])) < EXACT
        assert Grid.of(sitk.ReadImage(str(kept))).size == grid_of(done.files[0]).size

    def test_cancelled_it_leaves_nothing(self, loop, tmp_path):
        save(scan(), tmp_path / "x.nrrd")
        cancel = threading.Event()
        loop.cancel = cancel
        cancel.set()
        with pytest.raises(Cancelled):
            predict_images(loop, [tmp_path / "x.nrrd"], tmp_path / "out", ".nrrd")
        assert list((tmp_path / "out").iterdir()) == []

    def test_no_image_is_replaced_by_its_segmentation(self, loop, tmp_path):
        file = save(scan(), tmp_path / "x.nrrd")
        before = file.read_bytes()
        with pytest.raises(InputError, match="would replace the image"):
            predict_images(loop, [file], tmp_path, ".nrrd")
        assert file.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["x.nrrd"]

    def test_in_a_terminal(self, started, tmp_path, monkeypatch):
        with Project.open(started) as project:
            project.fork(tmp_path / "run").close()
        with Project.open(tmp_path / "run") as project:
            project.settings.annotation = asdict(Setup(preset="quick", device="cpu"))
            name = project.cases.all()[0].name
        save(scan(), tmp_path / "in/good.nrrd")
        save(np.zeros((7, 40, 44), np.int16), tmp_path / "in/flat.nrrd")
        monkeypatch.chdir(tmp_path)
        run, out = str(tmp_path / "run"), str(tmp_path / "out")
        done = CliRunner().invoke(cli.app, ["predict", run, "in", "--out", out])
        assert f"1 segmentations in {out}" in done.output
        assert isinstance(done.exception, InputError)
        assert "1 of 2 images could not be segmented: 'flat'." in str(done.exception)
        for words, said in (
            ([name, "in/good.nrrd"], "is a case, in/good.nrrd an image"),
            (["in/god.nrrd"], "There is no image in/god.nrrd"),
            ([f"{name}x"], f"Did you mean {name}"),
        ):
            done = CliRunner().invoke(cli.app, ["predict", run, *words, "--out", out])
            assert said in str(done.exception)
