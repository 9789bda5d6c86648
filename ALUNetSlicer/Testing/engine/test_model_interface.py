"""The declared interface of a model is enough: a second framework plays whole rounds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nearest_mean import NearestMean
from small import RECIPE

from alunet.errors import InputError
from alunet.imaging.reading import read_labels
from alunet.loop import Loop, outputs
from alunet.loop.oracle import Oracle
from alunet.loop.slice_maps import make_slice_maps
from alunet.model.interface import SHIPPED, Framework, load_framework, name_of
from alunet.model.settings import MEASURES
from alunet.project import Project

LABELS = {"background": 0, "organ": 1, "tumor": 2}
TESTS = ("e", "f")


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its labels: an organ with a tumor, each of another intensity, in noise."""
    rng = np.random.default_rng(seed)
    label = np.zeros((5, 28, 36), np.uint8)
    label[:, 6:22, 5:30], label[1:4, 10:14, 8 : 12 + seed] = 1, 2
    return (100 * label + rng.normal(100, 25, label.shape)).astype(np.float32), label


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """Four cases to learn from, two to test on; children can import the second framework."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Project.create(tmp_path / "p", name="p", labels=LABELS, channels=["MRI"]) as project:
        for seed, name in enumerate("abcdef"):
            files = [tmp_path / f"{name}{kind}.nrrd" for kind in ("", "_label")]
            for array, file in zip(picture(seed), files, strict=True):
                sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
            project.cases.import_case(name, files[:1], files[1])
        project.cases.set_role(list(TESTS), "test")
        yield Loop(
            project,
            RECIPE.for_seconds(60),
            seed=1,
            device="cpu",
            threads=1,
            framework=NearestMean(),
        )


@pytest.fixture
def blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: Loop) -> None:
    """Child processes can import neither torch nor nnU-Net."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    for name in ("torch", "nnunetv2"):
        (folder / f"{name}.py").write_text(
            f"raise ImportError('{name} is blocked')", encoding="utf-8"
        )
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{Path(__file__).parent}")


@pytest.mark.slow
@pytest.mark.usefixtures("blocked")
def test_a_framework_in_numpy_plays_rounds_and_its_models_leave_the_project(loop, tmp_path):
    project = loop.project
    loop.prepare()
    assert project.pool.patch == (16, 16) and set(project.pool.cases) == set("abcd")
    loop.next_round("spread", 12)
    batches = []
    for strategy in (
        "entropy",
        "bald",
        "core-set",
        "badge-ll",
        "clasp-pe",
        "random-predicted-fg66",
    ):  # what each asks of a model is something else
        number = loop.current()
        suggested = [entry.sample for entry in project.worklist.suggestions(number)]
        batches.append(suggested)
        Oracle(project).reveal(np.array(suggested), number)
        record = loop.next_round(strategy, 4).record
        assert (record.number, record.labelled_samples) == (number, sum(map(len, batches)))
        assert set(record.metrics["dice"]) == {"organ", "tumor", "mean"} and record.mean() > 0.6
        assert record.training["iterations"] * record.training["epochs"] == 600, (
            "60 s of steps that take 0.1 s"
        )
    assert [len(batch) for batch in batches] == [12, 4, 4, 4, 4, 4]
    assert len(set(sum(batches, []))) == 32, "no sample twice"
    assert_outputs(loop, tmp_path)


def assert_outputs(loop: Loop, folder: Path) -> None:
    for name, file in zip(TESTS, outputs.predict(loop, TESTS, folder, ".nii.gz"), strict=True):
        segmentation = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        reference = read_labels(
            next(case.label for case in loop.project.cases.all() if case.name == name)
        )
        assert (segmentation == reference).mean() > 0.9
    for measure in MEASURES:
        file = outputs.uncertainty(loop, "e", folder / f"{measure}.nrrd", measure)
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        assert values.shape == (5, 28, 36) and np.isfinite(values).all() and values.max() > 0
        assert_slices(loop, measure)
    with np.load(outputs.export_model(loop, folder / "model.zip")) as content:
        assert content["means"].tolist() == pytest.approx([100, 200, 300], abs=15)


def assert_slices(loop: Loop, measure: str) -> None:
    """Single slices are those of the map of the whole case, and are not computed again."""
    pool, name = loop.project.samples.pool, loop.project.cases.all("pool")[0].name
    samples = [int(sample) for sample in pool.samples_of(name)][::7]
    whole = outputs.uncertainty(loop, name, loop.project.root / "whole.nrrd", measure)
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(whole)))
    files = make_slice_maps(loop, samples, measure)
    for sample, file in zip(samples, files, strict=True):
        expected = values[loop.project.samples.place(sample).slices]
        assert np.allclose(np.load(file), expected, atol=1e-6), (measure, sample)
    times = [file.stat().st_mtime_ns for file in files]
    assert make_slice_maps(loop, samples, measure) == files
    assert [file.stat().st_mtime_ns for file in files] == times


@pytest.mark.slow
def test_what_a_framework_cannot_give_excludes_the_strategies_that_ask_for_it(loop):
    loop.prepare()
    loop.next_round("spread", 12)
    Oracle(loop.project).reveal(np.arange(12), 0)
    with pytest.raises(InputError, match="has no convolution. Choose another strategy"):
        loop.next_round("usimc", 4)
    assert loop.next_round("entropy", 4).record is None, "what was learned is kept"


def test_a_child_process_makes_the_same_framework_by_its_name():
    shipped: Framework = load_framework()
    assert name_of(shipped) == SHIPPED
    assert name_of(NearestMean()) == "nearest_mean:NearestMean"


def test_what_an_earlier_version_preprocessed_is_preprocessed_again_when_it_is_used(loop, tmp_path):
    """Its preprocessed images are not read, and no new plan is needed."""
    loop.prepare()
    loop.next_round("spread", 12)
    Oracle(loop.project).reveal(np.arange(12), 0)
    loop.next_round("random", 4)
    sample = int(loop.project.pool.samples_of("a")[0])
    for uses, name in (
        (lambda: outputs.predict(loop, ["e"], tmp_path, ".nrrd"), "e"),
        (lambda: outputs.uncertainty(loop, "f", tmp_path / "u.nrrd", "entropy"), "f"),
        (lambda: make_slice_maps(loop, [sample], "entropy"), "a"),
    ):
        prepared = {case: loop.project.nnunet_dir / f"{case}.npy" for case in "abcdef"}
        for file in prepared.values():
            file.unlink(missing_ok=True)
        uses()
        assert [case for case, file in prepared.items() if file.is_file()] == [name]
