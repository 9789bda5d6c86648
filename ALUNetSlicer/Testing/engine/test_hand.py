"""The loop by hand, as a person drives it: what is suggested, what is taken of a label image,
and what is refused.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_project import drop_latest_columns, geometry, plan
from typer.testing import CliRunner

from alunet import cli
from alunet.errors import AlunetError, InputError
from alunet.imaging.reading import read_labels
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.preparation import enumerate_samples
from alunet.loop.setup import Setup, create
from alunet.loop.status import status
from alunet.pool import CaseGeometry, Pool
from alunet.project import Project, tables
from alunet.schema import Status

LABELS = {"background": 0, "liver": 1, "tumour": 2}
OPEN = 255  # not annotated
SHAPES = {"a": (6, 20, 24), "b ö": (5, 22, 18)}
DIRECTION = (0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1)


def picture(array: np.ndarray, origin=(-12.3, 45.6, 7.8)) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 3.1))
    image.SetOrigin(origin)
    image.SetDirection(DIRECTION)
    return image


def save(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path))
    return path


def planned(root: Path, source: Path, patch=(64, 64), transpose=(0, 1, 2)) -> Project:
    """A project with two cases that looks planned, without nnU-Net."""
    project = create(root, name="Liver", labels=LABELS, channels=["CT"], setup=Setup(seed=5))
    source.mkdir(exist_ok=True)
    for name, shape in SHAPES.items():
        array = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
        project.cases.import_case(name, [save(picture(array), source / f"{name}.nrrd")])
    return plan(project, patch, transpose=transpose)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with planned(tmp_path / "my pröject", tmp_path / "source") as project:
        yield project


@pytest.fixture
def tiled(tmp_path: Path) -> Iterator[Project]:
    """Four tiles a slice."""
    with planned(tmp_path / "tiled", tmp_path / "source", (16, 16)) as project:
        yield project


def drawing(name: str = "a", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, SHAPES[name]).astype(np.uint8)


def label_file(folder: Path, array: np.ndarray, name: str = "labels.nrrd") -> Path:
    return save(picture(array), folder / name)


def batch(project: Project, *wanted: tuple[str, int]) -> None:
    """Suggest the first sample of these slices."""
    hand = AnnotationLoop(project)
    pool = project.pool
    ids = [
        next(i for i in pool.samples_of(case).tolist() if pool.slice_raw[i] == number)
        for case, number in wanted
    ]
    content = {
        "ids": ids,
        "gains": [0.0] * len(ids),
        "reasons": ["test"] * len(ids),
        "diagnostics": {},
        "costs": {},
    }
    hand.loop.open_round("random", len(ids), lambda folder: content)


# --- label images ---------------------------------------------------------------------------------


def test_of_a_whole_case_only_what_is_suggested_is_taken(project: Project, tmp_path: Path) -> None:
    batch(project, ("a", 1), ("a", 4), ("b ö", 0))
    drawn = drawing()
    taken = AnnotationLoop(project).annotate("a", label_file(tmp_path, drawn), seconds=60)
    assert (taken.slices, taken.replaced, taken.in_parts) == ((1, 4), 0, False)
    stored = project.annotations.read("a")
    assert np.array_equal(stored[[1, 4]], drawn[[1, 4]])
    assert np.all(stored[[0, 2, 3, 5]] == OPEN), "a slice that nobody looked at is no background"
    assert status(AnnotationLoop(project)).minutes == 1.0
    states = {
        item.slice: item.status
        for item in AnnotationLoop(project).worklist().items
        if item.case == "a"
    }
    assert states == {1: Status.DONE, 4: Status.DONE}


def test_the_same_file_again_stores_nothing_and_other_labels_must_be_asked_for(
    project: Project, tmp_path
) -> None:
    batch(project, ("a", 1))
    file = label_file(tmp_path, drawing())
    hand = AnnotationLoop(project)
    hand.annotate("a", file, seconds=30)
    again = hand.annotate("a", file, seconds=30)
    assert (again.samples, again.unchanged) == ((), (1,))
    assert project.annotations.seconds_spent() == 30
    other = label_file(tmp_path, drawing(seed=1))
    with pytest.raises(
        InputError, match="annotated already, and .* differs in slice 1. .*--slice 1"
    ):
        hand.annotate("a", other)
    corrected = hand.annotate("a", other, slices=[1])
    assert (corrected.slices, corrected.replaced) == ((1,), 1)
    assert np.array_equal(project.annotations.read("a")[1], drawing(seed=1)[1])
    assert project._db.value("SELECT count(*) FROM annotations") == 2, (
        "who labelled what when is kept"
    )


def test_other_slices_or_all_of_them(project: Project, tmp_path: Path) -> None:
    drawn = drawing()
    drawn[5] = OPEN
    file, hand = label_file(tmp_path, drawn), AnnotationLoop(project)
    assert hand.annotate("a", file, slices=[0, 3], ignore=OPEN).slices == (0, 3)
    taken = hand.annotate("a", file, all_slices=True, ignore=OPEN)
    assert (taken.slices, taken.unchanged, taken.empty) == ((1, 2, 4), (0, 3), (5,))
    assert np.array_equal(project.annotations.read("a"), drawn)
    assert project.samples.labelled()[project.pool.samples_of("a")].tolist() == [True] * 5 + [False]


def test_voxels_may_stay_open(project: Project, tmp_path: Path) -> None:
    batch(project, ("a", 1), ("a", 2))
    drawn = drawing()
    drawn[1, :5], drawn[2] = OPEN, OPEN
    with pytest.raises(InputError, match="holds the value 255.*say so"):
        AnnotationLoop(project).annotate("a", label_file(tmp_path, drawn))
    taken = AnnotationLoop(project).annotate("a", label_file(tmp_path, drawn), ignore=OPEN)
    assert (taken.slices, taken.empty) == ((1,), (2,))
    assert taken.open_voxels == drawn[1, :5].size == project.annotations.open_voxels()
    assert len(AnnotationLoop(project).worklist().open()) == 1
    with pytest.raises(InputError, match="annotates nothing in slice 2 of a"):
        AnnotationLoop(project).annotate(
            "a", label_file(tmp_path, drawn), slices=[1, 2], ignore=OPEN
        )


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_one_slice_flat_or_deep_along_every_axis(
    tmp_path: Path, transpose: tuple[int, ...]
) -> None:
    axis = transpose[0]
    with planned(tmp_path / "p", tmp_path / "source", transpose=transpose) as project:
        drawn, hand = drawing(), AnnotationLoop(project)
        flat = drawn.take(3, axis)
        picture_file = save(sitk.GetImageFromArray(flat), tmp_path / "slice.png")
        assert hand.annotate("a", picture_file, slices=[3]).slices == (3,)
        assert np.array_equal(project.annotations.read("a").take(3, axis), flat)
        whole = picture(drawn)
        size, index = list(whole.GetSize()), [0, 0, 0]
        size[2 - axis], index[2 - axis] = 1, 4
        deep = save(sitk.RegionOfInterest(whole, size, index), tmp_path / "slice.nii.gz")
        assert hand.annotate("a", deep, slices=[4]).slices == (4,)
        assert np.array_equal(project.annotations.read("a").take(4, axis), drawn.take(4, axis))
        assert project.samples.labelled().sum() == 2
        with pytest.raises(InputError, match="does not cover slice 2 of a: it has slice 4"):
            hand.annotate("a", deep, slices=[2])


def test_where_a_slice_has_tiles_the_suggested_parts_are_taken_or_whole_slices(
    tiled: Project, tmp_path
) -> None:
    batch(tiled, ("a", 1))
    drawn, hand = drawing(), AnnotationLoop(tiled)
    taken = hand.annotate("a", label_file(tmp_path, drawn))
    (sample,) = taken.samples
    assert taken.in_parts
    stored = tiled.annotations.read("a")
    assert np.array_equal(
        stored[tiled.pool.raw_slices(sample)], drawn[tiled.pool.raw_slices(sample)]
    )
    assert np.count_nonzero(stored != OPEN) == 16 * 16
    taken = hand.annotate("a", label_file(tmp_path, drawn), slices=[1])
    assert len(taken.samples) == 3, "the fourth is there already"
    assert np.array_equal(tiled.annotations.read("a")[1], drawn[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda image: sitk.ConstantPad(image, (1, 0, 0)),
            "size 25 x 20 x 6 instead of 24 x 20 x 6",
        ),
        (lambda image: image.SetSpacing((0.7, 0.8, 3.0)), "spacing"),
        (lambda image: image.SetOrigin((0, 0, 0)), "origin"),
        (lambda image: image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1)), "direction"),
        (lambda image: image + 2, "value 4, but the labels are 0 background, 1 liver, 2 tumour"),
        # 3 was "not annotated" in earlier versions
        (lambda image: image + 1, "value 3, but the labels are 0 background, 1 liver, 2 tumour"),
        (lambda image: sitk.Cast(image, sitk.sitkFloat32) + 0.5, "no whole number"),
    ],
)
def test_a_label_that_does_not_fit_changes_nothing(
    project: Project, tmp_path: Path, change, words: str
) -> None:
    image = picture(drawing())
    image = change(image) or image
    file = save(image, tmp_path / "l.nrrd")
    for options in ({"all_slices": True}, {"slices": [1]}):
        with pytest.raises(InputError, match=words):
            AnnotationLoop(project).annotate("a", file, **options)
    assert not project.samples.labelled().any()
    assert not list(project.annotations_dir.iterdir())


@pytest.mark.parametrize(
    ("case", "options", "words"),
    [
        ("a", {}, "No slice of a is suggested now"),
        ("a", {"slices": [6]}, "no slice 6. Its slices are 0 to 5"),
        ("a", {"slices": [-1]}, "no slice -1"),
        ("a", {"slices": [1], "all_slices": True}, "not both"),
        ("a", {"slices": [1], "seconds": -5}, "-5 seconds"),
        ("a", {"slices": [1], "seconds": float("nan")}, "nan seconds"),
        ("z", {"slices": [1]}, "no case 'z'"),
    ],
)
def test_what_cannot_be_taken_is_one_clear_line(
    project: Project, tmp_path, case, options, words
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        AnnotationLoop(project).annotate(case, label_file(tmp_path, drawing()), **options)
    assert "\n" not in str(caught.value)
    assert not project.samples.labelled().any()


def test_a_slice_outside_the_part_of_the_image_that_holds_something(tmp_path: Path) -> None:
    with planned(tmp_path / "p", tmp_path / "source") as project:
        crop = ((2, 5), (0, 20), (0, 24))
        project.cases.set_geometry(
            "a", CaseGeometry("a", SHAPES["a"], (0, 1, 2), crop, (3, 20, 24))
        )
        project.samples.set_pool(
            Pool.build([case.geometry for case in project.cases.all()], (64, 64))
        )
        with pytest.raises(
            InputError, match="Slice 1 of a is empty in the image. Use slices 2 to 4"
        ):
            AnnotationLoop(project).annotate("a", label_file(tmp_path, drawing()), slices=[1])
        assert AnnotationLoop(project).annotate(
            "a", label_file(tmp_path, drawing()), slices=[2]
        ).slices == (2,)


# --- skipping -------------------------------------------------------------------------------------


def test_a_skipped_slice_is_not_suggested_until_that_is_undone_or_it_is_annotated(
    project: Project, tmp_path
) -> None:
    hand = AnnotationLoop(project)
    assert hand.skip("a", [0, 1, 2]) == 3
    assert hand.skip("a", [0]) == 1, "once more is no harm"
    assert hand.loop.candidates().tolist() == list(range(3, 11))
    assert {entry.sample for entry in hand.loop.suggest("random", 8)} == set(range(3, 11))
    hand.skip("a", [1], undo=True)
    assert hand.loop.candidates().tolist() == [1, *range(3, 11)]
    hand.annotate("a", label_file(tmp_path, drawing()), slices=[2])
    hand.annotate("a", label_file(tmp_path, drawing(seed=3)), slices=[2])
    assert project.samples.skipped().nonzero()[0].tolist() == [0]
    with pytest.raises(InputError, match="Slice 2 of a is annotated already"):
        hand.skip("a", [2])


def test_skipping_is_seen_in_the_worklist(project: Project) -> None:
    batch(project, ("a", 1), ("b ö", 0))
    hand = AnnotationLoop(project)
    hand.skip("a", [1])
    content = json.loads(hand.worklist().file.read_text(encoding="utf-8"))
    assert [(item["case"], item["status"]) for item in content["items"]] == [
        ("a", "skipped"),
        ("b ö", "todo"),
    ]
    assert status(hand).open == 1
    hand.skip("a", [1], undo=True)
    assert len(hand.worklist().open()) == 2


# --- the worklist ---------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_worklist_says_where_each_box_lies(data, tmp_path_factory) -> None:
    tmp_path = tmp_path_factory.mktemp("w")
    transpose = data.draw(st.permutations([0, 1, 2]))
    with planned(tmp_path / "p", tmp_path / "source", (16, 16), tuple(transpose)) as project:
        pool, hand = project.pool, AnnotationLoop(project)
        hand.loop.suggest("random", data.draw(st.integers(1, len(pool))))
        hand.follow()
        content = json.loads(hand.worklist().file.read_text(encoding="utf-8"))
        assert [item["case"] for item in content["items"]] == sorted(
            item["case"] for item in content["items"]
        )
        assert sorted(item["rank"] for item in content["items"]) == list(
            range(1, len(content["items"]) + 1)
        )
        for item in content["items"]:
            image = sitk.ReadImage(str(project.root / item["images"][0]))
            box = [item["box"][axis] for axis in "ijk"]
            assert [slice(*ends) for ends in reversed(box)] == list(pool.raw_slices(item["sample"]))
            assert item["box"][item["slice"]["axis"]] == [
                item["slice"]["index"],
                item["slice"]["index"] + 1,
            ]
            assert item["slice"]["axis"] == "kji"[transpose[0]]
            for point in item["corners"]:
                index = np.array(image.TransformPhysicalPointToContinuousIndex(point))
                assert np.allclose(index, index.round(), atol=1e-4)
                assert all(
                    value in (low, high - 1)
                    for value, (low, high) in zip(index.round(), box, strict=True)
                )


# --- cases that come later, older projects --------------------------------------------------------


def test_cases_added_later_come_behind_and_no_id_changes(project: Project, tmp_path: Path) -> None:
    batch(project, ("a", 1))
    AnnotationLoop(project).annotate("a", label_file(tmp_path, drawing()))
    before, rows = project.pool, project._db.rows("SELECT * FROM samples ORDER BY id")
    rng = np.random.default_rng(0)
    new = save(picture(rng.normal(size=(3, 20, 20)).astype(np.float32)), tmp_path / "A.nrrd")
    project.cases.import_case("0 first by name", [new])
    project.cases.set_geometry("0 first by name", geometry("0 first by name", (3, 20, 20)))
    enumerate_samples(project)
    assert project.pool.cases == ("a", "b ö", "0 first by name")
    assert project.pool.extends(before) and len(project.pool) == len(before) + 3
    assert project._db.rows("SELECT * FROM samples ORDER BY id")[: len(rows)] == rows
    project.samples._pool = None  # as another process reads it
    assert project.pool.samples_of("0 first by name").tolist() == [11, 12, 13]
    assert [item.status for item in AnnotationLoop(project).worklist().items] == [Status.DONE]
    with pytest.raises(InputError, match="'a' is in the pool already"):
        project.pool.extended([geometry("a", SHAPES["a"])])


def test_a_project_of_the_first_schema_opens_and_can_skip(project: Project) -> None:
    samples = len(project.pool)
    project.close()
    connection = sqlite3.connect(project.root / "project.db")
    for table in ("skipped", "versions", "work", "leases", "answers"):
        connection.execute(f"DROP TABLE {table}")
    drop_latest_columns(connection)
    connection.execute("ALTER TABLE cases DROP COLUMN source")
    for column in ("uncertainty", "author", "ahead"):
        connection.execute(f"ALTER TABLE suggestions DROP COLUMN {column}")
    connection.execute("DROP TABLE rounds")
    connection.execute(tables.FIRST[3])
    for column in (
        "started",
        "heartbeat",
        "attempts",
        "progress",
        "waiting",
        "cancelled",
        "result",
        "notes",
    ):
        connection.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match="old schema version 1"):
        Project.open(project.root, read_only=True)
    with Project.open(project.root) as again:
        assert again._db.version == len(tables.MIGRATIONS)
        assert len(again.pool) == samples and not again.samples.skipped().any()
        AnnotationLoop(again).skip("a", [0])
        assert again.samples.skipped().sum() == 1


def test_a_project_of_the_first_release_is_brought_up_to_date(tmp_path: Path) -> None:
    """Made by the first schema's own statements."""
    connection = sqlite3.connect(tmp_path / "project.db")
    for statement in tables.FIRST:
        connection.execute(statement)
    about = {"name": "old", "labels": LABELS, "channels": ["CT"], "created": 0.0}
    connection.execute("INSERT INTO meta VALUES ('project', ?)", (json.dumps(about),))
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    with Project.open(tmp_path) as project:
        assert project.name == "old" and project.samples.skipped().tolist() == []


# --- the commands ---------------------------------------------------------------------------------


def alunet(*words: object) -> str:
    """Run a command in this process; what it printed. Errors meant for people come as they are."""
    done = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=True)
    if isinstance(done.exception, AlunetError):
        raise done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_init_makes_a_project_once_and_remembers_everything(tmp_path: Path) -> None:
    words = [
        "init",
        tmp_path / "p",
        "--label",
        "liver",
        "--label",
        "tumour",
        "--channel",
        "CT",
        "--seed",
        "7",
    ]
    words += ["--epochs", "2", "--device", "cpu", "--name", "Liver"]
    said = alunet(*words)
    assert "1 liver, 2 tumour; CT" in said
    assert alunet(*words) == said, "the same again is no harm"
    with pytest.raises(InputError, match="project in .* already"):
        alunet(*words, "--preset", "paper")
    found = json.loads(alunet("status", tmp_path / "p", "--json"))
    assert found["labels"] == LABELS
    chosen = {
        "preset": "cpu",
        "epochs": 2,
        "iterations": None,
        "seed": 7,
        "device": "cpu",
        "train_for": None,
    }
    assert found["setup"] == chosen and found["train_for"] is None
    assert found["next"].startswith("alunet add")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--label", "liver"], "No --channel"),
        (["--channel", "CT"], "No --label"),
        (
            ["--label", "liver", "--label", "Liver", "--channel", "CT"],
            "--label Liver is there twice",
        ),
        (["--label", "background", "--channel", "CT"], "background is there"),
        (["--label", "liver", "--channel", "CT", "--preset", "fast"], "Unknown preset 'fast'"),
        (["--label", "liver", "--channel", "CT", "--epochs", "0"], "0 epochs"),
        (["--label", "liver", "--channel", "CT", "--seed", "-1"], "-1 cannot be a seed"),
        (["--label", "liver", "--channel", "CT", "--device", "tpu"], "tpu"),
        (["--label", "liver", "--channel", "CT", "--like", "x"], "--like is given beside"),
        (["--like", "nowhere"], "no folder nowhere"),
    ],
)
def test_init_refuses_before_anything_is_made(
    tmp_path: Path, words: list[str], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        alunet("init", tmp_path / "p", *words)
    assert not (tmp_path / "p").exists()


def test_a_project_without_images_says_what_comes_next(tmp_path: Path) -> None:
    root = tmp_path / "p"
    alunet("init", root, "--label", "liver", "--channel", "CT")
    for command, words in (
        ("suggest", "no images"),
        ("plan", "no images"),
        ("next-round", "no images"),
    ):
        with pytest.raises(InputError, match=words):
            alunet(command, root)
    with pytest.raises(InputError, match="no case 'a'"):
        alunet("skip", root, "--case", "a", "--slice", 0)
    with pytest.raises(InputError, match="no ALUNet project"):
        alunet("status", tmp_path / "nowhere")


def test_images_are_added_once_and_a_grown_folder_again(tmp_path: Path) -> None:
    root, scans = tmp_path / "p", tmp_path / "scans"
    alunet("init", root, "--label", "liver", "--channel", "CT")
    scans.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        save(picture(rng.normal(size=(3, 8, 8)).astype(np.float32)), scans / f"{name}.nrrd")
    assert "2 new cases" in alunet("add", root, scans)
    save(picture(rng.normal(size=(3, 8, 8)).astype(np.float32)), scans / "c.nrrd")
    assert "1 new cases" in alunet("add", root, scans)
    assert "0 new cases" in alunet("add", root, scans / "c.nrrd")
    label = save(picture(np.ones((3, 8, 8), np.uint8)), tmp_path / "l.nrrd")
    assert "1 new cases to evaluate on" in alunet(
        "add", root, scans / "a.nrrd", "--name", "t", "--label-file", label, "--test"
    )
    with pytest.raises(InputError, match="'a' is another image in the project"):
        alunet("add", root, scans / "b.nrrd", "--name", "a")
    found = json.loads(alunet("status", root, "--json"))
    assert (found["cases"], found["test_cases"]) == (["a", "b", "c"], ["t"])
    assert found["next"] == f"alunet plan {root}"


def test_a_session_without_a_model(project: Project, tmp_path: Path) -> None:
    batch(project, ("a", 1), ("a", 2), ("b ö", 3))
    root = project.root
    project.close()
    before = json.loads(alunet("status", root, "--json"))
    assert (before["open"], before["labelled"], before["step"], before["case"]) == (
        3,
        0,
        "annotate",
        "a",
    )
    said = alunet("annotate", root, label_file(tmp_path, drawing()), "--case", "a", "--seconds", 90)
    assert said == "a: slices 1, 2 taken. 1 of 3 suggested are still open.\n"
    assert "will not be suggested again" in alunet("skip", root, "--case", "b ö", "--slice", 3)
    after = json.loads(alunet("status", root, "--json"))
    assert (after["open"], after["labelled"], after["skipped"], after["minutes"]) == (0, 2, 1, 1.5)
    assert after["next"] == f'alunet next-round "{root}"'
    assert after["voxels"]["liver"] == int((drawing()[[1, 2]] == 1).sum())
    shown = alunet("status", root)
    assert "2 of 11 samples labelled" in shown and "Next: alunet next-round" in shown


def test_a_choice_that_cannot_be_is_refused_before_anything_is_chosen(project: Project) -> None:
    hand = AnnotationLoop(project)
    for strategy, budget, words in (
        ("usimf", 3, "asks a model"),
        ("usimx", 3, "usimx"),
        ("random", 0, "budget of 0"),
    ):
        with pytest.raises(InputError, match=words):
            hand.loop.suggest(strategy, budget)
    for strategy, budget, ahead, words in (
        ("usimx", None, 0, "usimx"),
        (None, 0, 0, "budget of 0"),
        (None, 3, -1, "-1 samples ahead"),
    ):
        with pytest.raises(InputError, match=words):
            hand.next_round(strategy, budget, ahead)
    assert hand.loop.batch() is None and not project.worklist.suggestions(0)
    hand.skip("a", range(6))
    hand.skip("b ö", range(5))
    hand.plan = lambda: None  # no image to plan from here
    with pytest.raises(InputError, match="annotated or skipped"):
        hand.suggest()


# --- for real -------------------------------------------------------------------------------------


def data_set(source: Path, folder: Path, names: list[str]) -> Path:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for name in names:
            shutil.copyfile(source / part / f"{name}.nii.gz", folder / part / f"{name}.nii.gz")
    content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    content["training"] = [
        {part[:5]: f"./{part}/{n}.nii.gz" for part in ("imagesTr", "labelsTr")} for n in names
    ]
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_a_whole_session_with_the_real_nnunet(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "Task04_Hippocampus"
    names = sorted(file.name[:-7] for file in (source / "imagesTr").glob("*.nii.gz"))[:7]
    first, late, test = (
        data_set(source, tmp_path / name, part)
        for name, part in (("first", names[1:5]), ("late", names[:1]), ("test", names[5:]))
    )
    root, truth = tmp_path / "my hippocampus", source / "labelsTr"
    alunet("init", root, "--like", first, "--epochs", 1, "--iterations", 4, "--device", "cpu")
    alunet("add", root, first)
    alunet("add", root, test, "--test")
    alunet("plan", root)
    shown = alunet("suggest", root, "--budget", 6)
    assert alunet("suggest", root) == shown, "the same list again"
    with pytest.raises(InputError, match="begun with"):
        alunet("suggest", root, "--budget", 7)
    assert "no model was trained" in alunet("next-round", root), (
        "nothing is annotated; the batch stays"
    )
    work = json.loads((root / "rounds" / "000" / "worklist.json").read_text(encoding="utf-8"))
    asked = sorted({item["case"] for item in work["items"]})
    for case in asked[:-1]:  # nobody has seen "Posterior" yet
        labels = sitk.ReadImage(str(truth / f"{case}.nii.gz"))
        file = save(sitk.Mask(labels, labels != 2), tmp_path / "drawn.nii.gz")
        alunet("annotate", root, file, "--case", case, "--author", "me", "--seconds", 20)
    left = len([item for item in work["items"] if item["case"] == asked[-1]])
    said = alunet("next-round", root, "--budget", 4, "--strategy", "usimf")
    assert f"{left} that stayed open went back to the pool" in said and "Dice" in said
    check_second_round(root, tmp_path, truth, late)


def check_second_round(root: Path, tmp_path: Path, truth: Path, late: Path) -> None:
    """A class nobody has seen, proposals, corrected labels, a late case, and results."""
    with Project.open(root) as project:
        assert project.annotations.class_voxels()[2] == 0
        worklist, before = AnnotationLoop(project).worklist(), project.pool
        assert (
            len(worklist.items) == 4
            and not project.samples.labelled()[[item.sample for item in worklist.items]].any()
        )
        item = worklist.items[0]
        proposal = sitk.ReadImage(str(item.proposal))
        image = sitk.ReadImage(str(truth / f"{item.case}.nii.gz"))
        assert (
            proposal.GetSize() == image.GetSize()
            and np.isin(sitk.GetArrayFromImage(proposal), (0, 1, 2)).all()
        )
        old = next(name for name in project.annotations.cases())
        slice_ = int(project.pool.slice_raw[project.samples.labelled().nonzero()[0][0]])
    alunet("annotate", root, truth / f"{item.case}.nii.gz", "--case", item.case)
    alunet(
        "annotate",
        root,
        truth / f"{old}.nii.gz",
        "--case",
        old,
        "--slice",
        slice_,
        "--slice",
        slice_ + 1,
    )
    assert "1 new cases" in alunet("add", root, late)
    assert json.loads(alunet("status", root, "--json"))["step"] == "plan"
    alunet("next-round", root, "--budget", 3, "--strategy", "random")
    with Project.open(root) as project:
        assert project.pool.extends(before) and len(project.pool) > len(before)
        used = np.load(root / "nnunet" / "labels" / f"{old}.npz")
        assert used.files, "label maps of the training"
        assert (
            root / "nnunet" / "labels" / f"{old}.npz"
        ).stat().st_mtime_ns >= project.annotations.file(old).stat().st_mtime_ns, (
            "corrected labels reach the next training"
        )
        reference = read_labels(truth / f"{old}.nii.gz")
        assert np.array_equal(project.annotations.read(old)[slice_], reference[slice_])
    found = json.loads(alunet("status", root, "--json"))
    assert [line["dice_on"] for line in found["rounds"]] == ["test cases", "test cases", None]
    alunet("predict", root, item.case, "--out", tmp_path / "out", "--format", "nrrd")
    alunet("uncertainty", root, item.case, "--out", tmp_path / "out" / "unsure.nii.gz")
    alunet("export", root, "model", "--out", tmp_path / "out" / "model.zip")
    alunet("export", root, "labels", "--out", tmp_path / "labels")
    made = {file.name for file in (tmp_path / "out").iterdir()}
    assert made == {f"{item.case}.nrrd", "dataset.json", "unsure.nii.gz", "model.zip"}
    assert {file.name for file in (tmp_path / "labels").iterdir()} >= {f"{old}.nii.gz"}
