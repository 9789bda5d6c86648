"""The project folder: state, durability, locks, forks (docs/method.md, 1.4)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from alunet.errors import InputError
from alunet.imaging.reading import read_labels
from alunet.pool import CaseGeometry, Pool
from alunet.project import Project, Round, RoundState
from alunet.project.tables import MIGRATIONS
from alunet.schema import NOT_ANNOTATED

PACKAGE = Path(__file__).resolve().parents[2]
LABELS = {"background": 0, "liver": 1, "tumour": 2}
SHAPES = {"a": (5, 20, 24), "b ö": (4, 22, 18), "c": (3, 20, 20)}


def write(path: Path, array: np.ndarray) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 3.1))
    image.SetOrigin((-12.3, 45.6, 7.8))
    image.SetDirection((0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def make_project(folder: Path) -> Project:
    """Two pool cases and one test case with references, in a folder with a blank and a letter
    beyond ASCII.
    """
    project = Project.create(folder / "my pröject", name="Liver", labels=LABELS, channels=["CT"])
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        image = write(
            folder / "source" / f"{name}.nrrd", rng.normal(0, 1, shape).astype(np.float32)
        )
        label = write(
            folder / "source" / f"{name}_label.nrrd", rng.integers(0, 3, shape).astype(np.uint8)
        )
        project.cases.import_case(name, [image], label, role="test" if name == "c" else "pool")
    for case in project.cases.all():
        crop = tuple((0, extent) for extent in case.shape)
        project.cases.set_geometry(
            case.name, CaseGeometry(case.name, case.shape, (0, 1, 2), crop, case.shape)
        )
    project.samples.set_pool(
        Pool.build([case.geometry for case in project.cases.all("pool")], (16, 16))
    )
    return project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with make_project(tmp_path) as project:
        yield project


def reveal(project: Project, sample: int, round: int = 0) -> np.ndarray:
    """Annotates a sample with its reference."""
    name = project.pool.case_name(sample)
    (case,) = [case for case in project.cases.all() if case.name == name]
    labels = read_labels(case.label)[project.pool.raw_slices(sample)]
    project.annotations.annotate(name, [(sample, labels)], round=round, author="test", seconds=3.0)
    return labels


# --- making and opening ---------------------------------------------------------------------------


def test_a_project_opens_as_it_was_closed(project: Project) -> None:
    pool, cases = project.pool, project.cases.all()
    project.settings.patch = (16, 16)
    project.close()
    with Project.open(project.root) as again:
        assert (again.name, again.labels, again.channels) == ("Liver", LABELS, ["CT"])
        assert again.pool == pool
        assert again.cases.all() == cases
        assert again.settings.patch == (16, 16)
        assert again.settings.arithmetic is None
        assert again.data == again.root
    folders = {path.name for path in project.root.iterdir() if path.is_dir()}
    assert folders == {"images", "labels", "nnunet", "annotations", "rounds"}


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"background": 0},
        {"liver": 1, "tumour": 2},
        {"background": 0, "liver": 1, "tumour": 1},
        {"background": 0, "ignore": 1},
    ],
)
def test_impossible_labels_are_refused_before_anything_is_made(
    tmp_path: Path, labels: dict
) -> None:
    with pytest.raises(InputError):
        Project.create(tmp_path / "p", name="p", labels=labels, channels=["CT"])
    assert not (tmp_path / "p").exists()


def test_there_is_one_project_in_a_folder(project: Project, tmp_path: Path) -> None:
    root = project.root
    project.close()
    with pytest.raises(InputError, match="already"):
        Project.create(root, name="other", labels=LABELS, channels=["CT"])
    with pytest.raises(InputError, match="no ALUNet project"):
        Project.open(tmp_path / "nowhere")
    with Project.open(root) as again:
        assert again.name == "Liver"


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "project.db").write_bytes(b"no database at all, but long enough to look at" * 20)
    with pytest.raises(InputError, match="usable database"):
        Project.open(tmp_path)


def test_a_half_made_project_does_not_open_and_can_be_made_again(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "project.db").close()
    (tmp_path / "project.db").touch()
    with pytest.raises(InputError, match="never completed"):
        Project.open(tmp_path)
    Project.create(tmp_path, name="p", labels=LABELS, channels=["CT"]).close()


def test_what_killed_writers_left_is_gone_once_the_project_opens_and_nothing_else_is(
    project: Project,
) -> None:
    project.close()
    files = [
        Path(folder, "tmp-1.mha") for folder in ("annotations", "rounds/000/proposals", "cache")
    ]
    left = [file.with_name(f"tmp-{uuid.uuid4().hex}-{file.name}") for file in files]
    for file in (project.root / name for name in (*files, *left)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    Project.open(project.root).close()
    assert all((project.root / file).exists() for file in files)  # a case may have such a name
    assert not any((project.root / file).exists() for file in left)


def test_a_newer_schema_is_refused(project: Project) -> None:
    project.close()
    connection = sqlite3.connect(project.root / "project.db")
    connection.execute("PRAGMA user_version = 1000")
    connection.close()
    with pytest.raises(InputError, match="schema version 1000.*Update"):
        Project.open(project.root)


def test_an_older_schema_is_migrated_whole_or_not_at_all(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.close()
    better = ["ALTER TABLE cases ADD COLUMN note TEXT", "UPDATE cases SET note = name || '!'"]
    migrations = [*MIGRATIONS, [*better, "nonsense"]]
    monkeypatch.setattr("alunet.project.project.MIGRATIONS", migrations)
    with pytest.raises(sqlite3.OperationalError):
        Project.open(project.root)
    migrations[-1] = better
    with Project.open(project.root) as again:
        assert again._db.version == len(migrations)
        assert again._db.rows("SELECT note FROM cases ORDER BY name") == [
            ("a!",),
            ("b ö!",),
            ("c!",),
        ]


# --- one writer, many readers ---------------------------------------------------------------------


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    program = f"import sys; sys.path.insert(0, {str(PACKAGE)!r})\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_a_second_writer_in_another_process_is_refused_and_a_reader_is_not(
    project: Project,
) -> None:
    code = """
        from alunet.errors import InputError
        from alunet.project import Project
        with Project.open(sys.argv[1], read_only=True) as reader:
            print(len(reader.pool))
            try:
                reader.annotations.annotate("a", [], round=0, author="x")
            except InputError as error:
                print(error)
        try:
            Project.open(sys.argv[1])
        except InputError as error:
            print(error)
    """
    result = run_python(code, str(project.root))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == str(len(project.pool))
    assert "reading only" in lines[1]
    assert "in use by another process" in lines[2]


def test_a_second_writer_in_the_same_process_is_refused_too(project: Project) -> None:
    with pytest.raises(InputError, match="in use"):
        Project.open(project.root)


def test_projects_work_in_threads_each_with_its_own(project: Project, tmp_path: Path) -> None:
    forks = []
    for number in range(3):
        with project.fork(tmp_path / "runs" / str(number)) as fork:
            forks.append(fork.root)
    problems: list[BaseException] = []

    def work(root: Path, sample: int) -> None:
        try:
            with Project.open(root) as own:
                reveal(own, sample)
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            problems.append(error)

    threads = [
        threading.Thread(target=work, args=(root, number)) for number, root in enumerate(forks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    for number, root in enumerate(forks):
        with Project.open(root, read_only=True) as fork:
            assert np.flatnonzero(fork.samples.labelled()).tolist() == [number]


# --- annotation -----------------------------------------------------------------------------------


def test_revealing_touches_the_box_alone_and_test_cases_are_never_in_the_pool(
    project: Project,
) -> None:
    assert project.pool.cases == ("a", "b ö")
    sample = 9
    name = project.pool.case_name(sample)
    assert np.all(project.annotations.read(name) == NOT_ANNOTATED)
    labels = reveal(project, sample)
    store = project.annotations.read(name)
    assert np.array_equal(store[project.pool.raw_slices(sample)], labels)
    rest = np.ones(store.shape, bool)
    rest[project.pool.raw_slices(sample)] = False
    assert np.all(store[rest] == NOT_ANNOTATED)
    assert np.flatnonzero(project.samples.labelled()).tolist() == [sample]
    (other,) = {"a", "b ö"} - {name}
    assert np.all(project.annotations.read(other) == NOT_ANNOTATED)


def test_a_pool_with_a_test_case_is_refused_and_a_pool_case_that_becomes_one_keeps_its_samples(
    project: Project,
) -> None:
    everything = Pool.build([case.geometry for case in project.cases.all()], (16, 16))
    with pytest.raises(InputError, match="'c', which is a test case"):
        project.samples.set_pool(everything)
    pool = project.pool
    project.cases.set_role(["a"], "test")
    project.samples.set_pool(pool)
    assert len(project.pool) == len(project.samples.counted()) == len(pool)
    assert not project.samples.counted()[pool.samples_of("a")].any()


def test_the_label_map_has_the_geometry_of_the_image(project: Project) -> None:
    reveal(project, 0)
    (case,) = [case for case in project.cases.all() if case.name == "a"]
    image, label = (
        sitk.ReadImage(str(case.images[0])),
        sitk.ReadImage(str(project.annotations.file("a"))),
    )
    assert label.GetSize() == image.GetSize()
    assert label.GetSpacing() == image.GetSpacing()
    assert label.GetOrigin() == image.GetOrigin()
    assert label.GetDirection() == image.GetDirection()
    assert label.GetPixelID() == sitk.sitkUInt8


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_costs_and_class_voxels_count_what_the_label_maps_hold(data, tmp_path_factory) -> None:
    with make_project(tmp_path_factory.mktemp("p")) as project:
        size = len(project.pool)
        ids = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=12, unique=True))
        for number, sample in enumerate(ids):
            reveal(project, sample, round=number)
        maps = {name: project.annotations.read(name) for name in project.pool.cases}
        counts = sum(np.bincount(array.ravel(), minlength=4)[:3] for array in maps.values())
        costs = project.annotations.costs()
        assert project.annotations.class_voxels().tolist() == counts.tolist()
        assert project.annotations.class_voxels().dtype == np.int64
        assert costs.samples == len(ids)
        assert costs.voxels == sum(
            np.count_nonzero(array != NOT_ANNOTATED) for array in maps.values()
        )
        assert costs.slices == len({(project.pool.case[i], project.pool.slice[i]) for i in ids})
        assert costs.fraction == len(ids) / size
        assert sum(project.annotations.cases().values()) == len(ids)
        assert project.samples.labelled_rounds()[ids].tolist() == list(range(len(ids)))
        assert (project.samples.labelled_rounds() >= 0).sum() == len(ids)
        assert project.rounds.touched()


@pytest.mark.parametrize(
    ("case", "sample", "labels", "words"),
    [
        ("a", 0, np.zeros((1, 16, 15)), "shape"),
        ("a", 0, np.full((1, 16, 16), 4), "value 4"),
        ("a", 0, np.full((1, 16, 16), -1), "value -1"),
        ("a", 0, np.full((1, 16, 16), 0.5), "value 0.5"),
        ("b ö", 0, np.zeros((1, 16, 16)), "'a', not 'b ö'"),
        ("a", 10_000, np.zeros((1, 16, 16)), "no sample 10000"),
        ("nobody", 0, np.zeros((1, 16, 16)), "no case 'nobody'"),
    ],
)
def test_wrong_annotations_change_nothing(
    project: Project, case: str, sample: int, labels, words: str
) -> None:
    good = np.zeros((1, 16, 16), np.uint8)
    with pytest.raises(InputError, match=words):
        project.annotations.annotate(case, [(1, good), (sample, labels)], round=0, author="x")
    assert not project.samples.labelled().any()
    assert list(project.annotations_dir.iterdir()) == []


def test_an_annotator_may_leave_voxels_open_and_correct_later(project: Project) -> None:
    labels = reveal(project, 0)
    project.annotations.annotate(
        "a", [(0, np.full(labels.shape, NOT_ANNOTATED))], round=1, author="x"
    )
    assert project.annotations.class_voxels().sum() == 0
    reveal(project, 0, round=2)
    assert project.annotations.class_voxels().sum() == labels.size
    assert project.samples.labelled_rounds()[0] == 0
    assert project.annotations.costs().samples == 1


CRASH = """
    import os, numpy as np
    from alunet.project import Project
    project = Project.open(sys.argv[1])
    project.annotations.annotate("a", [(0, np.ones((1, 16, 16), np.uint8))], round=0, author="x")
    {sabotage}
    project.annotations.annotate("a", [(1, np.full((1, 16, 16), 2, np.uint8))], round=0, author="x")
"""


@pytest.mark.parametrize(
    "sabotage",
    [
        # killed while the image library writes, before the rename, and between rename and commit
        "import SimpleITK; SimpleITK.WriteImage = lambda _, path, __: (open(path, "
        "'wb').write(b'x'), os._exit(9))",
        "import pathlib; pathlib.Path.replace = lambda *a: os._exit(9)",
        "project._db.transaction = lambda: os._exit(9)",
    ],
)
def test_a_killed_process_loses_nothing_acknowledged(project: Project, sabotage: str) -> None:
    root = project.root
    project.close()
    result = run_python(CRASH.format(sabotage=sabotage), str(root))
    assert result.returncode == 9, result.stderr
    with Project.open(root) as again:
        assert np.flatnonzero(again.samples.labelled()).tolist() == [0]
        assert np.all(again.annotations.read("a")[again.pool.raw_slices(0)][:, :, :8] == 1)
        files = [path for path in again.annotations_dir.rglob("*") if path.is_file()]
        assert {path.name for path in files} == {"a.mha"}, "the copies of it have its name"
        again.annotations.annotate(
            "a", [(1, np.full((1, 16, 16), 2, np.uint8))], round=0, author="x"
        )
        union = np.count_nonzero(again.annotations.read("a") != NOT_ANNOTATED)
        assert again.annotations.class_voxels().sum() == union


# --- suggestions, rounds, events ------------------------------------------------------------------


def test_suggestions_keep_their_order_and_their_state(project: Project) -> None:
    project.worklist.suggest(1, np.array([7, 2, 5]), np.array([3.0, 2.5, 0.1]), ["x", "y", "z"])
    assert [(s.sample, s.gain, s.reason, s.state) for s in project.worklist.suggestions(1)] == [
        (7, 3.0, "x", "suggested"),
        (2, 2.5, "y", "suggested"),
        (5, 0.1, "z", "suggested"),
    ]
    assert not project.samples.labelled().any()
    reveal(project, 2, round=1)
    assert [s.state for s in project.worklist.suggestions(1)] == [
        "suggested",
        "labelled",
        "suggested",
    ]
    project.worklist.suggest(1, [2, 3], [1.0, 1.0], ["", ""])
    assert [(s.sample, s.state) for s in project.worklist.suggestions(1)] == [
        (2, "labelled"),
        (3, "suggested"),
    ]
    assert project._db.value("SELECT count(*) FROM samples WHERE state = 'suggested'") == 1
    assert project.worklist.suggestions(2) == []


@pytest.mark.parametrize(
    "batch", [([1, 1], [0, 0], ["", ""]), ([-1], [0], [""]), ([10**6], [0], [""]), ([1], [], [])]
)
def test_impossible_batches_are_refused(project: Project, batch: tuple) -> None:
    with pytest.raises(InputError):
        project.worklist.suggest(1, *batch)
    assert project.worklist.suggestions(1) == []


def test_a_round_is_open_then_trained_then_finished(project: Project) -> None:
    rounds = project.rounds
    assert (rounds.current(), rounds.begun(), rounds.of_new_labels()) == (0, None, 0)
    rounds.begin("random", 100)
    rounds.begin("random", 10)  # nothing is chosen yet: another choice replaces the first
    assert rounds.all() == [Round(0, "random", 10, RoundState.OPEN, None, None)]
    rounds.keep_query(0, {"diagnostics": {}, "costs": {}})
    assert rounds.begin("entropy", 3) == Round(
        0, "random", 10, RoundState.OPEN, {"diagnostics": {}, "costs": {}}, None
    )
    rounds.set_training(0, True)
    assert rounds.begun().state is RoundState.TRAINING
    assert (rounds.current(), rounds.of_new_labels()) == (0, 1)
    rounds.set_training(0, False)
    assert (rounds.current(), rounds.of_new_labels()) == (0, 0)
    rounds.finish(0, {"dice": {"mean": 0.5}})
    assert rounds.finished()[0].record == {"dice": {"mean": 0.5}}
    assert (rounds.current(), rounds.begun(), rounds.of_new_labels()) == (1, None, 1)
    with pytest.raises(InputError, match="Round 1 was not begun"):
        rounds.finish(1, {})


def test_events_can_be_followed_from_a_number_on(project: Project) -> None:
    numbers = [project.events.add("epoch", {"epoch": epoch, "note": "ü"}) for epoch in range(4)]
    assert numbers == sorted(set(numbers))
    later = project.events.after(numbers[1])
    assert [number for number, _ in later] == numbers[2:]
    assert [event.data["epoch"] for _, event in later] == [2, 3]


def test_the_pool_is_stored_once_anything_is_labelled(project: Project) -> None:
    other = Pool.build([case.geometry for case in project.cases.all("pool")], (12, 12))
    project.samples.set_pool(project.pool)
    project.samples.set_pool(other)
    assert project.pool == other
    reveal(project, 0)
    project.samples.set_pool(other)
    with pytest.raises(InputError, match="annotations for another pool"):
        project.samples.set_pool(
            Pool.build([case.geometry for case in project.cases.all("pool")], (16, 16))
        )


# --- sharing --------------------------------------------------------------------------------------


def test_a_fork_goes_its_own_way_and_shares_the_data(project: Project, tmp_path: Path) -> None:
    reveal(project, 3)
    (project.rounds_dir / "000").mkdir()
    (project.rounds_dir / "000" / "weights").write_bytes(b"weights")
    with project.fork(tmp_path / "runs" / "fork") as fork:
        assert fork.data == project.data
        assert fork.pool == project.pool
        assert fork.annotations.costs() == project.annotations.costs()
        assert np.array_equal(fork.annotations.read("a"), project.annotations.read("a"))
        assert (fork.rounds_dir / "000" / "weights").read_bytes() == b"weights"
        reveal(fork, 5)
        assert np.flatnonzero(fork.samples.labelled()).tolist() == [3, 5]
        with fork.fork(tmp_path / "elsewhere" / "deep" / "fork") as second:
            assert second.data == project.data
            assert second.annotations.costs().samples == 2
        with pytest.raises(InputError, match="Import them into"):
            fork.cases.import_case("d", [])
    assert np.flatnonzero(project.samples.labelled()).tolist() == [3]
    assert not (tmp_path / "runs" / "fork" / "images").exists()


def test_an_interrupted_fork_leaves_nothing_in_the_way(project: Project, tmp_path: Path) -> None:
    target = tmp_path / "fork"
    (tmp_path / "fork.partial" / "annotations").mkdir(parents=True)
    project.fork(target).close()
    assert not (tmp_path / "fork.partial").exists()
    with pytest.raises(InputError, match="exists already"):
        project.fork(target)


def test_projects_that_share_data_can_move_together(project: Project, tmp_path: Path) -> None:
    home = project.root.parent
    project.fork(home / "runs" / "fork").close()
    project.close()
    home.rename(tmp_path.with_name(tmp_path.name + " moved"))
    moved = tmp_path.with_name(tmp_path.name + " moved")
    with Project.open(moved / "runs" / "fork") as fork:
        assert fork.data == moved / "my pröject"
        assert all(case.images[0].is_file() for case in fork.cases.all())
    (moved / "my pröject").rename(moved / "gone")
    with pytest.raises(InputError, match="data of the project"):
        Project.open(moved / "runs" / "fork")


def test_a_run_takes_the_cases_of_its_data_over_and_has_roles_of_its_own(
    project: Project, tmp_path: Path
) -> None:
    with Project.create(
        tmp_path / "run", name="run", labels=LABELS, channels=["CT"], data=project.root
    ) as run:
        assert run.cases.all() == project.cases.all()
        assert run.samples.known_pool() is None
        run.cases.set_role(["a"], "test")
        run.cases.set_role(["c"], "pool")
        assert [case.name for case in run.cases.all("pool")] == ["b ö", "c"]
        run.samples.set_pool(
            Pool.build([case.geometry for case in run.cases.all("pool")], (16, 16))
        )
        reveal(run, 0)
    assert [case.name for case in project.cases.all("pool")] == ["a", "b ö"]
    assert not project.samples.labelled().any()
    with pytest.raises(InputError, match="'spare' is no role"):
        project.cases.set_role(["a"], "spare")


def test_a_geometry_of_another_shape_is_refused(project: Project) -> None:
    geometry = CaseGeometry("a", (5, 20, 25), (0, 1, 2), ((0, 5), (0, 20), (0, 25)), (5, 20, 25))
    with pytest.raises(InputError, match="another geometry"):
        project.cases.set_geometry("a", geometry)
