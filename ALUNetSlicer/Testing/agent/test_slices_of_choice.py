"""What a viewer asks of single slices: to have one in the worklist, and where the model is
unsure of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alunet.imaging.writing import write_like
from alunet.project import Project

from .conftest import PROJECT, SHAPE, AgentProcess, Service


@pytest.fixture
def connected(agent: AgentProcess, working: Service) -> AgentProcess:
    """An agent of a service whose worklist holds the first ten slices."""
    with Project.open(working.root / PROJECT) as opened:
        opened.worklist.suggest(0, list(range(10)), [0.0] * 10, [""] * 10)
    agent.connect(working)
    return agent


def test_a_chosen_slice_is_answered_and_told_to_whoever_follows(connected):
    connected.ask("follow", project=PROJECT)
    rows = connected.ask("add_slice", project=PROJECT, case="a", axis=0, slice=25, author="ada")
    assert [(row["sample"], row["rank"], row["reason"]) for row in rows] == [
        (25, 10, "chosen by ada")
    ]
    assert connected.ask("worklist", project=PROJECT)[10:] == rows
    assert (
        connected.ask("add_slice", project=PROJECT, case="a", axis=0, slice=25, author="bob")
        == rows
    )
    told = connected.event(event="project", kind="worklist")
    assert told["data"] == {"round": 0, "samples": [25], "author": "ada"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"axis": 2}, "bad_request"),
        ({"slice": SHAPE[0]}, "bad_request"),
        ({"case": "z"}, "not_found"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_the_services_words(connected, change, code):
    wanted = {"project": PROJECT, "case": "a", "axis": 0, "slice": 25, "author": "ada", **change}
    error = connected.refused("add_slice", **wanted)
    assert error["code"] == code and error["message"] and error["hint"]
    assert len(connected.ask("worklist", project=PROJECT)) == 10


def test_the_uncertainty_of_a_slice_comes_as_plain_voxels(connected, working):
    assert connected.refused("uncertainty", project=PROJECT, sample=7)["code"] == "not_ready"
    values = np.random.default_rng(3).random(SHAPE).astype(np.float32)
    with Project.open(working.root / PROJECT) as opened:
        opened.rounds.finish(0, {})
        for measure, part in (("entropy", values), ("bald", values / 2)):
            file = opened.rounds_dir / "001" / "uncertainty" / measure / "a.mha"
            file.parent.mkdir(parents=True)
            write_like(part, opened.cases.all()[0].images[0], file)
    found = connected.ask("uncertainty", project=PROJECT, sample=7)
    assert (found["shape"], found["dtype"], found["version"]) == ([1, 20, 24], "float32", 0)
    assert Path(found["file"]).read_bytes() == values[7:8].astype("<f4").tobytes()
    other = connected.ask("uncertainty", project=PROJECT, sample=7, measure="bald")
    assert Path(other["file"]).read_bytes() == (values[7:8] / 2).astype("<f4").tobytes()
    assert (
        connected.refused("uncertainty", project=PROJECT, sample=7, measure="mood")["code"]
        == "not_found"
    )
