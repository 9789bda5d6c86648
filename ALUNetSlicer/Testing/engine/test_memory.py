"""Too little memory: said as that, tried again with smaller batches, and written down.

The limits are the system's: of a process (`RLIMIT_DATA`), and of a control group, in which the
system kills.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cramped
import numpy as np
import pytest
from small import RECIPE

from alunet.errors import EngineError, OutOfMemory
from alunet.imaging.dataset import read_dataset_description
from alunet.loop import Loop
from alunet.loop.oracle import Oracle
from alunet.loop.setup import Setup
from alunet.model import child, out_of_memory
from alunet.model.hardware import kills_for_memory
from alunet.project import Project
from alunet.schema import Event

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory so")
LARGE = 128  # tiles of a batch, of which a training or a scoring takes more than ROOM
ROOM = "500"
SCORING_ROOM = "110"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a function of `cramped` in a child process."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv(cramped.ROOM, "100")

    def run(name: str, **arguments: Any) -> Any:
        return child.run(f"cramped:{name}", arguments, environment={}, log=tmp_path / "child.log")

    return run


@linux
@pytest.mark.parametrize("name", ["take_with_numpy", "take_with_torch", "abort"])
def test_memory_that_a_library_cannot_have_is_named(run: Callable[..., Any], name: str) -> None:
    with pytest.raises(OutOfMemory, match="There was not enough memory"):
        run(name)


@linux
def test_a_kill_for_another_reason_is_not_called_memory(run: Callable[..., Any]) -> None:
    if kills_for_memory() is None:
        pytest.skip("this system does not count what it kills for memory")
    with pytest.raises(EngineError, match="exit code -9") as caught:
        run("be_killed")
    assert not isinstance(caught.value, OutOfMemory)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of 300 MiB, where this user may make one."""
    root, limit = Path("/sys/fs/cgroup"), "memory.max"
    if (root / "memory").is_dir():
        root, limit = root / "memory", "memory.limit_in_bytes"
    folder = root / "alunet-test"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(300 << 20), encoding="ascii")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    with contextlib.suppress(OSError):
        folder.rmdir()


def test_a_kill_by_the_system_for_want_of_memory_says_so(
    run: Callable[..., Any], group: Path
) -> None:
    with pytest.raises(OutOfMemory, match="There was not enough memory"):
        run("grow", folder=str(group))


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), False),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_what_libraries_say_of_memory(error: Exception, memory: bool) -> None:
    assert out_of_memory.is_cause(error) == memory


# --- rounds ---------------------------------------------------------------------------------------


class Heard:
    """The sentences that a loop says."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.kind == "message":
            self.texts.append(str(event.data["text"]))

    def of(self, what: str) -> list[str]:
        return [text for text in self.texts if f"not enough memory for the {what}" in text]


def begun(real_data: Path, folder: Path, heard: Heard, setup: Setup | None) -> Loop:
    """Four real scans, planned, with twelve annotated slices, in a loop with little memory."""
    source = real_data / "Task04_Hippocampus"
    about = read_dataset_description(source)
    project = Project.create(
        folder,
        name="h",
        labels=about.labels,
        channels=about.channels,
        annotation=None if setup is None else asdict(setup),
    )
    project.cases.import_dataset(source, limit=4)
    training = replace(RECIPE.first, iterations=2, batch_size=LARGE, batch_pixels=None, growth=0.0)
    scoring = replace(RECIPE.scoring, batch_size=LARGE)
    recipe = replace(RECIPE, first=training, later=training, scoring=scoring)
    loop = Loop(project, recipe, seed=1, device="cpu", threads=1, framework=cramped.CrampedNnUnet())
    loop.emit = heard
    loop.prepare()
    loop.next_round("random", 12)
    answer(loop)
    return loop


def answer(loop: Loop) -> None:
    number = loop.current()
    batch = [entry.sample for entry in loop.project.worklist.suggestions(number)]
    Oracle(loop.project).reveal(np.array(batch, np.int64), number)


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv(cramped.ROOM, ROOM)


@linux
@pytest.mark.slow
@pytest.mark.usefixtures("little")
def test_a_persons_round_is_trained_with_what_fits(real_data: Path, tmp_path: Path) -> None:
    heard = Heard()
    loop = begun(real_data, tmp_path / "p", heard, Setup(device="cpu"))
    with loop.project as project:
        record = loop.next_round("random", 3).record
        assert record is not None
        share = record.memory_shares["training"]
        assert share in (1 / 2, 1 / 4, 1 / 8)
        assert record.training["batch_size"] == LARGE * share
        assert record.recipe["first"]["batch_size"] == LARGE
        assert len(heard.of("training")) == round(np.log2(1 / share))
        assert "MiB of memory" in heard.of("training")[0]
        heard.texts.clear()
        again = Loop(project, loop.recipe, seed=1, threads=1, framework=loop.framework)
        again.emit = heard
        answer(again)
        assert again.learn().memory_shares["training"] == share
        assert not heard.of("training"), "what fits is written down"


@linux
@pytest.mark.slow
@pytest.mark.usefixtures("little")
def test_scores_with_what_fits_are_the_same(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    loop = begun(real_data, tmp_path / "p", heard, None)
    loop.recipe = replace(RECIPE, scoring=replace(RECIPE.scoring, batch_size=LARGE))
    with loop.project as project:
        loop.learn()
        with project.fork(tmp_path / "ample") as copy:
            ample = Loop(copy, loop.recipe, seed=1, device="cpu", threads=1)
            expected = ample.suggest("entropy", 3)
            assert ample.memory_shares is None
        monkeypatch.setenv(cramped.ROOM, SCORING_ROOM)
        chosen = loop.suggest("entropy", 3)
        assert [entry.sample for entry in chosen] == [entry.sample for entry in expected]
        assert heard.of("scoring") and not heard.of("training")
        kept = project.settings.memory_shares
        assert kept is not None and set(kept["shares"]) == {"scoring"}


@linux
@pytest.mark.slow
@pytest.mark.usefixtures("little")
def test_a_study_ends_rather_than_train_with_another_batch(real_data: Path, tmp_path: Path) -> None:
    heard = Heard()
    loop = begun(real_data, tmp_path / "p", heard, None)
    with loop.project:
        with pytest.raises(OutOfMemory, match=r"has \d+ MiB of memory.*unlike the others") as told:
            loop.next_round("random", 3)
        assert "\n" not in str(told.value)
        assert not loop.weights(0).exists() and not heard.of("training")
        assert loop.project.rounds.touched(), "the labels are there for the next attempt"
