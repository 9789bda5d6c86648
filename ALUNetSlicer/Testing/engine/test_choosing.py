"""Slices that a person chooses: they join the worklist, stay in it until they are done, and are
learned like others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from planned_project import drop_latest_columns, plan

from alunet.errors import InputError
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.round_record import selected
from alunet.loop.setup import Setup, create
from alunet.loop.status import status
from alunet.project import Project, tables
from alunet.project.annotations import Submission
from alunet.project.refusals import AlreadyAnnotated, NotPlanned
from alunet.project.rounds import CHOSEN
from alunet.schema import Status

SHAPE = (6, 20, 24)
LABELS = {"background": 0, "liver": 1}


def made(
    root: Path, patch=(20, 24), transpose=(0, 1, 2), low: int = 0, others: bool = False
) -> Project:
    """Cases "a" and "b" in a pool made by hand; with `others` also "t" for evaluation, and
    "new", not planned.
    """
    project = create(root / "p", name="p", labels=LABELS, channels=["CT"], setup=Setup(seed=2))
    voxels = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    file = root / "image.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    for name, role in {
        "a": "pool",
        "b": "pool",
        **({"new": "pool", "t": "test"} if others else {}),
    }.items():
        project.cases.import_case(name, [file], role=role)
    return plan(project, patch, ("a", "b"), transpose, low)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with made(tmp_path) as project:
        yield project


def submit(project: Project, sample: int) -> None:
    shape = project.samples.place(sample).shape
    project.annotations.submit(sample, Submission(np.ones(shape, np.uint8), 0, "ann", 2.0))


def samples(project: Project) -> list[int]:
    return [row.sample for row in project.worklist.rows()]


# --- the first batch ------------------------------------------------------------------------------


def test_the_first_batch_can_be_chosen_by_hand(project: Project) -> None:
    rows, fresh = project.worklist.choose("b", 0, 2, "Ann")
    assert fresh and [(row.sample, row.case, row.slice, row.round, row.rank) for row in rows] == [
        (8, "b", 2, 0, 0)
    ]
    assert (rows[0].reason, rows[0].gain, rows[0].uncertainty, rows[0].ahead) == (
        "chosen by Ann",
        None,
        None,
        False,
    )
    project.worklist.choose("a", 0, 5, "Bob")
    assert [(row.sample, row.rank, row.reason) for row in project.worklist.rows()][1] == (
        5,
        1,
        "chosen by Bob",
    )
    assert [(known.number, known.strategy, known.state) for known in project.rounds.all()] == [
        (0, CHOSEN, "open")
    ]
    hand = AnnotationLoop(project)
    assert hand.worklist().strategy == CHOSEN and [
        item.slice for item in hand.worklist().items
    ] == [2, 5]
    assert (status(hand).step, status(hand).case) == ("annotate", "b")
    assert status(hand).rounds[0].strategy == CHOSEN


def test_what_was_chosen_is_known_by_the_round_that_learns_it(
    project: Project, tmp_path: Path
) -> None:
    for number in (1, 3):
        project.worklist.choose("a", 0, number, "Ann")
    submit(project, 3)
    hand = AnnotationLoop(project)
    assert hand.project.rounds.touched() and status(hand).step == "annotate"
    assert project.worklist.chosen(0) == [(3, "chosen by Ann")]
    drawn = tmp_path / "labels.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(SHAPE, np.uint8)), str(drawn))
    assert hand.annotate("a", drawn).slices == (1,), (
        "of a whole label image what was chosen is taken"
    )
    assert [sample for sample, _ in project.worklist.chosen(0)] == [
        1,
        3,
    ] and project.worklist.chosen(1) == []
    assert hand.worklist().file.is_file()


def test_the_record_names_what_else_was_labelled_behind_the_batch(project: Project) -> None:
    project.rounds.begin("random", 2)
    project.worklist.suggest(0, [7, 9, 3], [0.5, 0.4, 0.3], ["x", "y", "z"], size=2)
    submit(project, 3)
    assert selected(
        project.worklist.suggestions(0), [(9, "chosen by Ann"), (10, "chosen by Bob")]
    ) == {
        "ids": [7, 9, 3, 10],
        "gains": [0.5, 0.4, 0.0, 0.0],
        "reasons": ["x", "y", "z", "chosen by Bob"],
    }


# --- beside what a strategy suggests --------------------------------------------------------------


def test_a_strategy_that_is_asked_later_puts_its_batch_before_what_was_chosen(
    project: Project,
) -> None:
    project.worklist.choose("a", 0, 0, "Ann")
    project.worklist.choose("b", 0, 0, "Ann")
    batch = [entry.sample for entry in AnnotationLoop(project).loop.suggest("random", 3)]
    batch, others = batch[:3], [sample for sample in (0, 6) if sample not in batch[:3]]
    assert samples(project) == [*batch, *others]
    assert [known.strategy for known in project.rounds.all()] == ["random"]
    AnnotationLoop(project).loop.suggest("random", 3)
    assert samples(project) == [*batch, *others], "asking again changes nothing"


def test_a_slice_joins_the_open_batch_once_behind_its_last_rank(project: Project) -> None:
    project.worklist.suggest(0, [0, 1], [1.0, 0.5], ["", ""], [0.75, 0.5], size=1)
    assert project.worklist.choose("a", 0, 1, "Ann")[1] is False
    assert project.worklist.choose("a", 0, 4, "Ann")[1] is True
    again, fresh = project.worklist.choose("a", 0, 4, "Bob")
    assert not fresh and again[0].reason == "chosen by Ann"
    rows = project.worklist.rows()
    assert [(row.sample, row.rank, row.uncertainty, row.ahead) for row in rows] == [
        (0, 0, 0.75, False),
        (1, 1, 0.5, True),
        (4, 2, None, False),
    ]
    told = [event.data for _, event in project.events.after() if event.kind == "worklist"]
    assert told == [{"round": 0, "samples": [4], "author": "Ann"}]


def test_what_is_chosen_and_open_stays_when_the_next_batch_comes(project: Project) -> None:
    """Of what a strategy suggested, the rest goes back to the pool; a person's own choice is not
    forgotten.
    """
    project.worklist.suggest(0, [0, 1], [0.0] * 2, [""] * 2)
    for number in (2, 3, 4, 5):
        project.worklist.choose("a", 0, number, "Ann")
    submit(project, 2)
    project.worklist.set_status(3, Status.SKIPPED, "Ann")
    project.worklist.release()
    assert project.worklist.choose("a", 0, 5, "Ann")[1] is False, (
        "also between two batches a slice is there once"
    )
    project.worklist.suggest(1, [8, 4], [0.0] * 2, [""] * 2)
    assert [(row.sample, row.rank, row.reason) for row in project.worklist.rows()] == [
        (8, 0, ""),
        (4, 1, ""),  # a strategy took it too
        (5, 2, "chosen by Ann"),
    ]
    submit(project, 5)
    project.worklist.suggest(1, [8, 4], [0.0] * 2, [""] * 2)
    assert samples(project) == [8, 4, 5], "the same batch again loses nothing"
    project.worklist.release()
    project.worklist.suggest(2, [9], [0.0], [""])
    assert [(row.sample, row.reason) for row in project.worklist.rows()] == [
        (9, ""),
        (4, "chosen by Ann"),
    ]
    assert [entry.state for entry in project.worklist.suggestions(2)] == ["suggested"] * 2


def test_a_skipped_slice_can_be_asked_for_again(project: Project) -> None:
    project.worklist.suggest(0, [0], [0.0], [""])
    project.worklist.set_status(7, Status.SKIPPED, "Bob")
    rows, fresh = project.worklist.choose("b", 0, 1, "Ann")
    assert fresh and rows[0].status is Status.TODO and not project.samples.skipped()[7]
    assert 7 in AnnotationLoop(project).loop.candidates()


def test_where_all_that_was_chosen_is_skipped_a_strategy_is_asked(project: Project) -> None:
    project.worklist.choose("a", 0, 0, "Ann")
    project.worklist.set_status(0, Status.SKIPPED, "Ann")
    hand = AnnotationLoop(project)
    hand.plan = lambda: None  # nothing is to be preprocessed here
    assert len(hand.suggest("random", 4).items) == 5


# --- what cannot be chosen ------------------------------------------------------------------------


def test_what_is_annotated_is_refused_unless_it_is_in_the_worklist(project: Project) -> None:
    project.worklist.suggest(0, [0], [0.0], [""])
    submit(project, 0)
    submit(project, 1)
    assert project.worklist.choose("a", 0, 0, "Ann")[0][0].status is Status.DONE
    with pytest.raises(AlreadyAnnotated, match="Slice 1 of a is annotated already"):
        project.worklist.choose("a", 0, 1, "Ann")
    assert samples(project) == [0]


@pytest.mark.parametrize(
    ("case", "axis", "number", "kind", "says"),
    [
        ("a", 1, 0, InputError, "a is not sliced across axis 1. It is across axis 0 .k."),
        ("a", 7, 0, InputError, "not sliced across axis 7"),
        ("a", 0, 6, InputError, "a has no slice 6. Its slices are 0 to 5"),
        ("a", 0, -1, InputError, "no slice -1"),
        ("a", 0, 2**70, InputError, "no slice"),
        ("t", 0, 0, InputError, "'t' is for evaluation"),
        ("new", 0, 0, NotPlanned, "'new' is not planned yet. Plan the project"),
        ("z", 0, 0, InputError, "no case 'z'"),
    ],
)
def test_what_cannot_be_chosen_changes_nothing(
    tmp_path: Path, case, axis, number, kind, says
) -> None:
    with made(tmp_path, others=True) as project:
        with pytest.raises(kind, match=says):
            project.worklist.choose(case, axis, number, "Ann")
        assert (
            project.worklist.rows() == []
            and project.rounds.all() == []
            and project.events.after() == []
        )


def test_a_slice_that_preprocessing_left_out_is_named_so(tmp_path: Path) -> None:
    with (
        made(tmp_path, low=2) as project,
        pytest.raises(InputError, match="Slice 1 of a is empty .* slices 2 to 5"),
    ):
        project.worklist.choose("a", 0, 1, "Ann")


def test_all_tiles_of_a_slice_are_chosen_that_are_open(tmp_path: Path) -> None:
    with made(tmp_path, patch=(20, 12)) as project:
        tiles = [
            int(i) for i in np.flatnonzero((project.pool.slice_raw == 4) & (project.pool.case == 0))
        ]
        assert len(tiles) > 1
        submit(project, tiles[0])
        rows, _ = project.worklist.choose("a", 0, 4, "Ann")
        assert [row.sample for row in rows] == tiles[1:] == samples(project)


def test_the_axis_is_that_of_the_image_file(tmp_path: Path) -> None:
    with made(tmp_path, patch=(6, 20), transpose=(2, 0, 1)) as project:
        rows, _ = project.worklist.choose("b", 2, 23, "Ann")
        assert (rows[0].axis, rows[0].slice, rows[0].box[2]) == (2, 23, [23, 24])


# --- projects of before ---------------------------------------------------------------------------


def test_a_batch_of_the_schema_before_stays_and_can_be_added_to(project: Project) -> None:
    project.worklist.suggest(0, [3, 1], [2.0, 1.0], ["x", "y"], [0.9, 0.8])
    before = project.worklist.rows()
    project.close()
    connection = sqlite3.connect(project.root / "project.db")
    for column in ("uncertainty", "author", "ahead"):
        connection.execute(f"ALTER TABLE suggestions DROP COLUMN {column}")
    connection.execute("DROP TABLE rounds")
    connection.execute(tables.FIRST[3])
    drop_latest_columns(connection)
    connection.execute("PRAGMA user_version = 3")
    connection.commit()
    connection.close()
    with Project.open(project.root) as again:
        assert again._db.version == len(tables.MIGRATIONS)
        rows = again.worklist.rows()
        assert [row.sample for row in rows] == [row.sample for row in before]
        assert [row.uncertainty for row in rows] == [None, None]
        again.worklist.choose("a", 0, 2, "Ann")
        assert samples(again) == [3, 1, 2]


def test_the_printed_batch_is_never_read(project: Project) -> None:
    loop = AnnotationLoop(project).loop
    kept = [entry.sample for entry in loop.suggest("random", 2)]
    (loop.folder() / "batch.json").write_text("{}", encoding="utf-8")
    assert [entry.sample for entry in loop.suggest("random", 2)] == kept


def test_the_round_that_was_learned_last_keeps_what_was_ahead(project: Project) -> None:
    project.worklist.suggest(0, [3, 1], [2.0, 1.0], ["x", "y"])
    project.close()
    connection = sqlite3.connect(project.root / "project.db")
    connection.execute("ALTER TABLE suggestions DROP COLUMN ahead")
    connection.execute("DROP TABLE rounds")
    connection.execute(tables.FIRST[3])
    connection.execute(
        "INSERT INTO rounds VALUES (0, 'entropy', '{\"budget\": 2}', 'finished', '{}', 0, 1)"
    )
    connection.execute("""INSERT INTO meta VALUES ('batch sizes', '{"0": 1}'), ('learning', '0')""")
    drop_latest_columns(connection)
    connection.execute("PRAGMA user_version = 4")
    connection.commit()
    connection.close()
    with Project.open(project.root) as again:
        assert [row.ahead for row in again.worklist.rows(0)] == [False, True]
        assert (again.rounds.all()[0].budget, again.rounds.current()) == (1, 1)
