"""Labels that images come with: hidden, or annotations to learn from, as a person says."""

from __future__ import annotations

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
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.preparation import take_training_labels
from alunet.loop.setup import Setup, create
from alunet.loop.status import status
from alunet.project import Project
from alunet.schema import NOT_ANNOTATED, ignore_events

LABELS = {"background": 0, "liver": 1, "tumor": 2}
SHAPE = (4, 20, 24)


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def drawing() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[1, 3:9, 4:12], array[2, 5:8, 6:9] = 1, 2
    return array


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two images with labels, and one without."""
    for seed, name in enumerate("abc"):
        array = np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)
        save(array, tmp_path / f"in/imagesTr/{name}.nrrd")
    for name in "ab":
        save(drawing(), tmp_path / f"in/labelsTr/{name}.nrrd")
    return tmp_path / "in"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with create(tmp_path / "p", name="p", labels=LABELS, channels=["CT"], setup=Setup()) as made:
        yield made


def planned(project: Project) -> Project:
    plan(project, (32, 32))
    take_training_labels(project, ignore_events)
    return project


def authors(project: Project) -> list[tuple[str, str]]:
    return project._db.rows(
        "SELECT DISTINCT case_name, author FROM annotations ORDER BY case_name, author"
    )


def test_labels_stay_hidden_unless_they_are_to_be_learned_from(project, labelled) -> None:
    project.cases.import_dataset(labelled)
    assert planned(project).annotations.cases() == {}
    assert [case.label is not None for case in project.cases.all()] == [True, True, False]


def test_labels_to_learn_from_are_annotations_of_every_slice_after_planning(
    project, labelled
) -> None:
    project.cases.import_dataset(labelled, label_use="train")
    assert status(AnnotationLoop(project)).step == "plan"
    assert planned(project).annotations.cases() == {"a": 4, "b": 4}
    np.testing.assert_array_equal(project.annotations.read("a"), drawing())
    assert authors(project) == [("a", "imported"), ("b", "imported")]
    assert project.cases.to_learn() == []
    assert status(AnnotationLoop(project)).step == "next-round"


def test_it_happens_once_so_that_corrections_stay(project, labelled, tmp_path) -> None:
    project.cases.import_dataset(labelled, label_use="train")
    planned(project)
    corrected = drawing()
    corrected[1] = 0
    file = save(corrected, tmp_path / "a.nrrd")
    AnnotationLoop(project).annotate("a", file, slices=[1], author="Anna")
    planned(project)
    project.cases.import_dataset(labelled, label_use="train")
    planned(project)
    np.testing.assert_array_equal(project.annotations.read("a"), corrected)
    assert len(project._db.rows("SELECT 1 FROM annotations")) == 9


def test_a_change_of_mind_is_the_same_command_again(project, labelled) -> None:
    project.cases.import_dataset(labelled)
    planned(project)
    assert project.cases.import_dataset(labelled, label_use="train") == []
    assert planned(project).annotations.cases() == {"a": 4, "b": 4}


def test_stopped_anywhere_it_goes_on(project, labelled, monkeypatch) -> None:
    project.cases.import_dataset(labelled, label_use="train")
    plan(project, (32, 32))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(project.cases, "note_learnt", stop)
    with pytest.raises(KeyboardInterrupt):
        take_training_labels(project, ignore_events)  # between the annotation and its note
    monkeypatch.undo()
    assert planned(project).annotations.cases() == {"a": 4, "b": 4}
    assert len(project._db.rows("SELECT 1 FROM annotations")) == 8


def test_open_voxels_of_the_labels_stay_open(project, labelled) -> None:
    array = drawing()
    array[3] = 9
    save(array, labelled / "labelsTr/a.nrrd")
    project.cases.import_dataset(labelled, label_use="train", ignore=9)
    assert planned(project).annotations.cases() == {"a": 3, "b": 4}
    assert (project.annotations.read("a")[3] == NOT_ANNOTATED).all()


def test_labels_may_be_left_alone_and_tests_are_never_learned_from(project, labelled) -> None:
    with pytest.raises(InputError, match="are not learned from"):
        project.cases.import_dataset(labelled, role="test", label_use="train")
    with pytest.raises(InputError, match="no use of labels"):
        project.cases.import_dataset(labelled, label_use="both")
    assert project.cases.all() == []
    project.cases.import_dataset(labelled, label_use="none")
    assert all(case.label is None for case in project.cases.all())


# --- in a terminal --------------------------------------------------------------------------------


def alunet(*words: object) -> str:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    return done.output if done.exception is None else str(done.exception)


def test_without_a_person_they_are_hidden_and_that_is_said(project, labelled) -> None:
    project.close()
    assert alunet("add", project.root, labelled).splitlines()[1:] == [
        "Labels of 2 cases are hidden, to evaluate and simulate. To learn from them, repeat this "
        "with --labels train."
    ]
    said = alunet("add", project.root, labelled, "--labels", "train")
    assert said.splitlines()[1:] == [
        f"Labels of 2 cases become annotations with: alunet plan {project.root}"
    ]
    assert "--labels train is given beside --test" in alunet(
        "add", project.root, labelled, "--labels", "train", "--test"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("answer", "pending", "reference"), [("\n", [], 2), ("t\n", ["a", "b"], 2), ("n\n", [], 0)]
)
def test_a_person_is_asked_plainly(project, labelled, answer, pending, reference) -> None:
    project.close()
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "alunet", "add", str(project.root), str(labelled)]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    process = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(theirs)
    shown = b""
    while b"h, t or n" not in shown:
        shown += os.read(ours, 1000)
    assert b"2 cases come with labels. Use them" in shown
    os.write(ours, answer.encode())
    assert process.wait(60) == 0
    os.close(ours)
    with Project.open(project.root) as opened:
        assert opened.cases.to_learn() == pending
        assert sum(case.label is not None for case in opened.cases.all()) == reference
