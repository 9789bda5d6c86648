"""Annotations on their way: whatever happens to the line, the agent or the service, each is
stored exactly once.
"""

from __future__ import annotations

import gzip
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.schema import Operations

from .conftest import PROJECT, SECONDS, AgentProcess, Service

SLICE = (1, 20, 24)
KILLS = int(os.environ.get("ALUNET_AGENT_KILLS", "30"))


def hand_in(
    agent: AgentProcess, folder: Path, sample: int, value: int, base: int = 0, **more
) -> dict:
    """Submit a slice full of `value`, as the viewer does."""
    file = folder / f"{sample}-{value}.raw"
    file.write_bytes(bytes([value]) * int(np.prod(SLICE)))
    try:
        return agent.ask(
            "submit",
            project=PROJECT,
            sample=sample,
            file=str(file),
            shape=list(SLICE),
            dtype="uint8",
            base_version=base,
            author="ada",
            seconds=3.5,
            **more,
        )
    finally:
        file.unlink()


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def stored(
    service: Service, folder: Path, sample: int, version: int | None = None
) -> tuple[int, int]:
    """Version and value of a stored annotation."""
    about = service.client().fetch_voxels(
        Operations.annotation,
        folder / "fetched.raw",
        project=PROJECT,
        sample=sample,
        version=version,
    )
    values = set((folder / "fetched.raw").read_bytes())
    assert about["shape"] == list(SLICE)
    assert len(values) == 1
    return about["version"], values.pop()


def test_an_annotation_is_acknowledged_here_and_then_there(agent, working, tmp_path):
    agent.connect(working)
    put = hand_in(agent, tmp_path, 3, 1)
    assert put["state"] == "waiting"
    sent = agent.event(event="outbox", key=put["key"], state="sent")
    assert sent["answer"]["version"] == 1
    assert agent.ask("waiting") == []
    assert stored(working, tmp_path, 3) == (1, 1)
    row = next(row for row in agent.ask("worklist", project=PROJECT) if row["sample"] == 3)
    assert (row["status"], row["version"]) == ("done", 1)
    back = agent.ask("annotation", project=PROJECT, sample=3)
    assert Path(back["file"]).read_bytes() == b"\1" * 480


def test_a_status_goes_the_same_way_in_the_same_order(agent, working, tmp_path):
    agent.connect(working)
    hand_in(agent, tmp_path, 1, 1)
    last = agent.ask("set_status", project=PROJECT, sample=1, status="flagged", author="ada")
    agent.event(event="outbox", key=last["key"], state="sent")
    row = next(row for row in agent.ask("worklist", project=PROJECT) if row["sample"] == 1)
    assert (row["status"], row["version"]) == ("flagged", 1)


def test_a_stale_annotation_is_told_and_both_versions_are_kept(agent, working, tmp_path):
    agent.connect(working)
    other = {
        "base_version": 0,
        "author": "bob",
        "seconds": 1.0,
        "status": "done",
        "shape": [1, 20, 24],
    }
    packed = gzip.compress(b"\1" * 480)
    working.client().put_annotation(PROJECT, 5, other | {"dtype": "uint8"}, packed, "bob-1")
    put = hand_in(agent, tmp_path, 5, 0)
    told = agent.event(event="outbox", key=put["key"], state="conflict")["answer"]
    assert told["code"] == "stale_annotation"
    assert told["details"]["version"] == 1
    assert stored(working, tmp_path, 5) == (1, 1)
    assert stored(working, tmp_path, 5, told["details"]["kept"])[1] == 0
    assert agent.ask("waiting") == []


def test_what_the_service_refuses_is_kept_and_holds_nobody_up(agent, working, tmp_path):
    agent.connect(working)
    bad = hand_in(agent, tmp_path, 999, 1)
    good = hand_in(agent, tmp_path, 2, 1)
    agent.event(event="outbox", key=bad["key"], state="refused")
    agent.event(event="outbox", key=good["key"], state="sent")
    assert [(entry["sample"], entry["state"]) for entry in agent.ask("waiting")] == [
        (999, "refused")
    ]
    agent.events.clear()
    agent.ask("retry", key=bad["key"])
    agent.event(event="outbox", key=bad["key"], state="refused")
    agent.ask("discard", key=bad["key"])
    assert agent.ask("waiting") == []


def test_a_viewer_that_asks_twice_with_one_key_is_heard_once(agent, working, tmp_path):
    agent.connect(working)
    hand_in(agent, tmp_path, 4, 1, key="mine")
    agent.event(event="outbox", key="mine", state="sent")
    assert hand_in(agent, tmp_path, 4, 1, key="mine")["state"] == "sent"
    assert stored(working, tmp_path, 4)[0] == 1


def test_two_people_do_not_get_the_same_slice(agent, working):
    agent.connect(working)
    lease = agent.ask("lease", project=PROJECT, sample=7, author="ada", seconds=60)
    assert lease["author"] == "ada"
    refused = agent.refused("lease", project=PROJECT, sample=7, author="bob")
    assert (refused["code"], refused["details"]["author"]) == ("leased", "ada")
    agent.ask("give_back", project=PROJECT, sample=7, author="ada")
    assert agent.ask("lease", project=PROJECT, sample=7, author="bob")["author"] == "bob"


def test_events_of_a_followed_project_are_pushed_also_after_the_line_was_cut(
    agent, working, relay, tmp_path
):
    agent.ask("connect", to=relay.address, token=working.token, allow_plain=True)
    agent.ask("follow", project=PROJECT)
    hand_in(agent, tmp_path, 8, 1)
    first = agent.event(event="project", kind="sample")
    assert first["data"]["sample"] == 8
    relay.cut()
    relay.mend()
    hand_in(agent, tmp_path, 9, 1)
    wait_until(lambda: sum(event.get("kind") == "sample" for event in agent.events) >= 2)
    numbers = [event["number"] for event in agent.events if event["event"] == "project"]
    assert numbers == sorted(set(numbers))
    agent.ask("unfollow", project=PROJECT)


def test_work_goes_on_without_a_service_and_is_sent_by_the_next_agent(
    start_agent, working, tmp_path
):
    first = start_agent()
    first.connect(working)
    working.kill()
    for sample in range(5):
        hand_in(first, tmp_path, sample, 1)
    hand_in(first, tmp_path, 0, 0)
    first.event(event="outbox", state="waiting")
    first.kill()
    working.start()
    second = start_agent()
    second.connect(working)
    wait_until(lambda: not second.ask("waiting"))
    assert [stored(working, tmp_path, sample) for sample in range(5)] == [
        (2, 0),
        (1, 1),
        (1, 1),
        (1, 1),
        (1, 1),
    ]


def test_slices_are_taken_at_once_although_the_engine_is_down(start_agent, working, tmp_path):
    """As a viewer does it after its agent died: the engine's name, then everything, without a
    pause.
    """
    working.kill()
    agent = start_agent()
    agent.send("choose", to=working.address, token=working.token)
    for sample in range(3):
        assert hand_in(agent, tmp_path, sample, 1)["state"] == "waiting"
    working.start()
    agent.event(event="connection", state="online")
    wait_until(lambda: not agent.ask("waiting"))
    assert [stored(working, tmp_path, sample) for sample in range(3)] == [(1, 1)] * 3


def test_the_proposal_for_a_slice_comes_alone(agent, working):
    agent.connect(working)
    assert agent.refused("proposal", project=PROJECT, sample=3)["code"] == "not_found"
    file = working.root / PROJECT / "rounds" / "001" / "proposals" / "a.mha"
    file.parent.mkdir(parents=True)
    voxels = np.random.default_rng(0).integers(0, 2, (20, *SLICE[1:]), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    answer = agent.ask("proposal", project=PROJECT, sample=3)
    assert (answer["shape"], answer["dtype"], answer["version"]) == (list(SLICE), "uint8", 0)
    assert Path(answer["file"]).read_bytes() == voxels[3].tobytes()


def test_a_slice_between_drawn_ones_gets_their_proposal_and_any_source_can_be_asked_for(
    agent, working, tmp_path
):
    agent.connect(working)
    for sample in (2, 4):
        key = hand_in(agent, tmp_path, sample, 1)["key"]
        agent.event(event="outbox", key=key, state="sent")
    best = agent.ask("proposal", project=PROJECT, sample=3)
    assert (best["source"], best["version"]) == ("neighbors", 0) and best["quality"] > 0.5
    assert set(Path(best["file"]).read_bytes()) == {1}
    empty = agent.ask("proposal", project=PROJECT, sample=3, source="empty")
    assert (empty["source"], empty["quality"]) == ("empty", None)
    assert set(Path(empty["file"]).read_bytes()) == {0}
    assert agent.refused("proposal", project=PROJECT, sample=3, source="model")["code"] == (
        "not_found"
    )
    assert agent.refused("proposal", project=PROJECT, sample=3, source="crystal ball")["code"] == (
        "bad_request"
    )


@pytest.mark.slow
def test_200_annotations_while_the_line_is_cut_50_times_are_each_stored_once_and_in_order(
    agent, working, relay, tmp_path
):
    moments = random.Random(11)
    agent.ask("connect", to=relay.address, token=working.token, allow_plain=True)
    for number in range(200):
        hand_in(agent, tmp_path, number % 40, number % 5 % 2, base=0)
        if number % 4 == 0:
            time.sleep(moments.uniform(0, 0.05))
            relay.cut()
            time.sleep(moments.uniform(0, 0.1))
            relay.mend()
    wait_until(lambda: not agent.ask("waiting"), 180)
    assert not [event for event in agent.events if event.get("state") in ("conflict", "refused")]
    for sample in range(40):
        expected = [number % 5 % 2 for number in range(200) if number % 40 == sample]
        assert stored(working, tmp_path, sample)[0] == 5
        assert [
            stored(working, tmp_path, sample, version)[1] for version in range(1, 6)
        ] == expected


@pytest.mark.slow
def test_agent_and_service_are_killed_and_nothing_acknowledged_is_lost_or_doubled(
    start_agent, working, tmp_path
):
    moments = random.Random(5)
    acknowledged: dict[int, list[int]] = {sample: [] for sample in range(40)}
    number = 0
    for turn in range(KILLS):
        agent = start_agent()
        agent.ask("connect", to=working.address, token=working.token)
        for _ in range(moments.randrange(1, 6)):
            number += 1
            hand_in(agent, tmp_path, number % 40, number % 2)
            acknowledged[number % 40].append(number % 2)
        time.sleep(moments.uniform(0, 0.1))
        if turn % 3 == 0:
            working.kill()
            agent.kill()
            working.start()
        else:
            agent.kill()
    last = start_agent()
    last.connect(working)
    wait_until(lambda: not last.ask("waiting"), 180)
    for sample, values in acknowledged.items():
        if values:
            assert stored(working, tmp_path, sample)[0] == len(values)
            versions = range(1, len(values) + 1)
            assert [stored(working, tmp_path, sample, version)[1] for version in versions] == values
