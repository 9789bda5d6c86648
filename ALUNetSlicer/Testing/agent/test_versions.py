"""Agent and engine of different versions: nothing is sent or lost, one line says what to update."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from alunet.schema import API, Operations, Status

from .conftest import PROJECT, SECONDS, AgentProcess, Relay, Service, end_service_of, speaking
from .test_submit import hand_in

UPDATE_ENGINE = "Update ALUNet there (127.0.0.1) and start its service anew."
UPDATE_HERE = "Update ALUNet on this computer (in 3D Slicer, the extension ALUNetSlicer)."


@pytest.fixture
def other(prepared: Path, tmp_path: Path) -> Iterator[Service]:
    """A service with the prepared project, of the contract's version before."""
    shutil.copytree(prepared, tmp_path / "root")
    made = Service(tmp_path / "root", api=API - 1)
    yield made
    made.kill()


def restart(service: Service, api: int | None) -> None:
    service.kill()
    service.api = api
    service.start()


def annotate(agent: AgentProcess, folder: Path) -> list[str]:
    """Two slices and a status; returns their keys, each on this computer's disk."""
    made = [hand_in(agent, folder, sample, 1) for sample in (3, 4)]
    made.append(agent.ask("set_status", project=PROJECT, sample=5, status="skipped", author="ada"))
    assert [entry["state"] for entry in made] == ["waiting"] * 3
    return [entry["key"] for entry in made]


def worklist(service: Service) -> dict[int, tuple[str, int]]:
    """Sample -> status and version, as the engine has them, of whatever version it is."""
    address = f"{service.address}/v1/projects/{PROJECT}/worklist"
    headers = {"Authorization": f"Bearer {service.token}"}
    rows = requests.get(address, headers=headers, timeout=60).json()
    return {row["sample"]: (row["status"], row["version"]) for row in rows}


def all_wait(agent: AgentProcess, keys: list[str], service: Service) -> None:
    waiting = agent.ask("waiting")
    assert [(entry["key"], entry["state"]) for entry in waiting] == [
        (key, "waiting") for key in keys
    ]
    assert {worklist(service)[sample] for sample in (3, 4, 5)} == {("todo", 0)}


def all_arrive(agent: AgentProcess, keys: list[str], service: Service) -> None:
    for key in keys:
        agent.event(event="outbox", key=key, state="sent")
    assert agent.ask("waiting") == []
    found = worklist(service)
    assert [found[sample] for sample in (3, 4, 5)] == [("done", 1), ("done", 1), ("skipped", 0)]


@pytest.mark.parametrize(("version", "what"), [(API - 1, UPDATE_ENGINE), (API + 1, UPDATE_HERE)])
def test_what_is_annotated_waits_until_the_engine_speaks_the_same_version(
    other, start_agent, tmp_path, version, what
):
    if version != other.api:
        restart(other, version)
    relay, agent = Relay(other.port), start_agent()
    agent.ask("choose", to=relay.address, token=other.token, allow_plain=True)
    error = agent.event(event="connection", state="offline")["error"]
    assert error["code"] == "wrong_version"
    assert f"The engine (127.0.0.1) speaks version {version} of the contract" in error["message"]
    assert f"ALUNet on this computer version {API}." in error["message"]
    assert error["hint"].startswith(what)
    keys = annotate(agent, tmp_path)
    assert agent.refused("worklist", project=PROJECT)["code"] == "wrong_version"
    before = relay.taken
    time.sleep(4)
    assert relay.taken - before <= 4  # the usual pauses: 0.5, 1, 2, 4 s, ...
    all_wait(agent, keys, other)
    relay.cut()
    restart(other, None)
    relay.mend()
    agent.event(event="connection", state="online")
    all_arrive(agent, keys, other)
    relay.close()


def test_an_engine_replaced_by_another_version_under_a_connected_agent_refuses_nothing(
    other, start_agent, tmp_path
):
    restart(other, None)
    agent = start_agent()
    agent.connect(other)
    restart(other, API - 1)
    keys = annotate(agent, tmp_path)
    assert agent.event(event="connection", state="offline")["error"]["code"] in (
        "wrong_version",
        "unreachable",
    )
    deadline = time.monotonic() + SECONDS
    while agent.refused("health")["code"] != "wrong_version":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [entry["state"] for entry in agent.ask("waiting")] == ["waiting"] * 3
    restart(other, None)
    for key in keys:
        agent.event(event="outbox", key=key, state="sent")
    assert [worklist(other)[sample][0] for sample in (3, 4, 5)] == ["done", "done", "skipped"]


def test_an_older_agent_keeps_what_is_annotated_for_the_agent_that_replaces_it(
    other, start_agent, tmp_path
):
    restart(other, None)
    old = start_agent(api=API - 1)
    old.ask("choose", to=other.address, token=other.token)
    error = old.event(event="connection", state="offline")["error"]
    assert error["code"] == "wrong_version"
    assert error["hint"].startswith(UPDATE_HERE)
    keys = annotate(old, tmp_path)
    all_wait(old, keys, other)
    old.close()
    new = start_agent()
    new.connect(other)
    all_arrive(new, keys, other)


def test_a_project_that_is_followed_goes_on_when_the_versions_fit_again(other, start_agent):
    restart(other, None)
    agent = start_agent()
    agent.connect(other)
    agent.ask("follow", project=PROJECT)
    restart(other, API + 1)
    agent.event(event="connection", state="offline")
    time.sleep(1)
    restart(other, None)
    given = {"project": PROJECT, "sample": 7, "status": Status.FLAGGED, "author": "ben"}
    other.client().call(Operations.set_status, **given)
    assert agent.event(event="project", kind="sample")["data"]["sample"] == 7


def test_a_local_engine_of_another_version_is_named_by_its_environment_and_not_kept_awake(
    start_agent, tmp_path
):
    agent, root = start_agent(), tmp_path / "projects"
    try:
        number = agent.send(
            "connect", to=f"local:{root}", python=sys.executable, environment=speaking(API - 1)
        )
        error = agent.answer(number)["error"]
    finally:
        end_service_of(root)
    assert error["code"] == "wrong_version"
    assert error["hint"].startswith(f"Update ALUNet there (this computer, {sys.executable})")


def test_the_connection_test_says_which_side_to_update(other, start_agent):
    last = start_agent().ask("test", to=other.address, token=other.token)[-1]
    assert (last["name"], last["ok"]) == ("version", False)
    assert last["hint"].startswith(UPDATE_ENGINE)


def test_the_agent_refuses_the_greeting_of_a_viewer_of_another_version(start_agent):
    agent = start_agent()
    assert agent.ask("hello", api=API)["api"] == [API, API]
    newer, older = agent.refused("hello", api=API + 1), agent.refused("hello", api=API - 1)
    assert newer["code"] == older["code"] == "wrong_version"
    assert f"The viewer speaks version {API + 1} of the contract, ALUNet in " in newer["message"]
    assert newer["message"].endswith(f" version {API}.")
    assert newer["hint"].startswith("Update ALUNet in ")
    assert newer["hint"].endswith(" on this computer.")
    assert "the extension ALUNetSlicer" in older["hint"]
