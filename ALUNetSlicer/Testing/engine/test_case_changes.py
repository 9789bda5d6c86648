"""Cases that leave a project and come back, and annotations that are taken back: what counts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nearest_mean import NearestMean
from planned_project import suggest
from small import RECIPE
from test_hand import DIRECTION, drawing, label_file, planned, project, tiled
from test_model_interface import LABELS as STRUCTURES
from test_model_interface import loop
from typer.testing import CliRunner

from alunet import cli
from alunet.errors import InputError
from alunet.loop import Loop
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.oracle import Oracle
from alunet.loop.round_record import notes_on
from alunet.loop.status import status
from alunet.project import Project
from alunet.project.annotations import Submission
from alunet.project.refusals import ChangedMeanwhile
from alunet.project.work_rows import newest_version
from alunet.schema import NOT_ANNOTATED, Status

__all__ = ["DIRECTION", "STRUCTURES", "loop", "project", "tiled"]
ALL = ("a", "b ö")


def submit(project: Project, sample: int, labels: np.ndarray) -> None:
    base = newest_version(project._db, sample)
    project.annotations.submit(sample, Submission(labels, base, "Ann"))


@dataclass
class Expected:
    """The project as it should be, in plain arrays."""

    project: Project
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    newest: dict[int, np.ndarray] = field(default_factory=dict)
    taken: dict[int, np.ndarray] = field(default_factory=dict)
    labeled: set[int] = field(default_factory=set)
    state: dict[str, str] = field(default_factory=lambda: dict.fromkeys(ALL, "present"))
    role: dict[str, str] = field(default_factory=lambda: dict.fromkeys(ALL, "pool"))

    def __post_init__(self) -> None:
        for case in self.project.cases.all():
            self.maps[case.name] = np.full(case.shape, NOT_ANNOTATED, np.uint8)

    def place(self, sample: int) -> tuple[str, tuple[slice, ...]]:
        return self.project.pool.case_name(sample), self.project.pool.raw_slices(sample)

    def counts(self, case: str) -> bool:
        return self.state[case] == "present" and self.role[case] == "pool"

    def annotate(self, sample: int, labels: np.ndarray) -> None:
        case, box = self.place(sample)
        self.maps[case][box] = labels
        self.newest[sample] = labels
        self.labeled.add(sample)
        self.taken.pop(sample, None)

    def take_back(self, sample: int) -> None:
        case, box = self.place(sample)
        others = np.zeros(self.maps[case].shape, bool)
        for other in self.labeled - {sample}:
            name, own = self.place(other)
            if name == case:
                others[own] = True
        gone, held = ~others[box], self.maps[case][box]
        same = np.array_equal(self.newest[sample][gone], held[gone])
        self.taken[sample] = self.newest[sample] if same else held.copy()
        held[gone] = NOT_ANNOTATED
        self.labeled.discard(sample)

    def undo(self, sample: int) -> None:
        case, box = self.place(sample)
        labels, held = self.taken.pop(sample), self.maps[case][box]
        held[held == NOT_ANNOTATED] = labels[held == NOT_ANNOTATED]
        self.newest[sample] = labels
        self.labeled.add(sample)

    def check(self) -> None:
        project = self.project
        for case in ALL:
            np.testing.assert_array_equal(project.annotations.read(case), self.maps[case])
        counted = [self.counts(self.place(sample)[0]) for sample in range(len(project.pool))]
        labeled = [own and sample in self.labeled for sample, own in enumerate(counted)]
        assert project.samples.counted().tolist() == counted
        assert project.samples.labelled().tolist() == labeled
        loop = AnnotationLoop(project).loop
        candidates = np.flatnonzero(np.array(counted) & ~np.array(labeled))
        assert loop.candidates().tolist() == candidates.tolist()
        assert project.annotations.costs().samples == sum(labeled)
        kept = [self.maps[case] for case in ALL if self.counts(case)]
        voxels = [sum(int((own == value).sum()) for own in kept) for value in range(3)]
        assert project.annotations.class_voxels().tolist() == voxels
        rows = project.worklist.rows()
        assert {row.case for row in rows} <= {case for case in ALL if self.counts(case)}
        done = {row.sample for row in rows if row.status is Status.DONE}
        assert done == {row.sample for row in rows} & self.labeled
        assert project.rounds.touched() == any(labeled)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_done_in_whichever_order_what_counts_is_what_a_simple_model_says(
    data, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("sequence")
    with planned(folder / "p", folder / "source", (16, 16)) as project:
        suggest(project, [0, 1, 5, 30])
        expected = Expected(project)
        near = [0, 1, 2, 3, 4, 5, 30]
        for _ in range(data.draw(st.integers(3, 12))):
            kind = data.draw(
                st.sampled_from(["annotate", "annotate", "take back", "undo", "case", "role"])
            )
            case, sample = data.draw(st.sampled_from(ALL)), data.draw(st.sampled_from(near))
            do(kind, expected, case, sample, data.draw(st.integers(0, 99)))
            expected.check()
    shutil.rmtree(folder)


def do(kind: str, expected: Expected, case: str, sample: int, seed: int) -> None:
    """Do the same to the project and to the model; what is not possible is refused."""
    project, name = expected.project, expected.place(sample)[0]
    if kind == "case":
        new = "removed" if expected.state[case] == "present" else "present"
        change = project.case_changes.remove if new == "removed" else project.case_changes.restore
        assert change(case, "Ann")
        expected.state[case] = new
    elif kind == "role":
        if expected.state[case] == "removed":
            with pytest.raises(InputError, match="was removed"):
                project.case_changes.set_role(case, "test")
            return
        expected.role[case] = "test" if expected.role[case] == "pool" else "pool"
        assert project.case_changes.set_role(case, expected.role[case])
    elif kind == "annotate":
        shape = project.pool.raw_box[sample][:, 1] - project.pool.raw_box[sample][:, 0]
        labels = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
        if expected.counts(name):
            submit(project, sample, labels)
            expected.annotate(sample, labels)
        else:
            with pytest.raises(InputError, match="not annotated now"):
                submit(project, sample, labels)
    else:
        known = expected.labeled if kind == "take back" else expected.taken
        parts = project.taking_back
        change = parts.take_back if kind == "take back" else parts.undo
        if expected.counts(name) and sample in known:
            change([sample], "Ann")
            (expected.take_back if kind == "take back" else expected.undo)(sample)
        else:
            with pytest.raises(InputError):
                change([sample], "Ann")


def test_labels_that_came_without_a_version_come_back_too(project, tmp_path):
    AnnotationLoop(project).annotate("a", label_file(tmp_path, drawing()), all_slices=True)
    before = project.annotations.read("a")
    says = AnnotationLoop(project).take_back("a", [2, 3], author="Bob")
    assert says == ["a: 2 slices are open again."]
    assert (project.annotations.read("a")[[2, 3]] == NOT_ANNOTATED).all()
    assert status(AnnotationLoop(project)).slices == 4
    AnnotationLoop(project).take_back("a", all_slices=True, author="Bob")
    assert not project.annotations.file("a").is_file()
    AnnotationLoop(project).take_back("a", all_slices=True, undo=True, author="Bob")
    np.testing.assert_array_equal(project.annotations.read("a"), before)


def test_what_is_annotated_after_it_was_taken_back_is_the_newest_version(project, tmp_path):
    hand = AnnotationLoop(project)
    hand.annotate("a", label_file(tmp_path, drawing()), slices=[2])
    hand.take_back("a", [2], author="Bob")
    hand.annotate("a", label_file(tmp_path, drawing(seed=1)), slices=[2])
    number, labels = project.annotations.version(2)
    assert number == 3 and np.array_equal(labels[0], drawing(seed=1)[2])
    with pytest.raises(InputError, match="was not taken back"):
        hand.take_back("a", [2], undo=True, author="Bob")


def test_only_what_a_person_has_seen_is_taken_back(project):
    submit(project, 2, np.zeros((1, 20, 24), np.uint8))
    with pytest.raises(ChangedMeanwhile, match="version 1"):
        project.taking_back.take_back([2], "Bob", base=0)
    first = project.taking_back.take_back([2], "Bob", base=1, key="k", digest="d")
    assert project.taking_back.take_back([2], "Bob", base=1, key="k", digest="d") == first


def test_a_crash_between_the_database_and_the_label_map_is_finished_when_it_opens(
    project, monkeypatch
):
    for sample in (2, 3):
        submit(project, sample, np.ones((1, 20, 24), np.uint8))

    def crash(case: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(project.taking_back, "_clear", crash)
    with pytest.raises(KeyboardInterrupt):
        project.taking_back.take_back([2], "Ann")
    root = project.root
    project.close()
    with Project.open(root, shared=True) as again:
        assert (again.annotations.read("a")[2] == NOT_ANNOTATED).all()
        assert (again.annotations.read("a")[3] == 1).all()
        assert again.annotations.class_voxels().tolist() == [0, 480, 0]


def test_the_same_folder_again_leaves_a_removed_case_out_and_says_so(tmp_path):
    with planned(tmp_path / "p", tmp_path / "source") as project:
        project.case_changes.remove("a", "Ann")
        said = []
        new = project.cases.import_dataset(tmp_path / "source", emit=said.append)
        assert new == [] and [case.name for case in project.cases.all()] == ["b ö"]
        assert "'a' was removed from the project and stays out" in said[0].data["text"]
        with pytest.raises(InputError, match="'a' was removed. Restore it first"):
            AnnotationLoop(project).skip("a", [0])


@pytest.mark.slow
def test_no_model_keeps_what_was_removed_and_none_is_measured_on_what_it_learned(loop: Loop):
    project, oracle = loop.project, Oracle(loop.project)
    loop.prepare()
    oracle.reveal(project.pool.samples_of("a")[:4], 0)
    oracle.reveal(project.pool.samples_of("b")[:4], 0)
    first = loop.learn()
    assert (first.tests, first.anew, project.rounds.touched()) == (["e", "f"], False, False)
    says = " ".join(project.case_changes.set_role("a", "test", "Ann"))
    assert "the next training starts anew" in says and "the test set is another one" in says
    assert project.rounds.touched()
    project.case_changes.set_role("a", "pool")
    assert not project.rounds.touched(), "nothing was learned meanwhile"
    project.case_changes.set_role("a", "test")
    said = []
    loop.emit = said.append
    second = loop.learn()
    assert (second.tests, second.anew, second.labelled_samples) == (["a", "e", "f"], True, 4)
    assert any("starts anew" in event.data.get("text", "") for event in said)
    assert notes_on([first, second]) == [
        "",
        "The training started anew: earlier models learned from removed labels. "
        "The test set changed: 3 cases, before 2.",
    ]
    oracle.reveal(project.pool.samples_of("c")[:4], 2)
    assert not loop.learn().anew


@pytest.mark.slow
def test_a_training_that_was_stopped_does_not_go_on_with_what_was_removed_meanwhile(loop: Loop):
    project, oracle = loop.project, Oracle(loop.project)
    loop.prepare()
    oracle.reveal(np.arange(8), 0)
    loop.learn()
    oracle.reveal(project.pool.samples_of("b")[:2], 1)
    again = Loop(project, RECIPE, seed=1, device="cpu", threads=1, framework=NearestMean())
    again.emit = stop_at("train")
    with pytest.raises(KeyboardInterrupt):
        again.learn()
    checkpoint = loop.folder() / "training" / "checkpoint"
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.touch()
    project.case_changes.remove("b", "Ann")
    record = loop.learn()
    assert record.anew and not checkpoint.exists()


def stop_at(name: str):
    def hear(event) -> None:
        if event.data.get("name") == name and event.kind == "step":
            raise KeyboardInterrupt

    return hear


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    error = done.exception
    if isinstance(error, InputError):
        return error.exit_code, str(error)
    assert error is None or isinstance(error, SystemExit), error
    return done.exit_code, done.output


def test_at_a_terminal_each_change_says_what_follows(tmp_path: Path):
    root = tmp_path / "p"
    with planned(root, tmp_path / "source") as project:
        AnnotationLoop(project).annotate("a", label_file(tmp_path, drawing()), all_slices=True)
        project.learned.note()  # as if a model had learned from it
    code, said = run("take-back", root, "--case", "a", "--slice", 3)
    assert (code, said.split(".")[0]) == (0, "a: 1 slice is open again")
    assert "the next training starts anew" in said
    assert run("take-back", root, "--case", "a", "--slice", 3)[0] == 2
    assert run("take-back", root, "--case", "a", "--slice", 3, "--undo")[0] == 0
    assert (
        run("take-back", root, "--case", "a")[1]
        == "No slice is named. Name slices, or all of them."
    )
    code, said = run("case", "remove", root, "a", "--author", "Ann")
    assert code == 0 and "No longer counted: 6 annotated slices." in said
    assert "nothing else is annotated" in said
    assert run("case", "remove", root, "a", "nobody") == (
        2,
        "There is no case 'nobody' in the project. See the list of cases.",
    )
    code, said = run("case", "list", root)
    assert "removed" in said and "by Ann" in said
    assert run("case", "role", root, "test", "a")[1] == "Case 'a' was removed. Restore it first."
    assert "Counted again: 6 annotated slices." in run("case", "restore", root, "a")[1]
    assert "never suggested" not in run("case", "role", root, "test", "a")[1], "it has no label"
    code, said = run("case", "erase", root, "a")
    assert code == 2 and "no terminal can be asked" in said
    code, said = run("case", "erase", root, "a", "--yes", "--author", "Ann")
    assert code == 0 and "'erased-1'" in said and "Backups" in said
    assert "by Ann" in run("case", "list", root)[1]


def test_other_channels_are_refused_with_a_way_out(tmp_path: Path):
    words = ("init", tmp_path / "p", "--label", "liver", "--channel", "CT")
    assert run(*words)[0] == 0 and run(*words)[0] == 0
    code, said = run(*words, "--channel", "PET")
    assert code == 2 and "has the channels CT; they cannot become CT, PET" in said
    assert "Make a new project from the same images" in said
