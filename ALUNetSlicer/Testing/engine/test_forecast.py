"""What the next round will take: said from earlier rounds, else from a timed pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nearest_mean import NearestMean

from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.forecast import Forecast
from alunet.loop.oracle import Oracle
from alunet.loop.setup import Setup, create
from alunet.loop.status import status
from alunet.schema.durations import duration, shared

PIXELS = 16 * 16  # of the second framework's patch
LABELS = {"background": 0, "organ": 1}


@pytest.fixture
def hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AnnotationLoop]:
    """Three cases to learn from, one to test on; trained for a minute a round."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    setup = Setup(device="cpu", train_for=60)
    made = create(tmp_path / "p", name="p", labels=LABELS, channels=["MRI"], setup=setup)
    with made as project:
        for seed, name in enumerate("abcd"):
            rng, label = np.random.default_rng(seed), np.zeros((4, 28, 30), np.uint8)
            label[:, 6:22, 5:25] = 1
            image = (100 * label + rng.normal(100, 20, label.shape)).astype(np.float32)
            files = [tmp_path / f"{name}{kind}.nrrd" for kind in ("", "_label")]
            for array, file in zip((image, label), files, strict=True):
                sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
            project.cases.import_case(name, files[:1], files[1])
        project.cases.set_role(["d"], "test")
        found = AnnotationLoop(project)
        found.loop.framework, found.loop.threads = NearestMean(), 2
        yield found


def answer(hand: AnnotationLoop) -> None:
    number = hand.loop.current()
    batch = [entry.sample for entry in hand.project.worklist.suggestions(number)]
    Oracle(hand.project).reveal(np.array(batch, np.int64), number)


@pytest.mark.slow
def test_first_a_timed_pass_and_then_earlier_rounds_say_what_a_round_takes(
    hand: AnnotationLoop,
) -> None:
    project = hand.project
    assert hand.forecast() is None, "nothing is planned"
    hand.suggest("random", 6)
    assert hand.forecast() is None, "nothing was timed"
    answer(hand)
    here = project.settings.arithmetic
    assert here is not None
    project.settings.arithmetic = {**here, "pixel_seconds": {"scoring": 1e-4, "training": 1e-3}}
    left = project.samples.counts().pool - 6
    timed = hand.forecast("entropy", 2)
    assert timed is not None and not timed.recorded
    assert timed.training == 60
    assert timed.choosing == pytest.approx(1.1 * left * PIXELS * 1e-4 / 2)
    assert timed.testing == pytest.approx(project.samples.counts().pool / 3 * PIXELS * 1e-4 / 2)
    assert timed.proposals == pytest.approx(2 * timed.testing), "two cases, as large as the test"
    usual = hand.forecast()
    assert usual is not None and usual.strategy == "usimf", "what follows the first training"
    assert usual.choosing > 5 * timed.choosing

    hand.next_round("entropy", 2)
    answer(hand)
    record = hand.next_round("entropy", 2).record
    assert record is not None and {"query", "predict", "evaluate"} <= set(record.seconds)
    found = hand.forecast()
    assert found is not None and found.recorded and found.strategy == "entropy"
    candidates = record.pool_samples - record.labelled_samples
    counts = project.samples.counts()
    share = (counts.pool - counts.labelled) / candidates
    assert found.choosing == pytest.approx(record.seconds["query"] * share)
    assert found.proposals == record.seconds["predict"]
    assert found.testing == pytest.approx(record.seconds["evaluate"])
    hand.train_for(10)
    assert hand.forecast().training == pytest.approx(10, abs=1)  # type: ignore[union-attr]
    assert status(hand).forecast == hand.forecast()


LONG = Forecast(300, 0, 360, 60, "usimf", quicker="entropy", quicker_seconds=60)


def test_it_is_said_in_a_few_words() -> None:
    assert LONG.words() == "about 12 min: 5 training, 6 choosing, 1 proposals"
    assert LONG.shorter() == "'entropy' chooses in about 60 s, 'usimf' in 6 min"
    assert replace(LONG, quicker="").shorter() == ""


def test_times_and_their_parts() -> None:
    assert [duration(seconds) for seconds in (4, 100, 7200)] == ["4 s", "2 min", "2 h 00 min"]
    assert shared({"a": 0.2, "b": 0.0}) == "0 s"
    assert shared({"training": 40, "choosing": 20, "proposals": 0.1}) == (
        "60 s: 40 training, 20 choosing"
    )
