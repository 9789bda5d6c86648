"""The annotations as a data set: nnU-Net trains on it alone, and it comes back as what it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from planned_project import plan
from typer.testing import CliRunner

from alunet import cli
from alunet.errors import InputError
from alunet.imaging.grids import Grid
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.dataset_export import ExportedDataset, export_dataset
from alunet.loop.label_folder import Which
from alunet.loop.setup import Setup, create
from alunet.project import Project
from alunet.schema import NOT_ANNOTATED, ignore_events

LABELS = {"background": 0, "kidney": 2, "liver": 3}
VALUES = np.array([0, 2, 3], np.uint8)
SHAPE = (5, 18, 22)
DIRECTION = (0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1)


def save(array: np.ndarray, path: Path) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 3.1))
    image.SetOrigin((-12.3, 45.6, 7.8))
    image.SetDirection(DIRECTION)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def drawing() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[1, 3:9, 4:12], array[3, 5:8, 6:9] = 1, 2
    return array


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def exported(project: Project, folder: Path, *said: object, **more: object) -> ExportedDataset:
    return export_dataset(project, folder, *said, **more, emit=ignore_events)


ImageTypes = {"a.nii.gz": np.int16, "b.nrrd": np.float32, "c.mha": np.uint8, "d.nii": np.float64}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Cases of several formats, values with a gap, and a labeled case to evaluate on."""
    with create(tmp_path / "p", name="p", labels=LABELS, channels=["CT"], setup=Setup()) as made:
        for seed, (name, kind) in enumerate(ImageTypes.items()):
            array = np.random.default_rng(seed).uniform(0, 200, SHAPE).astype(kind)
            made.cases.import_case(name[0], [save(array, tmp_path / "in" / name)])
        reference = VALUES[drawing()]
        made.cases.import_case(
            "t",
            [save(array.astype(np.float32) + 1, tmp_path / "in/t.nrrd")],
            save(reference, tmp_path / "in/t_label.nrrd"),
            role="test",
        )
        yield plan(made, (32, 32))


def annotate(project: Project, folder: Path, *names: str, which: Which) -> None:
    for name in names:
        save(VALUES[drawing()], folder / f"{name}.nrrd")
    said = {"labels": LABELS}
    (folder / "dataset.json").write_text(json.dumps(said), encoding="utf-8")
    AnnotationLoop(project).annotate_folder(folder, which)


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_images_and_labels_of_annotated_cases_in_one_format(
    project: Project, tmp_path: Path, ending: str
) -> None:
    annotate(project, tmp_path / "drawn", "a", "b", "c", which=Which(drawn_slices=True))
    out = tmp_path / "Dataset007_p"
    found = exported(project, out, ending)
    assert (found.cases, found.tests, found.left_out) == (["a", "b", "c"], [], ["d"])
    about = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    assert about["labels"] == {"background": 0, "kidney": 1, "liver": 2, "ignore": 3}
    assert about["channel_names"] == {"0": "CT"}
    assert (about["file_ending"], about["numTraining"]) == (ending, 3)
    wanted = np.full(SHAPE, 3)
    wanted[[1, 3]] = drawing()[[1, 3]]
    for case in project.cases.all("pool")[:3]:
        image, label = (
            out / f"imagesTr/{case.name}_0000{ending}",
            out / f"labelsTr/{case.name}{ending}",
        )
        np.testing.assert_array_equal(voxels(image), voxels(case.images[0]))
        np.testing.assert_array_equal(voxels(label), wanted)
        grids = [Grid.of(sitk.ReadImage(str(file))) for file in (image, label)]
        assert grids[0] == grids[1]
        if case.images[0].name.endswith(ending):
            assert image.read_bytes() == case.images[0].read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "imagesTr", "labelsTr"]


def test_structures_keep_their_voxels_after_one_was_removed(
    project: Project, tmp_path: Path
) -> None:
    project.structures.add("cyst")
    project.structures.remove("liver", "background")
    array = np.array([0, 1, 3], np.uint8)[drawing()]
    project.annotations.annotate(
        "a",
        [(int(i), array[project.pool.raw_slices(int(i))]) for i in project.pool.samples_of("a")],
        round=0,
        author="Ann",
    )
    exported(project, tmp_path / "out")
    about = json.loads((tmp_path / "out/dataset.json").read_text(encoding="utf-8"))
    assert about["labels"] == {"background": 0, "kidney": 1, "cyst": 2}
    ending = about["file_ending"]
    np.testing.assert_array_equal(voxels(tmp_path / f"out/labelsTr/a{ending}"), drawing())


def test_where_all_is_annotated_there_is_no_ignore_label(project: Project, tmp_path: Path) -> None:
    annotate(project, tmp_path / "drawn", "a", "b", which=Which(all_slices=True))
    found = exported(project, tmp_path / "out")
    about = json.loads((tmp_path / "out/dataset.json").read_text(encoding="utf-8"))
    assert about["labels"] == {"background": 0, "kidney": 1, "liver": 2}
    assert found.open_voxels == 0


def test_cases_to_evaluate_on_come_along_where_asked_for(project: Project, tmp_path: Path) -> None:
    annotate(project, tmp_path / "drawn", "b", which=Which(all_slices=True))
    assert exported(project, tmp_path / "out", with_tests=True).tests == ["t"]
    assert (tmp_path / "out/imagesTs/t_0000.mha").is_file()
    np.testing.assert_array_equal(voxels(tmp_path / "out/labelsTs/t.mha"), drawing())


def test_several_channels(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    with create(folder, name="p", labels=LABELS, channels=["T1", "T2"], setup=Setup()) as made:
        arrays = [np.random.default_rng(n).normal(0, 1, SHAPE).astype(np.float32) for n in (0, 1)]
        files = [save(array, tmp_path / f"{n}.nrrd") for n, array in enumerate(arrays)]
        made.cases.import_case("x", files)
        plan(made, (32, 32))
        annotate(made, tmp_path / "drawn", "x", which=Which(drawn_slices=True))
        exported(made, tmp_path / "out", ".nii.gz")
    for channel, array in enumerate(arrays):
        found = voxels(tmp_path / f"out/imagesTr/x_{channel:04d}.nii.gz")
        np.testing.assert_array_equal(found, array)


def test_it_comes_back_as_what_it_was(project: Project, tmp_path: Path) -> None:
    annotate(project, tmp_path / "drawn", "a", "c", "d", which=Which(drawn_slices=True))
    out = tmp_path / "out"
    exported(project, out)
    names = {name: value for value, name in enumerate(LABELS)}
    with create(
        tmp_path / "again", name="q", labels=names, channels=["CT"], setup=Setup()
    ) as again:
        assert again.cases.import_dataset(out) == ["a", "c", "d"]
        plan(again, (32, 32))
        AnnotationLoop(again).annotate_folder(out, Which(all_slices=True))
        for name in ("a", "c", "d"):
            np.testing.assert_array_equal(
                again.annotations.read(name), project.annotations.read(name)
            )
            assert (again.annotations.read(name) == NOT_ANNOTATED).sum() == 3 * 18 * 22


# --- all of it or nothing -------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_left_alone(project: Project, tmp_path: Path) -> None:
    annotate(project, tmp_path / "drawn", "a", which=Which(all_slices=True))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="exists already"):
        exported(project, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_nothing_annotated_and_a_damaged_image(project: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Nothing is annotated yet"):
        exported(project, tmp_path / "out")
    annotate(project, tmp_path / "drawn", "a", "b", which=Which(all_slices=True))
    kept = project.cases.all()[1].images[0]
    kept.write_bytes(kept.read_bytes()[:200])
    with pytest.raises(InputError, match=kept.name):
        exported(project, tmp_path / "out", ".nii.gz")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_the_command_says_what_is_in_it_and_what_is_not(project: Project, tmp_path: Path) -> None:
    annotate(project, tmp_path / "drawn", "a", "b", which=Which(drawn_slices=True))
    root = project.root
    project.close()
    words = ["export", str(root), "dataset", "--out", str(tmp_path / "mine"), "--with-tests"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0
    assert f"2 cases and 1 to evaluate on in {tmp_path / 'mine'}; 2,376 voxels" in done.output
    assert "left out: c, d." in done.output
    assert "Dataset777_liver" in done.output


# --- plain nnU-Net --------------------------------------------------------------------------------

TRAIN = """
import sys

sys.modules["alunet"] = None  # importing it fails, here and in nnU-Net's own processes

if __name__ == "__main__":
    import json, os
    from pathlib import Path

    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints, plan_experiments, preprocess,
    )
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Tiny(nnUNetTrainer):
        def initialize(self):
            super().initialize()
            self.num_epochs, self.num_val_iterations_per_epoch = 1, 1
            self.num_iterations_per_epoch = 3

    extract_fingerprints([777], num_processes=1, check_dataset_integrity=True, clean=True)
    plan_experiments([777])
    preprocess([777], configurations=("2d",), num_processes=(1,))
    folder = Path(os.environ["nnUNet_preprocessed"]) / "Dataset777_real"
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"]["batch_size"] = 2
    plans["continue_training"] = False
    about = json.loads((folder / "dataset.json").read_text())
    os.environ["nnUNet_n_proc_DA"] = "0"  # the planner takes no 0
    trainer = Tiny(plans, "2d", "all", about, device=torch.device("cpu"))
    trainer.run_training()
    final = Path(trainer.output_folder) / "checkpoint_final.pth"
    weights = torch.load(final, weights_only=False)["network_weights"].values()
    finite = all(bool(torch.isfinite(weight).all()) for weight in weights)
    print("ignore label", trainer.label_manager.ignore_label, "finite weights", finite)
"""


@pytest.mark.slow
def test_plain_nnunet_trains_on_it(real_data: Path, tmp_path: Path) -> None:
    """In a process that cannot import this program; nnU-Net checks the data set's integrity."""
    source = real_data / "Task04_Hippocampus"
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    raw = tmp_path / "raw"
    raw.mkdir()
    with create(tmp_path / "p", name="p", labels=labels, channels=["MRI"], setup=Setup()) as made:
        made.cases.import_dataset(source, limit=3)
        plan(made, (64, 64))
        AnnotationLoop(made).annotate_folder(source, Which(drawn_slices=True))
        exported(made, raw / "Dataset777_real")
    script = tmp_path / "train.py"
    script.write_text(TRAIN, encoding="utf-8")
    folders = {
        f"nnUNet_{name}": str(tmp_path / name) for name in ("raw", "preprocessed", "results")
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            **folders,
            "nnUNet_n_proc_DA": "1",
            "nnUNet_def_n_proc": "1",
            "nnUNet_compile": "f",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ignore label 3 finite weights True" in done.stdout
