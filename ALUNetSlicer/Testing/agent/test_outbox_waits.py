"""What passes is waited for: entries are refused only for what will never pass, and what holds one
project holds no other.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from .conftest import PROJECT, AgentProcess, Service
from .test_submit import SLICE, hand_in, stored


def hand_in_to(agent: AgentProcess, folder: Path, project: str, sample: int) -> dict:
    file = folder / "slice.raw"
    file.write_bytes(b"\1" * int(np.prod(SLICE)))
    about = {"shape": list(SLICE), "dtype": "uint8", "base_version": 0, "author": "ada"}
    return agent.ask("submit", project=project, sample=sample, file=str(file), seconds=1.0, **about)


@pytest.mark.parametrize("small_disk", [64], indirect=True)
def test_a_full_disk_of_the_engine_is_waited_for(agent, prepared, small_disk, fill, tmp_path):
    shutil.copytree(prepared, small_disk / "root")
    service = Service(small_disk / "root")
    try:
        agent.connect(service)
        filler = fill(20)
        put = hand_in(agent, tmp_path, 3, 1)
        told = agent.event(event="outbox", key=put["key"], state="waiting")
        assert "The disk of the engine is full." in str(told)
        filler.unlink()
        agent.event(event="outbox", key=put["key"], state="sent")
        assert stored(service, tmp_path, 3) == (1, 1)
    finally:
        service.kill()


def test_a_damaged_project_is_waited_for_and_holds_no_other(agent, working, tmp_path):
    shutil.copytree(working.root / PROJECT, working.root / "other")
    database = working.root / PROJECT / "project.db"
    whole = database.read_bytes()
    agent.connect(working)
    database.write_bytes(b"\xff" * 100 + whole[100:])
    put = hand_in(agent, tmp_path, 3, 1)
    told = agent.event(event="outbox", key=put["key"], state="waiting")
    assert "The database of the project is damaged. Restore it from a backup." in str(told)
    other = hand_in_to(agent, tmp_path, "other", 2)
    agent.event(event="outbox", key=other["key"], state="sent")
    assert [entry["state"] for entry in agent.ask("waiting")] == ["waiting"]
    database.write_bytes(whole)
    agent.event(event="outbox", key=put["key"], state="sent")
    assert stored(working, tmp_path, 3) == (1, 1)
