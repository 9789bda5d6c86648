"""Training by time: the time that people type, the number of steps it becomes, and that this
number stays.
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import RECIPE

from alunet.cli.training import seconds_of
from alunet.errors import Cancelled, InputError
from alunet.loop import PRESETS, preset
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.oracle import Oracle
from alunet.loop.recipe import check_seconds
from alunet.loop.setup import Setup
from alunet.loop.status import status
from alunet.loop.steps import paced, written_length
from alunet.model.settings import TrainingSettings
from alunet.project import Project
from alunet.schema import PRESET_PURPOSES
from alunet.simulation import config

WEEK = 7 * 24 * 3600

# --- what people type -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("5min", 300),
        ("1.5h", 5400),
        ("1h30m", 5400),
        (" 1h 30m 5s ", 5405),
        ("0.5m", 30),
        ("0h2m", 120),
        ("168h", WEEK),
    ],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@given(st.integers(0, 167), st.integers(0, 59), st.integers(1, 59), st.sampled_from(["", " "]))
def test_hours_minutes_and_seconds_add_up(
    hours: int, minutes: int, seconds: int, between: str
) -> None:
    total = 3600 * hours + 60 * minutes + seconds
    assert seconds_of(between.join([f"{hours}h", f"{minutes}m", f"{seconds}s"])) == total
    assert seconds_of(f"{total}") == total == seconds_of(f"{total}s")
    assert math.isclose(seconds_of(f"{total / 60:.9f}m"), total, abs_tol=1e-6)


@given(st.text(max_size=60))
def test_any_other_text_is_one_clear_line(text: str) -> None:
    try:
        assert 1 <= seconds_of(text) <= WEEK
    except InputError as error:
        assert error.hint and "\n" not in str(error)


@pytest.mark.parametrize("seconds", [0, -60, 0.99, WEEK + 1, math.nan, math.inf, -math.inf])
def test_no_training_takes_such_a_time(seconds: float) -> None:
    for refuse in (
        check_seconds,
        preset("cpu").for_seconds,
        lambda asked: Setup(train_for=asked).recipe(),
    ):
        with pytest.raises(InputError, match="is not possible. Train between 1 second and 7 days"):
            refuse(seconds)


# --- from a time to steps -------------------------------------------------------------------------


@given(st.floats(1, WEEK), st.floats(1e-3, 100))
def test_as_many_steps_as_fit(seconds: float, seconds_per_step: float) -> None:
    chosen = TrainingSettings(seconds=seconds).paced(seconds_per_step)
    steps = chosen.epochs * chosen.iterations
    assert chosen.seconds is None and chosen.iterations >= 1
    assert abs(steps - max(1, seconds / seconds_per_step)) <= max(0.5, chosen.iterations / 2) + 0.5


def test_a_step_that_takes_longer_than_the_time_is_taken_once() -> None:
    chosen = TrainingSettings(seconds=2.0).paced(30.0)
    assert (chosen.epochs, chosen.iterations) == (1, 1)


def test_the_number_is_written_once_for_a_time(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    first = paced(TrainingSettings(seconds=60.0), tmp_path, lambda: 0.5)
    assert first == TrainingSettings(seconds=60.0).paced(0.5)
    assert not (tmp_path / "training").exists(), "what was begun at another length"
    (tmp_path / "training").mkdir()
    assert (
        paced(TrainingSettings(seconds=60.0), tmp_path, lambda: pytest.fail("measured again"))
        == first
    )
    assert (tmp_path / "training").exists(), "a checkpoint to go on from"
    kept = written_length(tmp_path)
    steps = {"epochs": first.epochs, "iterations": first.iterations}
    assert kept == {**steps, "seconds": 60.0, "seconds_per_step": 0.5}
    with pytest.raises(RuntimeError):
        paced(TrainingSettings(seconds=30.0), tmp_path, broken)
    assert written_length(tmp_path) is None, "nothing that was not measured"
    assert paced(TrainingSettings(seconds=30.0), tmp_path, lambda: 30.0).iterations == 1


def broken() -> float:
    raise RuntimeError


def test_what_is_chosen_is_trained() -> None:
    assert Setup().recipe().first.seconds == preset("cpu").train_for
    assert Setup(train_for=20).recipe().later.seconds == 20
    assert Setup(preset="paper").recipe().first.seconds is None
    assert Setup("paper", train_for=60).recipe().first.seconds == 60
    steps = Setup(epochs=3).recipe()
    assert (steps.train_for, steps.first.seconds, steps.first.epochs, steps.later.epochs) == (
        None,
        None,
        3,
        3,
    )
    for given_ in ({"epochs": 3}, {"iterations": 3}):
        with pytest.raises(
            InputError, match=r"training time \(20 s\) is given beside epochs or iterations"
        ):
            Setup(train_for=20, **given_).recipe()


@pytest.mark.parametrize("name", PRESETS)
def test_studies_train_for_steps(name: str) -> None:
    recipe = config.recipe_of(name, "finetune", None, None)
    assert recipe.train_for is recipe.first.seconds is recipe.later.seconds is None
    assert (recipe.first, recipe.later) == (preset(name).first, preset(name).later)


def test_every_preset_says_what_it_is_for() -> None:
    assert PRESET_PURPOSES.keys() == PRESETS.keys()
    assert all(name == recipe.name for name, recipe in PRESETS.items())


# --- rounds, with the real nnU-Net ----------------------------------------------------------------


@pytest.fixture
def begun(started: Path, tmp_path: Path):
    """A project whose rounds train by steps, with labels that no model has seen."""
    with Project.open(started) as project, project.fork(tmp_path / "by time") as fork:
        fork.settings.annotation = asdict(Setup(epochs=1, iterations=4, device="cpu"))
        hand = AnnotationLoop(fork)
        Oracle(fork).reveal(hand.loop.candidates()[:3], hand.loop.current())
        yield fork


def hand_of(
    project: Project, emit=lambda event: None, cancel: threading.Event | None = None
) -> AnnotationLoop:
    hand = AnnotationLoop(project, emit=emit, cancel=cancel)
    hand.loop.threads = 1
    hand.loop.recipe = RECIPE
    return hand


def cancelled(project: Project, seconds: float) -> dict:
    """Stop a round when its training begins; the length that was written by then."""
    cancel, found = threading.Event(), []

    def stop(event) -> None:
        if event.data.get("name") == "train":
            found.append(written_length(project.rounds_dir / "001"))
            cancel.set()

    hand = hand_of(project, stop, cancel)
    hand.train_for(seconds)
    with pytest.raises(Cancelled):
        hand.next_round("random", 1)
    assert found[0] is not None, "it is written before the training starts"
    return found[0]


@pytest.mark.slow
def test_a_round_that_was_cancelled_goes_on_with_the_written_number(begun: Project) -> None:
    written = cancelled(begun, 2)
    assert written["seconds"] == 2 and written["epochs"] * written["iterations"] >= 1
    left = begun.rounds_dir / "001" / "training" / "left"
    left.parent.mkdir(exist_ok=True)
    left.touch()
    steps = {"epochs": 1, "iterations": 3}  # another number than any clock would give again
    (begun.rounds_dir / "001" / "length.json").write_text(
        json.dumps({**written, **steps}), encoding="utf-8"
    )
    there: list[bool] = []
    hand = hand_of(begun, lambda event: there.append(left.is_file()))
    record = hand.next_round("random", 1).record
    assert record.steps == 3 and record.train_seconds > 0
    assert any(there), "what was trained so far was kept"
    assert written_length(begun.rounds_dir / "001") == {**written, **steps}
    assert record.recipe["train_for"] == 2 and hand.loop.recipe == RECIPE, (
        "the time was that round's alone"
    )
    line = status(hand_of(begun)).rounds[1]
    assert (line.steps, line.train_seconds) == (3, record.train_seconds)


@pytest.mark.slow
def test_another_time_starts_the_training_anew(begun: Project) -> None:
    cancelled(begun, 40)
    left = begun.rounds_dir / "001" / "training" / "left"
    left.parent.mkdir(exist_ok=True)
    left.touch()
    written = cancelled(begun, 1)
    assert written["seconds"] == 1 and not left.exists()
    assert (
        hand_of(begun).next_round("random", 1).record.steps
        == written["epochs"] * written["iterations"]
    )
