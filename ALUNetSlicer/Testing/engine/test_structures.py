"""Structures come, go and change their names; what is annotated keeps its meaning."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_project import plan
from small import RECIPE
from typer.testing import CliRunner

from alunet import cli
from alunet.errors import InputError
from alunet.imaging.reading import read_labels
from alunet.loop import Loop, outputs
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.evaluation import LabelledCase, evaluate
from alunet.loop.oracle import Oracle
from alunet.loop.setup import Setup, create
from alunet.project import Project
from alunet.project.annotations import Submission
from alunet.project.changes import AnswerNeeded
from alunet.schema import NOT_ANNOTATED, Status, ignore_events
from alunet.storage.database import Database

LABELS = {"background": 0, "liver": 1, "cyst": 2}
SHAPE = (3, 6, 7)


def picture(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 3.1))
    return image


def made(root: Path, *, reference: np.ndarray | None = None) -> Project:
    """A planned project with two cases, the second one to evaluate on where it has a reference."""
    project = create(root / "p", name="p", labels=LABELS, channels=["CT"], setup=Setup(seed=5))
    for seed, name in enumerate("ab"):
        image = np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)
        files = [root / f"{name}.nrrd", root / f"{name}_label.nrrd"]
        sitk.WriteImage(picture(image), str(files[0]))
        test = name == "b" and reference is not None
        if test:
            sitk.WriteImage(picture(reference), str(files[1]))
        label, role = (files[1], "test") if test else (None, "pool")
        project.cases.import_case(name, files[:1], label, role=role)
    return plan(project)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with made(tmp_path) as project:
        yield project


def drawing(seed: int, numbers: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    return np.random.default_rng(seed).choice(numbers, (1, *SHAPE[1:])).astype(np.uint8)


def submit(project: Project, sample: int, labels: np.ndarray, key: str = "") -> int:
    base = project.annotations.version(sample)[0] if versions(project, sample) else 0
    submission = Submission(labels, base, "ann", 1.0, key=key, digest=key)
    return project.annotations.submit(sample, submission).version


def versions(project: Project, sample: int) -> int:
    return project.annotations.versions.last(sample)


# --- the meaning of every voxel -------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.just("draw"), st.integers(0, 5), st.integers(0, 99), st.booleans()),
    st.tuples(st.just("add"), st.sampled_from(["open", "absent"])),
    st.tuples(st.just("rename"), st.integers(0, 99)),
    st.tuples(st.just("remove"), st.integers(0, 99), st.integers(0, 99)),
)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEPS, max_size=12))
def test_no_change_of_structures_changes_what_a_voxel_of_any_version_means(tmp_path_factory, steps):
    with made(tmp_path_factory.mktemp("p")) as project:
        play = Play(project)
        for kind, *how in steps:
            getattr(play, kind)(*how)
            play.check()


class Play:
    """Steps on a project; beside them goes what each voxel means, told by who the structure is, not
    by its number.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.who = {0: "nothing", NOT_ANNOTATED: "open", 1: "first", 2: "second"}
        self.now: dict[int, np.ndarray] = {}
        self.kept: dict[tuple[int, int], np.ndarray] = {}

    def meaning(self, labels: np.ndarray) -> np.ndarray:
        return np.vectorize(self.who.__getitem__, otypes=[object])(labels)

    def became(self, old: str, new: str) -> None:
        self.now = {sample: np.where(m == old, new, m) for sample, m in self.now.items()}

    def draw(self, sample: int, seed: int, submitted: bool) -> None:
        drawn = drawing(seed, (*self.project.labels.values(), NOT_ANNOTATED))
        if submitted:
            submit(self.project, sample, drawn)
        else:
            case = self.project.pool.case_name(sample)
            self.project.annotations.annotate(case, [(sample, drawn)], round=0, author="ann")
        self.now[sample] = self.meaning(drawn)

    def add(self, earlier: str) -> None:
        self.project.structures.add(f"new {len(self.who)}", earlier)
        self.who[max(self.project.labels.values())] = f"added {len(self.who)}"
        if earlier == "open":
            self.became("nothing", "open")

    def rename(self, choice: int) -> None:
        names = list(self.project.labels)[1:]
        name = names[choice % len(names)]
        self.project.structures.edit(name, f"{name}'")

    def remove(self, choice: int, voxels: int) -> None:
        labels = self.project.labels
        names = list(labels)[1:]
        if len(names) == 1:
            return
        name = names.pop(choice % len(names))
        becomes = [*names, "background", "open"][voxels % (len(names) + 2)]
        self.project.structures.remove(name, becomes)
        new = {**labels, "open": NOT_ANNOTATED}[becomes]
        self.became(self.who[labels[name]], self.who[new])

    def check(self) -> None:
        annotations = self.project.annotations
        for sample, wanted in self.now.items():
            if number := versions(self.project, sample):
                self.kept[sample, number] = wanted
            place = self.project.samples.place(sample)
            stored = annotations.read(place.case)[place.slices]
            assert (self.meaning(stored) == wanted).all(), "the label map"
            assert (self.meaning(annotations.version(sample)[1]) == wanted).all()
        for (sample, number), wanted in self.kept.items():
            assert (self.meaning(annotations.version(sample, number)[1]) == wanted).all()
        counts = dict(zip(self.project.labels, annotations.class_voxels(), strict=True))
        for name, number in self.project.labels.items():
            assert counts[name] == sum((m == self.who[number]).sum() for m in self.now.values())


def test_a_number_is_never_given_again(project):
    structures = project.structures
    structures.remove("cyst")
    structures.add("cyst")
    assert project.labels == {"background": 0, "liver": 1, "cyst": 3}
    assert [(one.name, one.value) for one in structures.all()] == [("liver", 1), ("cyst", 3)]


# --- add ------------------------------------------------------------------------------------------


def test_what_is_annotated_must_be_said_to_be_open_or_without_the_new_structure(project):
    submit(project, 0, drawing(1))
    with pytest.raises(AnswerNeeded) as caught:
        project.structures.add("vessel")
    assert caught.value.about == "earlier" and set(caught.value.choices) == {"open", "absent"}
    assert "vessel" not in project.labels


def test_earlier_slices_that_are_open_come_back_and_keep_what_is_drawn(project):
    drawn = drawing(1)
    submit(project, 0, drawn)
    done = project.structures.add("vessel", "open")
    row = next(row for row in project.worklist.rows() if row.sample == 0)
    assert (done.again, row.status, row.version) == (1, Status.FLAGGED, 2)
    assert "vessel" in row.reason
    number, labels = project.annotations.version(0)
    assert number == 2 and (labels[drawn > 0] == drawn[drawn > 0]).all()
    assert (labels[drawn == 0] == NOT_ANNOTATED).all()
    assert (project.annotations.version(0, 1)[1] == drawn).all(), "the old version stays"
    submit(project, 0, np.where(drawn == 0, 3, drawn).astype(np.uint8))
    assert next(row for row in project.worklist.rows() if row.sample == 0).status is Status.DONE


def test_slices_to_look_at_stay_in_the_batches_until_someone_has(project):
    project.annotations.annotate("a", [(0, drawing(1))], round=0, author="ann")
    project.structures.add("vessel", "open")
    project.rounds.begin("spread", 2)
    project.worklist.suggest(1, [1, 2], [0, 0], ["", ""])
    assert [row.sample for row in project.worklist.rows(1)] == [1, 2, 0]
    project.annotations.annotate("a", [(0, drawing(2))], round=1, author="ann")
    project.worklist.suggest(2, [1, 2], [0, 0], ["", ""])
    assert [row.sample for row in project.worklist.rows(2)] == [1, 2]


def test_a_label_image_is_taken_for_the_slices_that_came_back(project, tmp_path):
    whole = np.concatenate([drawing(seed) for seed in range(SHAPE[0])])
    submit(project, 0, whole[:1])
    project.structures.add("vessel", "open")
    whole[0, 0] = 3
    sitk.WriteImage(picture(whole), str(tmp_path / "drawn.nrrd"))
    taken = AnnotationLoop(project).annotate("a", tmp_path / "drawn.nrrd")
    assert (taken.slices, taken.replaced) == ((0,), 1)
    assert (project.annotations.version(0)[1] == whole[:1]).all()
    assert next(row for row in project.worklist.rows() if row.sample == 0).status is Status.DONE


def test_earlier_slices_without_the_structure_stay_as_they_are(project):
    submit(project, 0, drawing(1))
    done = project.structures.add("vessel", "absent")
    assert done.again == 0 and not project.worklist.rows()
    assert project.annotations.version(0)[0] == 1


def test_a_reference_of_before_says_nothing_of_a_new_structure(tmp_path):
    reference = np.zeros(SHAPE, np.uint8)
    reference[:, 1:4, 1:4] = 1
    with made(tmp_path, reference=reference) as project:
        project.structures.add("vessel")
        case = project.cases.all("test")[0]
        assert case.silent == (3,)
        tests = [LabelledCase(case.name, case.label, case.silent)]
        wrong = np.full(SHAPE, 3, np.uint8)  # all of it vessel
        shown = {name: number for name, number in project.labels.items() if number}
        found = evaluate(lambda name: wrong.copy(), tests, shown, ignore_events)
    assert found["metrics"]["dice"] == {"liver": 0.0, "cyst": None, "vessel": None}


@pytest.mark.parametrize("name", ["Liver", "background", " ", "open", "ignore", "x" * 101])
def test_a_name_that_is_taken_or_impossible(project, name):
    with pytest.raises(InputError):
        project.structures.add(name)
    with pytest.raises(InputError):
        project.structures.edit("cyst", name)
    assert project.labels == LABELS


# --- remove ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voxels", "number"), [("background", 0), ("open", NOT_ANNOTATED), ("Liver", 1)]
)
def test_voxels_of_a_removed_structure_become_what_is_said(tmp_path, voxels, number):
    reference = np.full(SHAPE, 2, np.uint8)
    with made(tmp_path, reference=reference) as project:
        drawn = drawing(1)
        submit(project, 0, drawn)
        with pytest.raises(AnswerNeeded) as caught:
            project.structures.remove("cyst")
        assert list(caught.value.choices) == ["background", "open", "liver"]
        done = project.structures.remove("cyst", voxels)
        labels = project.annotations.version(0)[1]
        assert (labels == np.where(drawn == 2, number, drawn)).all()
        assert (read_labels(project.cases.all("test")[0].label) == number).all()
        assert done.again == int(voxels == "open")


def test_labels_that_arrive_later_with_a_removed_structure_are_refused_by_its_name(project):
    project.structures.remove("cyst")
    with pytest.raises(InputError, match="'cyst'.*removed") as caught:
        submit(project, 0, drawing(1), key="k")
    assert "liver" in caught.value.hint
    assert project.annotations.cases() == {} and versions(project, 0) == 0


def test_an_answer_that_was_lost_is_given_again_after_the_structure_is_gone(project):
    assert submit(project, 0, drawing(1), key="k") == 1
    project.structures.remove("cyst", "open")
    again = Submission(drawing(1), 0, "ann", 1.0, key="k", digest="k")
    assert project.annotations.submit(0, again).version == 1


def test_the_only_structure_stays(project):
    project.structures.remove("cyst")
    with pytest.raises(InputError, match="only structure"):
        project.structures.remove("liver")


# --- names and colors -----------------------------------------------------------------------------


def test_files_that_still_use_the_former_name_are_read_by_it(project):
    project.structures.edit("cyst", "lesion")
    structures = project.cases.structures
    assert structures.find("Cyst") == structures.find("lesion") == 2
    project.structures.add("cyst")  # another one: files mean it from now on
    assert project.cases.structures.find("cyst") == 3


def test_measures_of_earlier_rounds_follow_the_name(project):
    project.rounds.begin("spread", 1)
    values = {"liver": 0.9, "cyst": 0.5, "mean": 0.7}
    project.rounds.finish(0, {"metrics": {"dice": values}})
    project.structures.edit("cyst", "lesion")
    record = project.rounds.finished()[0].record
    assert record["metrics"]["dice"] == {"liver": 0.9, "lesion": 0.5, "mean": 0.7}


def test_a_color_is_kept_until_it_is_taken_back(project):
    project.structures.edit("liver", color="#E0A040")
    assert project.structures.all()[0].color == "#e0a040"
    project.structures.edit("liver", "hepar")
    assert project.structures.all()[0].color == "#e0a040"
    project.structures.edit("hepar", color="")
    assert project.structures.all()[0].color is None
    with pytest.raises(InputError, match="no color"):
        project.structures.edit("hepar", color="red")


# --- a crash at any moment ------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process were gone: nothing that it does after that reaches the disk."""


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "change",
    [lambda p: p.structures.add("vessel", "open"), lambda p: p.structures.remove("cyst", "liver")],
    ids=["add", "remove"],
)
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_state(
    tmp_path, monkeypatch, change: Callable[[Project], Any], shared
):
    with made(tmp_path, reference=np.full(SHAPE, 2, np.uint8)) as project:
        for sample in (0, 1):
            submit(project, sample, drawing(sample))
        before = state(project)
    with Project.open(copied(tmp_path, "whole")) as project:
        change(project)
        after = state(project)
    found = []
    for moment in range(200):
        root = copied(tmp_path, "killed")
        with monkeypatch.context() as patch:
            if not killed_at(moment, patch, root, change):
                break
        with Project.open(root, shared=shared) as project:
            found.append(state(project))
            assert found[-1] in (before, after), moment
            assert not (root / "change").exists() and project.settings.change is None
    assert found.count(before) > 5 and found.count(after) > 2


def copied(folder: Path, name: str) -> Path:
    shutil.rmtree(folder / name, ignore_errors=True)
    return Path(shutil.copytree(folder / "p", folder / name))


def killed_at(
    moment: int, patch: pytest.MonkeyPatch, root: Path, change: Callable[[Project], Any]
) -> bool:
    """Change a project and kill it at its `moment`-th step on disk; False where it ended before."""
    left, begun = [moment], []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            left[0] -= bool(begun)
            if left[0] < 0:
                raise Killed
            return function(*arguments, **named)

        return step

    patch.setattr(Database, "execute", counted(Database.execute))
    patch.setattr(Path, "replace", counted(Path.replace))
    patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    project = Project.open(root)
    begun.append(True)
    try:
        change(project)
    except Killed:
        return True
    finally:
        begun.clear()
        left[0] = 1 << 30
        project.close()
    return False


def state(project: Project) -> list[Any]:
    """All that a change can change."""
    samples = range(len(project.pool))
    labels = [project.annotations.read(name).tolist() for name in ("a",)]
    newest = [project.annotations.version(s)[1].tolist() for s in samples if versions(project, s)]
    reference = read_labels(project.cases.all("test")[0].label).tolist()
    counts = project.annotations.class_voxels().tolist()
    rows = [(row.sample, row.status, row.version) for row in project.worklist.rows()]
    return [project.labels, labels, newest, reference, counts, rows]


# --- the terminal ---------------------------------------------------------------------------------


def typed(*words: object) -> Any:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_the_terminal_asks_with_its_options_and_says_what_follows(tmp_path):
    with made(tmp_path) as project:
        submit(project, 0, drawing(1))
        root = project.root
    asked = typed("structure", "add", root, "vessel")
    assert isinstance(asked.exception, InputError) and asked.exception.exit_code == 2
    assert "--earlier open" in str(asked.exception) and "--earlier absent" in str(asked.exception)
    assert "number 3" in typed("structure", "add", root, "vessel", "--earlier", "open").output
    asked = typed("structure", "remove", root, "cyst")
    assert "--voxels background" in str(asked.exception)
    assert typed("structure", "rename", root, "liver", "hepar").exit_code == 0
    assert typed("structure", "recolor", root, "hepar", "#102030").exit_code == 0
    assert typed("structure", "remove", root, "cyst", "--voxels", "vessel").exit_code == 0
    shown = json.loads(typed("structure", "list", root, "--json").output)
    assert [(one["name"], one["number"], one["color"]) for one in shown] == [
        ("hepar", 1, "#102030"),
        ("vessel", 3, None),
    ]
    assert json.loads(typed("status", root, "--json").output)["voxels"]["vessel"] > 0


# --- rounds ---------------------------------------------------------------------------------------


def organs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.zeros((4, 28, 36), np.uint8)
    label[:, 6:22, 5:30], label[1:4, 10:14, 8 : 12 + seed] = 1, 2
    return (100 * label + rng.normal(100, 25, label.shape)).astype(np.float32), label


@pytest.mark.slow
def test_rounds_go_on_through_changes_and_old_models_keep_their_meaning(tmp_path):
    names = {"background": 0, "organ": 1, "tumor": 2}
    messages: list[str] = []
    with create(
        tmp_path / "p", name="p", labels=names, channels=["MRI"], setup=Setup(device="cpu")
    ) as project:
        for seed, name in enumerate("abc"):
            files = [tmp_path / f"{name}{kind}.nrrd" for kind in ("", "_label")]
            for array, file in zip(organs(seed), files, strict=True):
                sitk.WriteImage(picture(array), str(file))
            project.cases.import_case(
                name, files[:1], files[1], role="test" if name == "c" else "pool"
            )

        def heard(event: Any) -> None:
            messages.append(event.data.get("text", ""))

        loop = Loop(project, RECIPE, seed=1, device="cpu", threads=1, emit=heard)
        loop.prepare()
        Oracle(project).reveal(np.arange(len(project.pool) // 2), 0)
        first = loop.learn()
        assert set(first.metrics["dice"]) == {"organ", "tumor", "mean"}
        project.structures.add("vessel", "absent")
        project.structures.remove("tumor", "organ")
        project.structures.edit("organ", "liver")
        # the old model, before it is trained again: it knows no vessel, and tumor is gone
        old = outputs.predict(loop, ["a"], tmp_path / "old", ".nii.gz", proposals=True)
        assert set(np.unique(read_labels(old[0]))) <= {0, 1}
        assert len(loop.suggest("mean-std", 2)) == 2
        sample = int(loop.candidates()[0])
        place = project.samples.place(sample)
        drawn = np.zeros(place.shape, np.uint8)
        drawn[:, 3:20, 4:20] = 3
        project.annotations.annotate(place.case, [(sample, drawn)], round=1, author="ann")
        second = loop.next_round("mean-std", 2).record
        assert any("starts from all weights but" in text for text in messages)
        dice = second.metrics["dice"]
        assert set(dice) == {"liver", "vessel", "mean"} and dice["vessel"] is None
        assert second.class_voxels[2] == int((drawn == 3).sum())
        new = outputs.predict(loop, ["a"], tmp_path / "new", ".nii.gz", proposals=True)
        assert set(np.unique(read_labels(new[0]))) <= {0, 1, 3}
        file = outputs.export_model(loop, tmp_path / "model.zip")
        assert exported_labels(file) == {"background": 0, "liver": 1, "vessel": 2}
        labels = outputs.export_labels(project, [], tmp_path / "labels", ".nii.gz")
        assert 3 in set(np.unique(read_labels(labels[0]))) | set(np.unique(read_labels(labels[-1])))
        points = AnnotationLoop(project).loop.rounds()
        assert [set(point.metrics["dice"]) for point in points] == [
            {"liver", "tumor (removed, 2)", "mean"},
            {"liver", "vessel", "mean"},
        ]


def exported_labels(file: Path) -> dict[str, int]:
    import zipfile

    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/dataset.json"))
        found: dict[str, int] = json.loads(archive.read(name))["labels"]
        return found


def test_a_model_keeps_its_outputs_for_the_structures_that_stay():
    import torch

    from alunet.model.classes import fit

    weights = {
        "decoder.seg_layers.0.weight": torch.arange(6.0).reshape(3, 2, 1, 1),
        "decoder.seg_layers.0.bias": torch.arange(3.0),
        "encoder.weight": torch.ones(2),
    }
    fitted = fit(weights, [0, 1, 2], [0, 2, 5])
    assert fitted["decoder.seg_layers.0.weight"][:2, :, 0, 0].tolist() == [[0, 1], [4, 5]]
    bias = fitted["decoder.seg_layers.0.bias"]
    assert bias[:2].tolist() == [0, 2] and bias[2] < -20, "a new one is never predicted"
    fresh = {name: torch.full_like(value, 7) for name, value in fitted.items()}
    assert fit(weights, [0, 1, 2], [0, 2, 5], fresh)["decoder.seg_layers.0.bias"].tolist() == [
        0,
        2,
        7,
    ]
