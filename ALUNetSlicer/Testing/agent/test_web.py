"""Engines by address: what the connection test says, and files that survive a broken line."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from alunet.agent.client import Client
from alunet.agent.connections import Access
from alunet.agent.connections.target import parse
from alunet.agent.connections.tunnel import free_port
from alunet.agent.contract import WrongVersion, check_engine
from alunet.agent.diagnose import diagnose
from alunet.agent.http_transport import Cancel, HttpTransport, ServiceError, Unreachable
from alunet.agent.proxies import Stranger
from alunet.agent.transfer import Damaged
from alunet.errors import Cancelled, InputError
from alunet.schema import API, Operations

from .conftest import PROJECT, Relay, Service, import_case, write_image

PHASES = ("checksum", "upload", "check", "import")
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl to make certificates"
)


def certificate(folder: Path, name: str, alternative: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        f"/CN={name}",
    ]
    command += ["-addext", f"subjectAltName={alternative}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with TLS for 127.0.0.1; its certificate lies beside its root."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = certificate(folder, "cert", "IP:127.0.0.1")
    made = Service(folder / "root", "--tls-cert", str(cert), "--tls-key", str(key))
    yield made
    made.kill()


def last_step(address: str, access: Access):
    steps = diagnose(parse(address), access)
    assert all(step.ok for step in steps[:-1])
    assert not steps[-1].ok
    assert steps[-1].hint
    return steps[-1]


@needs_openssl
def test_tls_is_trusted_where_the_authority_is_named_and_nowhere_else(secure):
    ca = str(secure.root.parent / "cert.pem")
    steps = diagnose(parse(secure.address), Access(secure.token, ca))
    assert [step.name for step in steps] == ["name", "port", "tls", "token", "version", "machine"]
    assert all(step.ok for step in steps)
    assert Client(secure.address, secure.token, ca).call(Operations.health).api == API
    step = last_step(secure.address, Access(secure.token))
    assert step.name == "tls"
    assert "vouches" in step.text
    with pytest.raises(Unreachable, match="certificate"):
        Client(secure.address, secure.token).call(Operations.health)


@needs_openssl
def test_a_certificate_for_another_name_is_told(secure):
    """The same service by a name that its certificate does not carry."""
    ca = str(secure.root.parent / "cert.pem")
    step = last_step(f"https://localhost:{secure.port}", Access(secure.token, ca))
    assert step.name == "tls"
    assert "not for localhost" in step.text


@needs_openssl
def test_an_authority_that_is_no_file_is_told(secure):
    assert last_step(secure.address, Access(secure.token, "/nowhere.pem")).name == "tls"
    with pytest.raises(InputError, match="no file /nowhere.pem"):
        Client(secure.address, secure.token, "/nowhere.pem")


def test_a_wrong_token_a_closed_port_and_a_wrong_name_are_told(shared_service):
    assert last_step(shared_service.address, Access("wrong")).name == "token"
    assert last_step(shared_service.address, Access()).name == "token"
    assert last_step(f"http://127.0.0.1:{free_port()}", Access("t")).name == "port"
    assert last_step("http://no-such-host.invalid", Access("t")).name == "name"
    assert last_step(shared_service.address.replace("http:", "https:"), Access("t")).name == "tls"


def test_what_is_no_alunet_service_is_told_and_never_trusted():
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        step = last_step(address, Access("t"))
        assert step.name == "service"
        assert "not as an ALUNet service" in step.text
        with pytest.raises(Stranger):
            Client(address, "t").call(Operations.health)
        server.shutdown()


def test_the_token_goes_in_clear_text_to_no_other_computer():
    with pytest.raises(InputError, match="not encrypted"):
        HttpTransport("http://gpu.example", "secret")
    assert (
        HttpTransport("http://gpu.example", "secret", allow_plain=True).base == "http://gpu.example"
    )
    assert "secret" not in repr(Access("secret"))


def test_a_netrc_does_not_replace_the_token(shared_service, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login x password y\n", encoding="ascii")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert shared_service.client().call(Operations.health).api == API


@pytest.mark.parametrize(
    ("version", "where"),
    [(API - 1, "there (gpu-box)"), (API + 1, "on this computer"), (None, "on this computer")],
)
def test_another_version_of_the_contract_is_refused_with_what_to_update(version, where):
    with pytest.raises(WrongVersion) as caught:
        check_engine(version, "gpu-box")
    assert caught.value.hint.startswith("Update ALUNet " + where)


def image_of(case: str) -> dict[str, Any]:
    return {"project": PROJECT, "case": case, "channel": 0}


def test_an_upload_goes_on_where_the_line_broke(working, relay: Relay, tmp_path):
    file = tmp_path / "scan.nrrd"
    file.write_bytes(os.urandom(24 * 2**20))
    cuts = iter((4 * 2**20, 12 * 2**20))
    following = next(cuts)
    seen: list[int] = []

    def progress(phase: str, done: int, total: int) -> None:
        nonlocal following
        if phase == "upload":
            seen.append(done)
            if done >= following:
                following = next(cuts, 2 * total)
                relay.cut()
                relay.mend()

    client = Client(relay.address, working.token, allow_plain=True)
    sent = client.upload(file, progress)
    assert sent.offset == sent.size == file.stat().st_size
    assert sent.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert seen == sorted(seen)
    again: list[tuple[str, int]] = []
    assert client.upload(file, lambda phase, done, total: again.append((phase, done))).id == sent.id
    assert [done for phase, done in again if phase == "upload"] == [sent.size]


def test_a_cancelled_upload_goes_on_with_the_next_attempt(working, tmp_path):
    file = tmp_path / "scan.nrrd"
    file.write_bytes(os.urandom(12 * 2**20))
    cancel = Cancel()
    client = working.client()
    with pytest.raises(Cancelled):
        client.upload(
            file,
            lambda phase, done, total: phase == "upload" and done and cancel.event.set(),
            cancel,
        )
    starts: list[int] = []
    client.upload(file, lambda phase, done, total: phase == "upload" and starts.append(done))
    assert starts[0] > 0


def test_a_download_goes_on_where_the_line_broke(working, relay: Relay, tmp_path):
    write_image(tmp_path / "large.nrrd", (40, 512, 300))
    direct = working.client()
    image = direct.upload(tmp_path / "large.nrrd").id
    import_case(direct, "large", image)
    whole = direct.fetch(
        Operations.case_image, tmp_path / "whole.nrrd", **image_of("large")
    ).read_bytes()
    client = Client(relay.address, working.token, allow_plain=True)
    cuts, seen = [True], []

    def progress(phase: str, done: int, total: int) -> None:
        seen.append(done)
        if cuts and done < total:
            cuts.clear()
            relay.cut()
            relay.mend()

    fetched = client.fetch(
        Operations.case_image, tmp_path / "fetched.nrrd", progress, **image_of("large")
    )
    assert not cuts
    assert seen == sorted(seen)  # it did not start over
    assert fetched.read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == [
        "fetched.nrrd",
        "large.nrrd",
        "whole.nrrd",
    ]


def test_a_download_that_is_damaged_or_cannot_be_written_leaves_nothing(
    working, tmp_path, monkeypatch
):
    client = working.client()
    with pytest.raises(InputError, match="cannot be written"):
        client.fetch(
            Operations.case_image, tmp_path / "no" / "such" / "folder.nrrd", **image_of("a")
        )
    with pytest.raises(ServiceError):
        client.fetch(
            Operations.case_proposal, tmp_path / "proposal.nrrd", project=PROJECT, case="a"
        )
    monkeypatch.setattr("alunet.agent.transfer.hashlib.sha256", hashlib.sha1)
    with pytest.raises(Damaged):
        client.fetch(Operations.case_image, tmp_path / "image.nrrd", **image_of("a"))
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == []


@pytest.mark.slow
def test_a_case_of_512_x_512_x_300_goes_up_and_comes_back_in_less_than_200_mib(
    agent, service, tmp_path
):
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 512 512 300\nspacings: 0.8 0.8 "
        "1\nendian: little\n"
    )
    file = tmp_path / "big.nrrd"
    with file.open("wb") as stream:
        stream.write((header + "encoding: raw\n\n").encode("ascii"))
        for _ in range(300):
            stream.write(os.urandom(512 * 512 * 2))
    agent.connect(service)
    made = agent.ask("create_project", name="Big", labels=["a"], channels=["CT"])
    number = agent.send("add_case", project=made["id"], name="big", images=[str(file)])
    assert agent.answer(number, 600)["result"]["shape"] == [300, 512, 512]
    phases = {event["phase"] for event in agent.events if event["event"] == "progress"}
    assert {"checksum", "upload", "check"} <= phases <= {*PHASES, "wait"}
    back = agent.answer(agent.send("fetch", project=made["id"], case="big", what="images/0"), 600)[
        "result"
    ]["file"]
    last = sitk.GetArrayFromImage(sitk.ReadImage(back))[-1]
    assert last.tobytes() == file.read_bytes()[-last.nbytes :]
    status = Path(f"/proc/{agent.process.pid}/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 200 * 1024
