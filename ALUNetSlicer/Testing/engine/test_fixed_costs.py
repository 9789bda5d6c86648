"""What a round costs beside training, passes and choosing: one process, nothing prepared twice, and
a status that loads little.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nearest_mean import NearestMean
from small import RECIPE

from alunet.imaging.dataset import read_dataset_description
from alunet.loop import Loop
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.oracle import Oracle
from alunet.loop.setup import Setup
from alunet.model import child, environment
from alunet.project import Project
from alunet.schema import Event

HEAVY = ("torch", "nnunetv2", "SimpleITK", "scipy", "numba", "pandas", "matplotlib", "sklearn")


@pytest.fixture
def source(real_data: Path, tmp_path: Path) -> Path:
    """Five real scans with their labels."""
    whole, some = real_data / "Task04_Hippocampus", tmp_path / "some"
    for kind in ("imagesTr", "labelsTr"):
        (some / kind).mkdir(parents=True)
        for file in sorted((whole / kind).glob("*.nii.gz"))[:5]:
            shutil.copy(file, some / kind)
    return some


def made(source: Path, root: Path) -> Project:
    about = read_dataset_description(source.parent / "some")
    names = {"background": 0, "Anterior": 1, "Posterior": 2}
    project = Project.create(root, name="h", labels=names, channels=["MRI"])
    for name, images, label in about.cases[:4]:
        project.cases.import_case(name, images, label)
    project.cases.set_role([about.cases[3][0]], "test")
    return project


def prepared_files(project: Project) -> dict[str, int]:
    """When each preprocessed image was written, by its file."""
    folder = environment.Folders(project.nnunet_dir).images
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def answer(loop: Loop) -> None:
    number = loop.current()
    batch = [entry.sample for entry in loop.project.worklist.suggestions(number)]
    Oracle(loop.project).reveal(np.array(batch, np.int64), number)


@pytest.mark.slow
def test_a_round_prepares_nothing_again_and_a_new_case_alone(source: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    with made(source, tmp_path / "p") as project:
        loop = Loop(project, RECIPE, seed=1, device="cpu", threads=1, emit=heard.append)
        loop.prepare()
        loop.next_round("random", 6)
        before = prepared_files(project)
        assert before
        answer(loop)
        heard.clear()
        loop.prepare()
        loop.next_round("entropy", 3)
        steps = [event.data["name"] for event in heard if event.data.get("state") == "started"]
        assert steps == ["refresh labels", "train", "evaluate", "query"]
        assert prepared_files(project) == before

        name, images, label = read_dataset_description(source).cases[4]
        project.cases.import_case(name, images, label)
        heard.clear()
        loop.prepare()
        after = prepared_files(project)
        assert {file: after[file] for file in before} == before
        assert set(after) > set(before) and all(
            file.startswith(name) for file in set(after) - set(before)
        )
        done = [event.data for event in heard if event.data.get("phase") == "preprocess"]
        assert [step["total"] for step in done] == [1], "the others are not even looked at"


@pytest.mark.slow
def test_a_round_of_people_takes_one_process(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, evaluation, choosing and proposals import torch and nnU-Net once, or less."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    started: list[Any] = []
    start = child._start
    monkeypatch.setattr(
        child, "_start", lambda *with_: started.append(start(*with_)) or started[-1]
    )
    with made(source, tmp_path / "p") as project:
        project.settings.annotation = vars(Setup(device="cpu", epochs=1, iterations=2))
        hand = AnnotationLoop(project)
        hand.loop.framework = NearestMean()
        hand.suggest("random", 6)
        assert len(started) == 1, "plan, preprocess and the choice of the arithmetic"
        answer(hand.loop)
        started.clear()
        done = hand.next_round("entropy", 3)
        assert done.record is not None and done.worklist is not None
        assert all(item.proposal is not None for item in done.worklist.items)
        assert len(started) == 1
        assert started[0].poll() is not None, "it is gone, and its memory with it"


@pytest.mark.parametrize("words", [["status", "p"], ["skip", "--help"], ["--help"]])
def test_what_computes_nothing_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    setup = vars(Setup())
    Project.create(
        tmp_path / "p",
        name="p",
        labels={"background": 0, "a": 1},
        channels=["CT"],
        annotation=setup,
    ).close()
    code = (
        f"import sys; sys.argv = ['alunet', *{words!r}]; "
        "from alunet.cli import main; code = main(); "
        f"sys.exit(code or str([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**child.with_source(), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == "[]", done.stderr
    assert ("p: 1 a" in done.stdout) == (words[0] == "status")


def test_only_the_command_that_is_asked_for_is_built() -> None:
    """The words of a command are the same as when all are built, and a wrong one is named."""

    def said(*words: str) -> str:
        command = [sys.executable, "-m", "alunet", *words]
        environment = {**child.with_source(), "COLUMNS": "100"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "Usage: alunet status" in said("status", "--help")
    assert said("status", "--help") == said("--debug", "status", "--help")
    assert "Usage: alunet case" in said("case", "--help")
    assert "annotate" in said("--help") and "stat" in said("stat")
