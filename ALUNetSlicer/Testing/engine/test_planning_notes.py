"""What is said of cases that are not like the others once they are planned: which slices will be
asked for, what the network gets of them, and which drawn voxels it never sees.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from alunet.cli import app
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.evaluation import LabelledCase, evaluate
from alunet.loop.planning_notes import planning_notes
from alunet.loop.setup import Setup, create
from alunet.loop.status import status
from alunet.pool import CaseGeometry, Pool
from alunet.project import Project
from alunet.schema import NOT_ANNOTATED, JobKind
from alunet.serve import tasks

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
SHAPE = (4, 20, 24)


def save(
    array: np.ndarray,
    path: Path,
    spacing: tuple[float, float, float] = (0.8, 0.8, 5.0),
    direction: tuple[float, ...] = AXIAL,
) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path), True)
    return path


def scan(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 10, shape).astype(np.float32)


@pytest.fixture
def project(tmp_path: Path):
    labels = {"background": 0, "a": 1}
    setup = Setup(epochs=1, iterations=2, device="cpu")
    with create(tmp_path / "p", name="p", labels=labels, channels=["MRI"], setup=setup) as made:
        yield made


def test_cases_with_other_planes_and_thick_axes_are_told_when_they_are_planned(tmp_path, project):
    for number in range(2):
        file = save(scan(seed=number), tmp_path / f"axial{number}.nrrd")
        project.cases.import_case(f"axial{number}", [file])
    odd = {
        "sagittal": save(scan(seed=2), tmp_path / "s.nrrd", direction=SAGITTAL),
        "thick": save(scan((20, 4, 24)), tmp_path / "t.nrrd", (0.8, 5.0, 0.8)),
    }
    for name, file in odd.items():
        project.cases.import_case(name, [file], role="test" if name == "sagittal" else "pool")
    events = []
    job = project.jobs.get(project.jobs.add(JobKind.PLAN, {}))  # as the service does it
    tasks.run(tasks.JobContext(tmp_path, project, job, 1, events.append, threading.Event()))
    said = [event.data["text"] for event in events if event.kind == "message"]
    assert said == [
        "sagittal: sagittal slices will be segmented, axial ones of most cases. The network gets "
        "their 20 x 24 voxels of 0.8 x 0.8 mm as they are, in one tile a slice.",
        "thick: axial slices will be asked for, although its voxels are 5 mm long in that plane, "
        "0.8 mm across it. The network gets their 4 x 24 voxels of 5 x 0.8 mm as 25 x 24 pixels, "
        "in 2 tiles a slice.",
    ]
    assert project.cases.notes() == {name: [said[n]] for n, name in enumerate(odd)}
    assert status(AnnotationLoop(project)).notes == project.cases.notes()


def cropped(project: Project, name: str) -> None:
    """Plan as if the image were 0 but for a box in all slices except the first."""
    crop = ((1, 4), (5, 15), (0, 24))
    project.cases.set_geometry(name, CaseGeometry(name, SHAPE, (0, 1, 2), crop, (3, 10, 24)))
    project.settings.patch = [10, 24]
    geometries = [case.geometry for case in project.cases.all("pool") if case.geometry]
    if geometries:
        project.samples.set_pool(Pool.build(geometries, (10, 24)))


def drawn() -> np.ndarray:
    """In slice 2 inside and outside of the box, and in slice 0, which is outside as a whole."""
    label = np.zeros(SHAPE, np.uint8)
    label[2, 0:10, 0:4] = 1  # 40 voxels, 20 of them outside
    label[0, 5:10, 5:10] = 1  # 25 voxels
    return label


def test_drawn_voxels_that_no_training_sees_are_kept_and_counted(tmp_path, project):
    project.cases.import_case("c", [save(scan(), tmp_path / "c.nrrd")])
    cropped(project, "c")
    annotation, file = AnnotationLoop(project), save(drawn(), tmp_path / "l.nrrd")
    taken = annotation.annotate("c", file, slices=[2])
    assert taken.unseen_voxels == 20
    kept = project.annotations.read("c")
    assert np.array_equal(kept[2], drawn()[2])
    assert (kept[[0, 1, 3]] == NOT_ANNOTATED).all()
    assert project.annotations.class_voxels().tolist() == [220, 20]
    assert project.annotations.open_voxels() == 0
    assert annotation.annotate("c", file, all_slices=True).unseen_voxels == 45
    assert np.array_equal(project.annotations.read("c"), drawn())
    assert project.annotations.unseen_voxels() == {"c": 45}
    assert status(annotation).unseen_voxels == {"c": 45}
    assert annotation.annotate("c", file, all_slices=True).samples == ()
    empty = save(drawn() * 0, tmp_path / "e.nrrd")
    assert annotation.annotate("c", empty, all_slices=True).unseen_voxels == 0
    assert project.annotations.unseen_voxels() == {}


def test_suggested_parts_of_slices_take_nothing_beyond_them(tmp_path, project):
    project.cases.import_case("c", [save(scan(), tmp_path / "c.nrrd")])
    cropped(project, "c")
    geometries = [case.geometry for case in project.cases.all("pool") if case.geometry]
    project.settings.patch = [10, 12]
    project.samples.set_pool(Pool.build(geometries, (10, 12)))
    project.rounds.begin("spread", 1)
    sample = int(np.flatnonzero(project.pool.slice_raw == 2)[0])
    project.worklist.suggest(0, [sample], [0.0], [""])
    taken = AnnotationLoop(project).annotate("c", save(drawn(), tmp_path / "l.nrrd"))
    assert taken.in_parts
    assert taken.unseen_voxels == 0
    assert (project.annotations.read("c")[2, :5] == NOT_ANNOTATED).all()


def test_the_terminal_says_what_no_training_sees(tmp_path, project):
    project.cases.import_case("c", [save(scan(), tmp_path / "c.nrrd")])
    cropped(project, "c")
    project.close()
    file = save(drawn(), tmp_path / "l.nrrd")
    words = ["annotate", str(tmp_path / "p"), str(file), "--case", "c", "--slice", "2"]
    answer = CliRunner().invoke(app, words).output
    assert "20 drawn voxels are where the image is 0: kept, but no training sees them" in answer
    shown = CliRunner().invoke(app, ["status", str(tmp_path / "p")]).output
    assert "c: no training sees 20 drawn voxels, its image is 0 there" in shown


def test_a_reference_beyond_the_image_is_told_and_counts_as_missed(tmp_path, project):
    label = save(drawn(), tmp_path / "l.nrrd")
    project.cases.import_case("t", [save(scan(), tmp_path / "t.nrrd")], label, role="test")
    cropped(project, "t")
    assert planning_notes(project.cases.all(), (10, 24)) == {
        "t": [
            "t: 45 of 65 voxels of its reference are beyond the part of the image that is not 0; "
            "no training sees them, and every prediction is background there."
        ]
    }

    def best(name: str) -> np.ndarray:
        """All that a model can find."""
        found = drawn()
        found[0] = 0
        found[:, :5] = 0
        return found

    kept = project.cases.all("test")[0].label
    assert kept is not None
    measured = evaluate(best, [LabelledCase("t", kept)], {"a": 1}, lambda event: None)
    assert measured["metrics"]["dice"]["a"] == pytest.approx(2 * 20 / (20 + 65))


@pytest.mark.slow
def test_a_round_says_how_many_drawn_voxels_it_does_not_see(tmp_path, project):
    image = scan()
    image[0] = image[:, :5] = image[:, 15:] = 0
    project.cases.import_case("c", [save(image, tmp_path / "c.nrrd")])
    events = []
    annotation = AnnotationLoop(project, emit=events.append)
    annotation.plan()
    annotation.annotate("c", save(drawn(), tmp_path / "l.nrrd"), all_slices=True)
    assert annotation.next_round("random", 1).record is not None
    said = [event.data["text"] for event in events if event.kind == "message"]
    assert said[0] == "c: 45 drawn voxels are where its image is 0: no training sees them."
