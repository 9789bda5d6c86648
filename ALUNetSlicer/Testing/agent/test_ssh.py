"""The engine behind a real sshd on loopback, with its own keys, configuration and port."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from alunet.agent import bootstrap
from alunet.agent.connections import Access
from alunet.agent.connections.ssh import HOME, SshError
from alunet.agent.connections.target import parse
from alunet.agent.connections.tunnel import free_port
from alunet.agent.diagnose import diagnose
from alunet.errors import InputError
from alunet.schema import API

from .conftest import PACKAGE, end_service_of
from .sshd import SSHD, Sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A running sshd; where none is installed the test is skipped with that reason, and with
    CI=true it fails.
    """
    if SSHD is None:
        reason = "no sshd: install openssh-server"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path / "sshd"
    folder.mkdir()
    made = Sshd(folder)
    yield made
    made.stop()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "root over there"
    yield folder
    end_service_of(folder)


def connect(agent, sshd: Sshd, root: Path) -> dict:
    return agent.ask(
        "connect", to=sshd.address(root), python=sys.executable, ssh_options=sshd.options()
    )


def service_pid(root: Path) -> int:
    return json.loads((root / ".alunet" / "service.json").read_text(encoding="utf-8"))["pid"]


def tunnels(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if child.name() == "ssh" and "-L" in child.cmdline()]


def answers_again(agent, seconds: float = 90.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if "result" in agent.answer(agent.send("projects")):
            return True
        time.sleep(0.5)
    return False


def test_an_engine_behind_ssh_is_started_found_and_reached_again_after_every_kind_of_break(
    start_agent, sshd, root
):
    agent = start_agent()
    assert connect(agent, sshd, root)["api"] == API
    made = agent.ask("create_project", name="far", labels=["a"], channels=["CT"])
    pid = service_pid(root)
    token = json.loads((root / ".alunet" / "service.json").read_text(encoding="utf-8"))["token"]
    assert token not in subprocess.run(["ps", "axww"], capture_output=True, text=True).stdout

    (tunnel,) = tunnels(agent.process.pid)
    tunnel.kill()
    assert answers_again(agent)
    assert service_pid(root) == pid

    sshd.stop()
    assert agent.answer(agent.send("projects"))["error"]["code"] in ("unreachable", "port")
    agent.event(event="connection", state="offline")
    sshd.start()
    assert answers_again(agent)
    assert service_pid(root) == pid

    os.kill(pid, 9)
    assert answers_again(agent)
    assert service_pid(root) != pid

    (tunnel,) = tunnels(agent.process.pid)
    agent.kill()
    tunnel.wait(10)  # raises where it still runs
    assert psutil.pid_exists(service_pid(root))

    again = start_agent()
    connect(again, sshd, root)
    assert again.ask("projects") == [made]


def failed_step(sshd: Sshd, access: Access, address: str = ""):
    *passed, last = diagnose(parse(address or sshd.address("/nowhere")), access)
    assert all(step.ok for step in passed)
    assert not last.ok
    assert last.text and last.hint
    return last


def test_an_unknown_host_key_is_refused_and_stays_unknown(sshd):
    (sshd.folder / "known_hosts").write_text("", encoding="ascii")
    step = failed_step(sshd, sshd.access())
    assert step.name == "host_key"
    assert "compare the fingerprint" in step.hint
    assert (sshd.folder / "known_hosts").read_text(encoding="ascii") == ""


def test_a_changed_host_key_is_refused_as_what_it_may_be(sshd):
    sshd.trust("other_host")
    step = failed_step(sshd, sshd.access())
    assert step.name == "host_key"
    assert "another host key" in step.text
    assert "stands between" in step.hint


def test_a_key_that_is_not_let_in_is_told(sshd):
    step = failed_step(sshd, sshd.access("stranger"))
    assert step.name == "ssh_key"
    assert "ssh-copy-id" in step.hint


def test_a_closed_port_and_a_wrong_name_are_told(sshd):
    port = free_port()
    assert failed_step(sshd, sshd.access(), f"ssh://127.0.0.1:{port}").name == "port"
    assert failed_step(sshd, sshd.access(), "ssh://no-such-host.invalid").name == "name"


def test_a_host_without_the_engine_is_told_how_to_get_it(sshd, tmp_path):
    sshd.stop()
    sshd.environment = {"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    sshd.start()
    step = failed_step(sshd, sshd.access(python="/usr/bin/python3"))
    assert step.name == "no_engine"
    assert f"--bootstrap ssh://{getpass.getuser()}@127.0.0.1" in step.hint
    assert failed_step(sshd, sshd.access(python="/nowhere/python")).name == "no_python"


def test_a_host_that_forbids_forwarding_is_told(sshd, root):
    sshd.stop()
    sshd.start("AllowTcpForwarding no")
    step = failed_step(sshd, sshd.access(), sshd.address(root))
    assert step.name == "forwarding"
    assert "AllowTcpForwarding" in step.hint


def test_all_is_well_in_as_many_words(sshd, root):
    steps = diagnose(parse(sshd.address(root)), sshd.access())
    assert [step.name for step in steps] == ["ssh_key", "engine", "token", "version", "machine"]
    assert all(step.ok for step in steps)


@pytest.mark.parametrize(
    ("text", "name", "root"),
    [
        ("ssh://box", "ssh://box", "~/alunet-projects"),
        ("ssh://me@box:2222/data/p/", "ssh://me@box:2222/data/p", "/data/p"),
        ("ssh://me@box/~/p", "ssh://me@box/~/p", "~/p"),
        ("ssh://me@BOX", "ssh://me@box", "~/alunet-projects"),
    ],
)
def test_an_address_is_read_in_one_way(text, name, root):
    target = parse(text)
    assert (target.name, target.root) == (name, root)


@pytest.mark.parametrize(
    "text", ["ssh://-oProxyCommand=x", "ssh://-x@box", "ssh://me:pw@box", "ssh://", "ssh://a b"]
)
def test_what_could_be_taken_for_an_option_or_holds_a_secret_is_no_address(text):
    with pytest.raises(InputError):
        parse(text)


def test_bootstrap_says_that_there_is_no_python(sshd, tmp_path):
    sshd.stop()
    sshd.environment = {"HOME": str(tmp_path / "home")}
    sshd.start()
    with pytest.raises(SshError, match=r"no Python 3\.10 to 3\.13"):
        bootstrap.bootstrap(
            parse(sshd.address()), sshd.access(python="/nowhere/python3"), lambda text: None
        )


@pytest.mark.slow
def test_bootstrap_brings_the_source_and_tells_what_pip_said(sshd, tmp_path):
    """Everything but the packages, which a host without a package index cannot get."""
    sshd.stop()
    home = tmp_path / "home"
    index = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": os.devnull,
    }
    sshd.environment = {"HOME": str(home), "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", **index}
    sshd.start()
    said: list[str] = []
    with pytest.raises(SshError) as caught:
        bootstrap.bootstrap(parse(sshd.address()), sshd.access(), said.append)
    place = Path(HOME.replace("$HOME", str(home)))
    ours = sorted(file.relative_to(PACKAGE) for file in (PACKAGE / "alunet").rglob("*.py"))
    theirs = place / "ALUNetSlicer"
    assert sorted(file.relative_to(theirs) for file in (theirs / "alunet").rglob("*.py")) == ours
    assert any("[1/3]" in line for line in said)
    assert "cannot be installed on 127.0.0.1" in caught.value.message
    assert "torch" in caught.value.message
    assert (place / ".venv" / "install.log").is_file()


def test_bootstrap_is_for_ssh_alone():
    with pytest.raises(InputError, match="not reached by ssh"):
        bootstrap.bootstrap(parse("local"), Access(), lambda text: None)
