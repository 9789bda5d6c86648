"""A case on its way: sent, imported, followed through lost connections, cancelled, refused."""

from __future__ import annotations

import time

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.schema import Operations

from .conftest import PROJECT, Relay, write_image

PHASES = ["checksum", "upload", "wait", "check", "import"]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A scan of 150 MiB, which takes a second or two to import."""
    voxels = np.zeros((300, 512, 512), np.int16)
    voxels[:, 100:300, 100:300] = np.arange(200, dtype=np.int16)
    file = tmp_path_factory.mktemp("large") / "large.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    return file


def told(agent, number):
    """What was told of the progress of a call, in this order."""
    return [event for event in agent.events if event.get("id") == number]


def phase(agent, number, *wanted):
    """Wait until a call is in one of these phases."""
    while not any(event["phase"] in wanted for event in told(agent, number)):
        time.sleep(0.02)


def test_bytes_are_told_and_then_the_import_until_the_case_is_there(agent, working, large):
    agent.connect(working)
    number = agent.send("add_case", project=PROJECT, name="large", images=[str(large)])
    assert agent.answer(number)["result"]["shape"] == [300, 512, 512]
    steps = told(agent, number)
    order = list(dict.fromkeys(step["phase"] for step in steps))
    assert order == sorted(order, key=PHASES.index) and {"upload", "wait", "check"} <= {*order}
    sent = [step for step in steps if step["phase"] == "upload"]
    assert sent[-1]["done"] == sent[-1]["total"] == large.stat().st_size
    assert any(step["seconds_left"] is not None for step in steps)


@pytest.mark.parametrize("where", ["upload", "import"])
def test_a_lost_connection_is_waited_for(agent, working, relay: Relay, large, where):
    agent.ask("connect", to=relay.address, token=working.token, allow_plain=True)
    number = agent.send("add_case", project=PROJECT, name="far", images=[str(large)])
    phase(agent, number, *(["upload"] if where == "upload" else PHASES[2:]))
    relay.cut()
    agent.event(event="connection", state="offline")
    relay.mend()
    assert agent.answer(number)["result"]["name"] == "far"
    jobs = [job.kind.value for job in working.client().call(Operations.jobs, project=PROJECT)]
    assert jobs.count("import") == 2, "the one of the prepared project, and this one"


def test_what_is_cancelled_while_the_engine_imports_leaves_nothing(agent, working, large):
    agent.connect(working)
    number = agent.send("add_case", project=PROJECT, name="unwanted", images=[str(large)])
    phase(agent, number, *PHASES[2:])
    agent.ask("cancel", id=number)
    assert agent.answer(number)["error"]["code"] == "cancelled"
    assert [row["name"] for row in agent.ask("cases", project=PROJECT)] == ["a"]
    kept = (working.root / PROJECT / "images").iterdir()
    assert [file.name for file in kept] == ["a_0000.mha"]


def test_several_at_once_wait_for_each_other_and_one_that_is_no_image_is_told(
    agent, working, tmp_path
):
    agent.connect(working)
    numbers = []
    for place in range(6):
        file = tmp_path / f"scan{place}.nrrd"
        write_image(file, seed=place)
        if place == 2:
            file.write_bytes(file.read_bytes()[:-300])
        numbers.append(
            agent.send("add_case", project=PROJECT, name=f"s{place}", images=[str(file)])
        )
    answers = [agent.answer(number) for number in numbers]
    assert [place for place, answer in enumerate(answers) if "error" in answer] == [2], answers
    error = answers[2]["error"]
    assert error["code"] == "bad_request" and error["message"].startswith("s2_0000.nrrd "), error
