"""The agent as a process: JSON lines in, JSON lines out, against a real service on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.schema import API

from .conftest import PACKAGE, SECONDS, end_service_of, write_image

HEAVY = (
    "numpy",
    "scipy",
    "torch",
    "SimpleITK",
    "typer",
    "rich",
    "fastapi",
    "pydantic",
    "sqlite3",
    "requests",
)


def test_importing_the_agent_loads_nothing_heavy():
    code = f"import sys, alunet.agent; print([name for name in {HEAVY} if name in sys.modules])"
    assert (
        subprocess.check_output([sys.executable, "-c", code], cwd=PACKAGE, text=True).strip()
        == "[]"
    )


def test_a_running_agent_has_loaded_only_the_standard_library_and_requests():
    code = (
        "import sys, alunet.agent.main, alunet.agent.bootstrap; "
        f"print([n for n in {HEAVY[:-2]} if n in sys.modules], [n for n in sys.modules if "
        f"n.startswith('alunet.')])"
    )
    loaded, ours = subprocess.check_output(
        [sys.executable, "-c", code], cwd=PACKAGE, text=True
    ).split("] ", 1)
    assert loaded == "["
    allowed = ("alunet.agent", "alunet.schema", "alunet.errors")
    # a list that we printed ourselves
    assert [name for name in eval(ours) if not name.startswith(allowed)] == []


def test_the_agent_says_who_it_is(agent):
    said = agent.ask("hello")
    assert said["pid"] == agent.process.pid
    assert said["api"] == [API, API]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("this is no JSON", "no line of JSON"),
        ("[1, 2]", "no JSON object"),
        ('{"id": 5}', "names no call"),
        ('{"id": 5, "call": "fly"}', "no call 'fly'"),
        ('{"id": 5, "call": "worklist"}', "worklist"),
        ('{"id": 5, "call": "worklist", "args": {"project": 3}}', "worklist.project is 3, not str"),
        (
            '{"id": 5, "call": "worklist", "args": {"project": "p", "colour": 1}}',
            "no argument 'colour'",
        ),
        ('{"id": 5, "call": "worklist", "args": [1]}', "worklist"),
        ('{"id": 5, "call": "worklist", "args": {"project": "p"}}', "No engine was chosen yet"),
        ('{"id": 5, "call": "connect", "args": {"to": "ftp://x"}}', "where it is"),
        (
            '{"id": 5, "call": "connect", "args": {"to": "ssh://me:secret@x"}}',
            "no place in an address",
        ),
        ('{"id": 5, "call": "connect", "args": {"to": "https://x"}}', "needs a token"),
        (
            '{"id": 5, "call": "connect", "args": {"to": "http://example.org", "token": "t"}}',
            "not encrypted",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_in_one_clear_error(agent, line, words):
    agent.raw(line)
    number = 5 if '"id": 5' in line else None
    error = agent.answer(number)["error"]
    assert words in error["message"]
    assert error["hint"]
    assert agent.ask("hello")


def test_the_agent_ends_when_its_input_does(agent):
    agent.ask("hello")
    assert agent.close() == 0


VIEWER = """
import os, subprocess, sys, time
home, pipe = sys.argv[1:]
command = [sys.executable, "-m", "alunet.agent", "--home", home, "--parent", str(os.getpid())]
print(subprocess.Popen(command, stdin=int(pipe)).pid, flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def viewer_and_agent(home):
    """A viewer that starts an agent; we hold the agent's standard input open, as a process does
    that it forks.
    """
    read, write = os.pipe()
    command = [sys.executable, "-c", VIEWER, str(home), str(read)]
    viewer = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=PACKAGE, pass_fds=(read,), text=True
    )
    try:
        yield viewer, int(viewer.stdout.readline()), write
    finally:
        viewer.kill()
        viewer.wait()
        viewer.stdout.close()
        os.close(read)
        os.close(write)


posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX process groups")


@posix
def test_the_agent_ends_when_its_viewer_is_killed_though_the_pipe_stays_open(tmp_path):
    with viewer_and_agent(tmp_path) as (viewer, agent, write):
        os.write(write, b'{"id": 1, "call": "hello"}\n')
        assert json.loads(viewer.stdout.readline())["result"]["pid"] == agent
        viewer.kill()
        assert wait_for_end(agent, SECONDS)


@posix
@pytest.mark.slow
def test_no_agent_outlives_a_viewer_that_is_killed_while_it_starts(tmp_path):
    for attempt in range(20):
        with viewer_and_agent(tmp_path) as (viewer, agent, _):
            time.sleep(0.02 * attempt)
            viewer.kill()
            viewer.wait()
            assert wait_for_end(agent, 10.0), (
                f"the agent of a viewer killed after {0.02 * attempt:.2f} s is there"
            )


def wait_for_end(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
            if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        time.sleep(0.05)
    return False


def test_a_project_gets_a_case_and_gives_its_image_back(agent, service, tmp_path):
    assert agent.connect(service)["api"] == API
    assert agent.event(event="connection", state="online")["health"]["projects"] == 0
    assert "usimf" in {info["name"] for info in agent.ask("strategies")}
    made = agent.ask("create_project", name="Liver", labels=["liver"], channels=["CT"])
    voxels = write_image(tmp_path / "liver.nrrd")
    case = agent.ask(
        "add_case", project=made["id"], name="one", images=[str(tmp_path / "liver.nrrd")]
    )
    assert case["shape"] == list(voxels.shape)
    again = agent.ask(
        "add_case", project=made["id"], name="one", images=[str(tmp_path / "liver.nrrd")]
    )
    assert again == case
    for ending in ("nrrd", "nii.gz"):
        fetched = agent.ask("fetch", project=made["id"], case="one", what="images/0", format=ending)
        assert fetched["file"].endswith("." + ending)
        np.testing.assert_array_equal(
            sitk.GetArrayFromImage(sitk.ReadImage(fetched["file"])), voxels
        )
    assert [row["name"] for row in agent.ask("cases", project=made["id"])] == ["one"]
    assert agent.refused("cases", project="nothing")["code"] == "not_found"
    assert agent.refused("fetch", project=made["id"], case="one", what="proposal")["code"] in (
        "not_found",
        "not_ready",
    )


def test_a_transfer_holds_nothing_up_and_can_be_cancelled(agent, service, tmp_path):
    agent.connect(service)
    made = agent.ask("create_project", name="Big", labels=["a"], channels=["CT"])
    big = tmp_path / "big.nrrd"
    with big.open("wb") as stream:
        for _ in range(300):
            stream.write(os.urandom(2**20))
    transfer = agent.send("add_case", project=made["id"], name="big", images=[str(big)])
    agent.event(event="progress", id=transfer)
    assert agent.ask("hello")
    assert agent.ask("projects")
    assert agent.ask("cancel", id=transfer) is True, "it was still on its way"
    assert agent.answer(transfer)["error"]["code"] == "cancelled"
    assert agent.ask("cancel", id=transfer) is False


def test_a_local_engine_is_started_found_again_and_outlives_the_agent(start_agent, tmp_path):
    root = tmp_path / "my projects"
    try:
        first = start_agent()
        first.ask("connect", to=f"local:{root}")
        first.ask("create_project", name="Kept", labels=["a"], channels=["CT"])
        pid = json.loads((root / ".alunet" / "service.json").read_text(encoding="utf-8"))["pid"]
        first.kill()
        second = start_agent()
        second.ask("connect", to=f"local:{root}")
        assert [row["name"] for row in second.ask("projects")] == ["Kept"]
        assert (
            json.loads((root / ".alunet" / "service.json").read_text(encoding="utf-8"))["pid"]
            == pid
        )
    finally:
        end_service_of(root)


def test_a_service_that_is_killed_is_told_and_found_again(agent, service):
    agent.connect(service)
    service.kill()
    assert agent.refused("projects")["code"] == "unreachable"
    service.start()
    agent.events.clear()
    deadline = time.monotonic() + 40
    while "error" in agent.answer(agent.send("projects")):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_secrets_stand_in_no_event_and_on_no_command_line(agent, service):
    agent.connect(service)
    agent.ask("projects")
    assert service.token not in json.dumps(agent.events)
    listed = subprocess.run(["ps", "axww"], capture_output=True, text=True).stdout
    assert "alunet.agent" in listed
    assert service.token not in listed
