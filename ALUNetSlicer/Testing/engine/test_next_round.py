"""One function makes a round, whichever way in calls it; only training, plan and proposals are
stubs here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_hand import SHAPES, planned

from alunet.cli import rounds as terminal
from alunet.errors import EngineError
from alunet.loop import Loop, children
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.model.arithmetic import Arithmetic
from alunet.model.environment import Folders
from alunet.project import Project, RoundState
from alunet.project.annotations import Submission
from alunet.schema import JobKind, ignore_events
from alunet.serve import tasks

LEARNED = {
    "training": {"sha256": "0", "epochs": 1, "iterations": 1, "dice": None},
    "evaluation": {"cases": {}, "metrics": {}},
    "costs": {},
    "device": "cpu",
}


def by_terminal(root: Path) -> None:
    terminal.next_round(root, "random", 2)


def by_service(root: Path) -> None:
    with Project.open(root) as project:
        options = {"strategy": "random", "budget": 2, "ahead": 3}
        job = project.jobs.get(project.jobs.add(JobKind.ROUND, options))
        tasks.run(tasks.JobContext(root.parent, project, job, 1, ignore_events, threading.Event()))


WAYS = pytest.mark.parametrize("next_round", [by_terminal, by_service])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a batch of four, two of which are annotated."""
    monkeypatch.setattr(Loop, "prepare", lambda self: None)
    monkeypatch.setattr(children, "arithmetic", lambda loop: Arithmetic("here", "cpu"))
    monkeypatch.setattr(AnnotationLoop, "_propose", lambda self: None)
    with planned(tmp_path / "p", tmp_path / "source") as project:
        plans = Folders(project.nnunet_dir).plans
        plans.parent.mkdir(parents=True)
        plans.write_text("{}")
        batch = AnnotationLoop(project).suggest("random", 4)
        for item in batch.items[:2]:
            submit(project, item.sample, "ann")
        return project.root


def submit(project: Project, sample: int, author: str) -> None:
    shape = project.samples.place(sample).shape
    project.annotations.submit(sample, Submission(np.ones(shape, np.uint8), 0, author, 2.0))


def trains(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Project], None]) -> list[int]:
    """Let a training only call `meanwhile`, with the project as another process opens it; lists
    what was trained.
    """
    trained: list[int] = []

    def learn(self: Loop, number: int, folder: Path) -> dict:
        with Project.open(self.project.root, shared=True) as other:
            meanwhile(other)
        trained.append(number)
        return LEARNED

    monkeypatch.setattr(Loop, "_learn", learn)
    return trained


def open_sample(project: Project) -> int:
    return next(int(sample) for sample in np.flatnonzero(~project.samples.labelled()))


@WAYS
def test_a_slice_that_comes_while_a_round_trains_belongs_to_the_next(next_round, root, monkeypatch):
    came: list[int] = []

    def colleague(project: Project) -> None:
        assert project.rounds.begun().state is RoundState.TRAINING
        if not came:
            came.append(open_sample(project))
            submit(project, came[0], "bob")

    trained = trains(monkeypatch, colleague)
    next_round(root)
    with Project.open(root) as project:
        assert project.samples.labelled_rounds()[came[0]] == 1
        assert came[0] not in {entry.sample for entry in project.worklist.suggestions(1)}
    next_round(root)
    assert trained == [0, 1], "the colleague's slice was acknowledged, so the next round learns it"


@WAYS
def test_where_nothing_was_annotated_the_batch_stays(next_round, root, monkeypatch):
    trained = trains(monkeypatch, lambda project: None)
    next_round(root)
    with Project.open(root) as project:
        before = project.worklist.suggestions(1)
    next_round(root)
    with Project.open(root) as project:
        assert (project.worklist.suggestions(1), trained) == (before, [0])


@WAYS
def test_the_first_round_begins_with_a_batch(next_round, root, tmp_path):
    with planned(tmp_path / "new", tmp_path / "source") as project:
        other = project.root
    next_round(other)
    with Project.open(other) as project:
        begun = project.rounds.begun()
        assert (begun.number, begun.strategy, begun.budget, begun.state) == (
            0,
            "random",
            2,
            RoundState.OPEN,
        )


@WAYS
def test_a_training_that_fails_leaves_the_round_open(next_round, root, monkeypatch):
    def fail(project: Project) -> None:
        raise EngineError("The loss is not finite.", "")

    trains(monkeypatch, fail)
    with pytest.raises(EngineError):
        next_round(root)
    with Project.open(root) as project:
        assert project.rounds.begun().state is RoundState.OPEN
        assert project.rounds.of_new_labels() == 0
    trained = trains(monkeypatch, lambda project: None)
    next_round(root)
    assert trained == [0]


def test_both_ways_choose_the_same_batch_and_what_is_ahead_comes_behind_it(
    root, tmp_path, monkeypatch
):
    trains(monkeypatch, lambda project: None)
    with Project.open(root) as project:
        other = project.fork(tmp_path / "other")
        other.close()
    by_terminal(root)
    by_service(other.root)
    with Project.open(root) as one, Project.open(other.root) as two:
        alone, both = one.worklist.suggestions(1), two.worklist.suggestions(1)
        assert both[:2] == alone
        assert [entry.ahead for entry in both] == [False, False, True, True, True]
        assert [row.ahead for row in two.worklist.rows()] == [False, False, True, True, True]
        assert [project.rounds.begun().budget for project in (one, two)] == [2, 2]


def test_a_budget_beyond_the_pool_takes_what_is_left(root, monkeypatch):
    trains(monkeypatch, lambda project: None)
    with Project.open(root) as project:
        worklist = AnnotationLoop(project).next_round("random", 1000, 1000).worklist
        assert len(worklist.items) == sum(shape[0] for shape in SHAPES.values()) - 2


def test_a_repeated_call_does_not_train_what_came_after_the_round_it_closes(root, monkeypatch):
    """A job that is stopped between training and choice, and is started again."""
    trained = trains(monkeypatch, lambda project: None)
    with Project.open(root) as project:
        loop = AnnotationLoop(project)
        loop.loop.learn()
        submit(project, open_sample(project), "bob")
        done = loop.next_round("random", 2, closes=0)
        assert (done.record, trained) == (None, [0])
        assert loop.next_round("random", 2).record.number == 1


def test_a_batch_that_was_skipped_as_a_whole_is_chosen_anew(root, monkeypatch):
    trains(monkeypatch, lambda project: None)
    with Project.open(root) as project:
        loop = AnnotationLoop(project)
        first = loop.next_round("random", 2).worklist
        for item in first.items:
            loop.skip(item.case, [item.slice])
        second = loop.next_round("random", 2).worklist
        assert not {item.sample for item in first.items} & {item.sample for item in second.items}
        assert replace(second, items=(), file=first.file) == replace(first, items=())
