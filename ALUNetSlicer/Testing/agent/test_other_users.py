"""Other users of the two computers: neither token nor images go to who has taken a port, and
nothing of a service or an agent is theirs to read, hold or replace.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import other_user
import pytest
import requests
from attacks import assert_holds, users

from alunet.agent.client import Client
from alunet.agent.connections import Access
from alunet.agent.connections.starting import find_or_start
from alunet.agent.connections.target import parse
from alunet.agent.connections.tunnel import NearEnd
from alunet.agent.contract import WrongVersion
from alunet.agent.diagnose import diagnose
from alunet.agent.http_transport import Cancel, Unreachable
from alunet.agent.local_commands import LocalCommands
from alunet.agent.proven import Unproven
from alunet.agent.proxies import Stranger
from alunet.agent.transfer import no_progress
from alunet.schema import API, Announcement, Operations
from alunet.schema.processes import module_command
from alunet.schema.proof import prove, spelled

from .conftest import (
    PACKAGE,
    AgentProcess,
    Relay,
    Service,
    end_service_of,
    import_case,
    write_image,
)

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")


@pytest.mark.slow
@posix
def test_another_user_gets_neither_token_nor_images_nor_files(tmp_path):
    """All kinds of tries; as root with a real second user."""
    assert_holds(users.attack(10, 3, tmp_path))


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        ("closes", Unreachable),
        ("nonsense", Stranger),
        ("agrees", Stranger),
        ("guesses", Unproven),
        ("older", WrongVersion),
    ],
)
def test_who_listens_in_the_engines_place_hears_no_token(shared_service, way, kind):
    with other_user.listening(way, api=API) as stranger:
        client = Client(f"http://127.0.0.1:{stranger.port}", shared_service.token)
        with pytest.raises(kind) as caught:
            client.call(Operations.health)
    assert caught.value.hint
    assert b"GET /v1/proof/" in stranger.heard
    assert shared_service.token.encode() not in stranger.heard


def test_an_older_service_is_refused_with_the_computer_to_update(shared_service):
    with other_user.listening("older", api=API) as older:
        address = f"http://127.0.0.1:{older.port}"
        *_, last = diagnose(parse(address), Access(shared_service.token))
    assert last.name == "version" and "it is older" in last.text
    assert last.hint.startswith("Update ALUNet there (127.0.0.1)")


def test_who_passes_requests_on_is_told_from_the_engine(shared_service):
    with other_user.listening("relay", relay=shared_service.port) as between:
        client = Client(f"http://127.0.0.1:{between.port}", shared_service.token)
        with pytest.raises(
            Unproven, match=f"passes requests on to 127.0.0.1:{shared_service.port}"
        ):
            client.call(Operations.health)
    assert shared_service.token.encode() not in between.heard


def test_a_tunnel_of_ones_own_is_trusted_where_that_is_said(shared_service):
    relay = Relay(shared_service.port)
    client = Client(relay.address, shared_service.token, allow_plain=True)
    assert client.call(Operations.health).api == API
    relay.close()


def test_a_wrong_token_is_told_and_not_sent(service, recorder):
    client = Client(recorder.address, "a-wrong-token-of-mine", allow_plain=True)
    with pytest.raises(Unproven, match="does not know the token"):
        client.call(Operations.health)
    assert b"a-wrong-token" not in recorder.sent


def test_every_connection_begins_with_the_proof_and_has_one(service, recorder):
    client = Client(recorder.address, service.token, allow_plain=True)
    for _ in range(5):
        client.call(Operations.health)
        client.call(Operations.projects)
    assert recorder.sent.startswith(b"GET /v1/proof/")
    assert recorder.sent.count(b"GET /v1/proof/") == recorder.taken
    assert recorder.sent.index(service.token.encode()) > recorder.sent.index(b"\r\n\r\n")


def test_the_proof_is_of_the_number_the_address_and_the_token():
    number = "0" * 64
    said = prove("token", number, "::ffff:127.0.0.1", 80)
    assert said is not None and said.address == "127.0.0.1:80"
    others = [prove("other", number, "127.0.0.1", 80), prove("token", "1" * 64, "127.0.0.1", 80)]
    others += [prove("token", number, "127.0.0.1", 81), prove("token", number, "::1", 80)]
    assert said.proof not in [other and other.proof for other in others]
    assert prove("token", "no number", "127.0.0.1", 80) is None
    assert spelled("0:0:0:0:0:0:0:1%lo", 80) == "[::1]:80"


def test_the_service_proves_itself_to_everybody_and_says_no_more(shared_service):
    bad = requests.get(f"{shared_service.address}/v1/proof/abc", timeout=20)
    assert bad.status_code == 400 and "hex digits" in bad.json()["hint"]
    good = requests.get(f"{shared_service.address}/v1/proof/{'a' * 64}", timeout=20).json()
    assert set(good) == {"address", "proof"} and shared_service.token not in str(good)
    assert requests.get(f"{shared_service.address}/v1/health", timeout=20).status_code == 401


@posix
def test_the_near_end_of_a_tunnel_is_a_socket_in_a_closed_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 30)))
    with NearEnd() as near:
        folder = Path(near.name).parent
        assert folder.stat().st_mode & 0o077 == 0
        assert len(near.name) < 100
        assert near.passes() is None
    assert not folder.exists()


@posix
def test_all_files_are_their_owners_alone(tmp_path):
    root, home = tmp_path / "root", tmp_path / "home"
    old = os.umask(0o022)
    try:
        found = find_or_start(sys.executable, root)
        agent = AgentProcess(home)
        agent.ask("connect", to=f"local:{root}")
        project = agent.ask("create_project", name="p", labels=["a"], channels=["CT"])["id"]
        write_image(tmp_path / "scan.nrrd")
        agent.ask("add_case", project=project, name="a", images=[str(tmp_path / "scan.nrrd")])
        paths = [path for top in (root, home) for path in (top, *top.rglob("*"))]
        assert len(paths) > 15
        assert [path for path in paths if path.lstat().st_mode & 0o077] == []
        commands = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True)
        assert found.token not in commands.stdout
        agent.close()
    finally:
        os.umask(old)
        end_service_of(root)


@posix
def test_an_agent_closes_folders_that_were_open(start_agent, tmp_path):
    home = tmp_path / "home"
    for folder in (home, home / "outbox", home / "spool"):
        folder.mkdir()
        folder.chmod(0o755)
    start_agent().ask("hello")
    for folder in (home, home / "outbox", home / "spool"):
        assert folder.stat().st_mode & 0o777 == 0o700


def planted(folder: Path) -> Path:
    """Put modules into a folder that say when they run; returns where they say it."""
    ran = folder / "ran"
    ran.mkdir(parents=True)
    for name in ("typer", "numpy", "requests", "json", "typing", "runpy", "alunet"):
        code = f"open({str(ran / name)!r}, 'w').close()\nraise ImportError('planted')\n"
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return ran


def test_no_module_in_the_projects_folder_runs(tmp_path):
    """The engine, and a job of it."""
    root = tmp_path / "root"
    ran = planted(root)
    try:
        found = find_or_start(sys.executable, root)
        client = Client(found.address, found.token)
        project = client.call(Operations.create_project, name="p", labels=["a"], channels=["CT"]).id
        write_image(tmp_path / "scan.nrrd")
        import_case(client, "a", client.upload(tmp_path / "scan.nrrd").id, project)
    finally:
        end_service_of(root)
    assert list(ran.iterdir()) == []


def test_no_module_in_the_current_folder_runs(tmp_path, monkeypatch):
    """Of all that starts a Python: a service from a terminal and its jobs, the agent's commands,
    and a Python of another version.
    """
    here = tmp_path / "here"
    ran = planted(here)
    monkeypatch.chdir(here)
    (here / "alunet.py").unlink()  # what a person names is looked for here first
    path = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    for module in ("alunet", "alunet.agent"):
        command = [sys.executable, "-m", module, "--version"]
        assert subprocess.run(command, env=path, check=True, capture_output=True).stdout
    (here / "alunet.py").write_text("raise ImportError('planted')\n", encoding="utf-8")
    program = Path(sys.executable)
    of_unknown_version = f"{program.parent}{os.sep}.{os.sep}{program.name}"
    for python in (sys.executable, of_unknown_version):
        command = module_command(python, "alunet", "--version")
        assert subprocess.run(command, env=path, check=True, capture_output=True).stdout
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.nrrd")
    listing = LocalCommands().read_folder(tmp_path / "images", 1, "", no_progress, Cancel())
    assert [case.name for case in listing.cases] == ["a"]
    service = Service(tmp_path / "root")
    service.kill()
    assert list(ran.iterdir()) == []


def wait_until_free(port: int) -> None:
    """Wait until a process that was killed is gone from its port."""
    for _ in range(200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                time.sleep(0.05)
            else:
                return


def test_a_service_that_was_killed_is_never_found_by_its_note(tmp_path):
    root = tmp_path / "root"
    try:
        first = find_or_start(sys.executable, root)
        assert find_or_start(sys.executable, root) == first
        os.kill(first.pid, 9)
        port = int(first.address.rsplit(":", 1)[1])
        wait_until_free(port)
        with other_user.listening("agrees", port=port) as taken:
            found = find_or_start(sys.executable, root)
            assert found.address != first.address and found.pid != first.pid
        assert taken.heard == b""
        note = json.loads((root / ".alunet" / "service.json").read_text(encoding="utf-8"))
        assert Announcement(**note) == found
    finally:
        end_service_of(root)
