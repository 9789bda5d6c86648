"""Labels that exist already count: a folder of them becomes annotations, all files or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from planned_project import plan
from typer.testing import CliRunner

from alunet import cli
from alunet.errors import InputError
from alunet.imaging.folders import labels_by_name
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.label_folder import FolderTaken, Which
from alunet.loop.setup import Setup, create
from alunet.project import Project
from alunet.schema import NOT_ANNOTATED

LABELS = {"background": 0, "liver": 1, "tumor": 2}
NAMES = ("a", "b", "c")
SHAPE = (6, 20, 24)
ALL, DRAWN = Which(all_slices=True), Which(drawn_slices=True)


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def scan(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(50, 20, SHAPE).astype(np.float32)


def drawing(seed: int = 0) -> np.ndarray:
    """Slices 1 and 4 hold structures, the others nothing."""
    array = np.zeros(SHAPE, np.uint8)
    array[1, 3:9, 4 + seed : 12] = 1
    array[4, 5:8, 6:9] = 2
    return array


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Three planned cases to learn from and one to evaluate on."""
    with create(tmp_path / "p", name="p", labels=LABELS, channels=["CT"], setup=Setup()) as made:
        for number, name in enumerate((*NAMES, "tested")):
            role = "test" if name == "tested" else "pool"
            made.cases.import_case(
                name, [save(scan(number), tmp_path / f"in/{name}.nrrd")], role=role
            )
        yield plan(made, (32, 32))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Labels of all three, in the form of nnU-Net with values of its own."""
    for number, name in enumerate(NAMES):
        save(drawing(number), tmp_path / f"set/labelsTr/{name}.nii.gz")
    return tmp_path / "set/labelsTr"


def taken(project: Project, folder: Path, which: Which = ALL, **said: object) -> FolderTaken:
    return AnnotationLoop(project).annotate_folder(folder, which, **said)


def by_case(found: FolderTaken) -> dict[str, tuple[int, ...]]:
    return {each.taken.case: each.taken.slices for each in found.files}


def nothing_taken(project: Project) -> bool:
    return not project.samples.labelled().any() and not project.annotations.cases()


def test_every_slice_of_every_case_counts(project: Project, labels: Path) -> None:
    found = taken(project, labels.parent)
    assert by_case(found) == dict.fromkeys(NAMES, tuple(range(6)))
    assert project.samples.labelled().all()
    for number, name in enumerate(NAMES):
        np.testing.assert_array_equal(project.annotations.read(name), drawing(number))
    assert set(people(project)) == {"imported"}


def people(project: Project) -> list[str]:
    return [row[0] for row in project._db.rows("SELECT author FROM annotations")]


def test_only_drawn_slices_count_where_that_is_asked_for(project: Project, labels: Path) -> None:
    found = taken(project, labels, DRAWN)
    assert by_case(found) == dict.fromkeys(NAMES, (1, 4))
    assert (project.annotations.read("a")[0] == NOT_ANNOTATED).all()


def test_else_what_is_suggested(project: Project, labels: Path) -> None:
    assert taken(project, labels, Which()).samples == 0
    project.rounds.begin("spread", 2)
    wanted = [int(project.pool.samples_of("b")[2]), int(project.pool.samples_of("c")[5])]
    project.worklist.suggest(0, wanted, [0.0] * 2, [""] * 2)
    assert by_case(taken(project, labels, Which())) == {"a": (), "b": (2,), "c": (5,)}


def test_the_same_folder_again_takes_nothing_and_a_stopped_one_goes_on(
    project: Project, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stored = project.annotations.annotate, []

    def stop(case: str, *rest: object, **more: object) -> None:
        if stored:
            raise KeyboardInterrupt
        store(case, *rest, **more)
        stored.append(case)

    monkeypatch.setattr(project.annotations, "annotate", stop)
    with pytest.raises(KeyboardInterrupt):
        taken(project, labels)
    monkeypatch.setattr(project.annotations, "annotate", store)
    assert by_case(taken(project, labels)) == {"a": (), "b": tuple(range(6)), "c": tuple(range(6))}
    again = taken(project, labels)
    assert (again.samples, again.unchanged) == (0, 18)
    assert len(people(project)) == len(project.pool)


def test_a_correction_stays_unless_it_is_to_be_replaced(
    project: Project, labels: Path, tmp_path: Path
) -> None:
    corrected = drawing()
    corrected[1, :4] = 2
    annotation = AnnotationLoop(project)
    annotation.annotate("a", save(corrected, tmp_path / "a.nrrd"), slices=[1], author="Anna")
    found = taken(project, labels)
    assert [each.kept for each in found.files] == [(1,), (), ()]
    np.testing.assert_array_equal(project.annotations.read("a"), corrected)
    assert taken(project, labels, Which(all_slices=True, replace=True)).samples == 1
    np.testing.assert_array_equal(project.annotations.read("a"), drawing())


# --- which file is of which case ------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("a.nii.gz", "B.nrrd", "c.mha"),
        ("a_seg.nii.gz", "b-label.nrrd", "c Segmentation.nrrd"),
        ("a.seg.nrrd", "b.mask.nrrd", "c_labels.nii.gz"),
    ],
)
def test_a_file_is_of_the_case_that_it_is_called_like(tmp_path: Path, names) -> None:
    for name in names:
        save(drawing(), tmp_path / name)
    found, others = labels_by_name(NAMES, tmp_path)
    assert {case: file.name for case, file in found.items()} == dict(zip(NAMES, names, strict=True))
    assert others == []


def test_a_name_that_is_a_case_itself_is_of_no_other(tmp_path: Path) -> None:
    for name in ("a.nrrd", "a_mask.nrrd"):
        save(drawing(), tmp_path / name)
    found, _ = labels_by_name(("a", "a_mask"), tmp_path)
    assert {case: file.name for case, file in found.items()} == {
        "a": "a.nrrd",
        "a_mask": "a_mask.nrrd",
    }


def test_images_beside_the_labels_are_no_labels(project: Project, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        save(drawing(number), tmp_path / f"in/{name}_seg.nrrd")
    found = taken(project, tmp_path / "in")
    assert {each.file.name for each in found.files} == {"a_seg.nrrd", "b_seg.nrrd", "c_seg.nrrd"}
    said = {left.file.name: left.reason for left in found.left_out}
    assert said["a.nrrd"] == "a_seg.nrrd is the label"
    np.testing.assert_array_equal(project.annotations.read("c"), drawing(2))


def test_two_labels_of_a_case_are_refused(project: Project, labels: Path) -> None:
    save(drawing(3), labels / "b.seg.nrrd")
    with pytest.raises(InputError, match="label of 'b' twice"):
        taken(project, labels)
    assert nothing_taken(project)


def test_files_without_a_case_and_cases_without_a_file_are_named(
    project: Project, labels: Path
) -> None:
    (labels / "c.nii.gz").rename(labels / "d.nii.gz")
    save(drawing(), labels / "tested.nii.gz")
    save(drawing(), labels / "._a.nii.gz")
    found = taken(project, labels)
    assert found.without == ["c"]
    assert {left.file.name: left.reason for left in found.left_out} == {
        "d.nii.gz": "no case of the project is called so",
        "tested.nii.gz": "'tested' is a case to evaluate on",
    }


def test_labels_that_a_list_names_are_found_by_it(project: Project, tmp_path: Path) -> None:
    about = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "tumor": 5, "liver": 7},
        "dataset": {"a": {"images": ["x.nii.gz"], "label": "else/first.nii.gz"}},
    }
    save(np.array([0, 7, 5], np.uint8)[drawing()], tmp_path / "set/else/first.nii.gz")
    (tmp_path / "set/dataset.json").write_text(json.dumps(about), encoding="utf-8")
    found = taken(project, tmp_path / "set")
    assert by_case(found) == {"a": tuple(range(6))}
    np.testing.assert_array_equal(project.annotations.read("a"), drawing())


# --- what a description says ----------------------------------------------------------------------


def test_values_mean_what_the_folder_says_and_ignored_voxels_stay_open(
    project: Project, labels: Path
) -> None:
    said = {"background": 0, "tumor": 1, "liver": 2, "ignore": 3}
    (labels.parent / "dataset.json").write_text(json.dumps({"labels": said}), encoding="utf-8")
    array = np.array([0, 2, 1], np.uint8)[drawing()]
    array[5] = array[4, :4] = 3
    save(array, labels / "a.nii.gz")
    found = taken(project, labels)
    assert found.files[0].taken.empty == (5,)
    assert found.files[0].taken.open_voxels == 4 * SHAPE[2]
    stored = project.annotations.read("a")
    assert (stored[5] == NOT_ANNOTATED).all()
    np.testing.assert_array_equal(stored[:4], drawing()[:4])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: save(np.full(SHAPE, 9, np.uint8), file), "holds the value 9"),
        (lambda file: save(np.zeros((6, 20, 30), np.uint8), file), "does not fit its image"),
        (lambda file: file.write_bytes(file.read_bytes()[:60]), "c.nii.gz"),
    ],
)
def test_one_file_that_cannot_be_used_is_named_and_nothing_is_taken(
    project: Project, labels: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(labels / "c.nii.gz")
    with pytest.raises(InputError, match=words):
        taken(project, labels)
    assert nothing_taken(project)


def test_regions_of_nnunet_are_refused_with_the_reason(project: Project, labels: Path) -> None:
    said = {"background": 0, "whole tumor": [1, 2], "core": [2]}
    about = {"labels": said, "regions_class_order": [1, 2]}
    (labels.parent / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"3 of 3 label files.* 'whole tumor' has the value .*each voxel is of one"
    ):
        taken(project, labels)
    assert nothing_taken(project)


# --- in a terminal --------------------------------------------------------------------------------


def alunet(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    text = done.output if done.exception is None else f"{done.output}{done.exception}"
    code = getattr(done.exception, "exit_code", done.exit_code)
    return code, text


def test_the_command_says_what_it_took(project: Project, labels: Path) -> None:
    root = project.root
    project.close()
    code, text = alunet("annotate", root, labels)
    assert code == 2
    assert "no slice of these 3 cases is suggested now. Say what counts: --all-slices" in text
    (labels / "c.nii.gz").unlink()
    code, text = alunet("annotate", root, labels, "--drawn-slices")
    assert code == 0
    assert "4 slices of 2 cases taken." in text
    assert "1 cases have no file: c." in text
    code, text = alunet("annotate", root, labels, "--all-slices")
    assert "8 slices of 2 cases taken; 4 slices as before." in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--case", "a"], "--case is given, but"),
        (["--slice", 3], "--slice is given, but"),
        (["--seconds", 3], "--seconds is given, but"),
        (["--all-slices", "--drawn-slices"], "Give one or the other"),
    ],
)
def test_options_that_do_not_fit_a_folder(project: Project, labels: Path, options, words) -> None:
    root = project.root
    project.close()
    code, text = alunet("annotate", root, labels, *options)
    assert code == 2
    assert words in text


def test_a_single_file_finds_its_case_by_its_name(project: Project, labels: Path) -> None:
    root = project.root
    project.close()
    code, text = alunet("annotate", root, labels / "b.nii.gz", "--drawn-slices")
    assert (code, text.split(" taken")[0]) == (0, "b: slices 1, 4")
    other = labels / "other.nii.gz"
    (labels / "b.nii.gz").rename(other)
    code, text = alunet("annotate", root, other, "--all-slices")
    assert code == 2
    assert "No case is called like other.nii.gz. Name it: --case CASE (a, b, c, …)." in text
