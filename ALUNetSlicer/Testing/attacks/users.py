"""Another user of the same computer takes ports, reads and locks files, and plants modules.

Of ten tries six point an agent to a port that the other user has; two take the port of a service
that was killed under an agent; one does so behind an ssh tunnel; one tries all files, folders and
sockets of a service and its agents, and puts modules where projects are. Needs root, to be two
users; without it only the first six are played, by one user.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import other_user
import psutil
import SimpleITK as sitk
from agent.sshd import SSHD, Sshd

from alunet.agent.client import Client
from alunet.agent.connections import Access, Link, link_to
from alunet.agent.connections.starting import find_or_start
from alunet.agent.connections.target import parse
from alunet.agent.outbox import Entry
from alunet.agent.session import ViewerSession
from alunet.errors import AlunetError
from alunet.schema import API, ENDED, Announcement, Operations
from attacks import Finding

COUNT = 50
_WAYS = ("closes", "older", "agrees", "guesses", "nonsense", "relay", "relay", "relay")
_PLANTED = ("typer", "numpy", "torch", "requests", "json", "sitecustomize", "alunet")
_SECRET = b"VOXELS-OF-A-PATIENT"
_SHAPE = (4, 24, 20)


@dataclass
class _Tally:
    """What went wrong, with what is needed to play it again."""

    tokens: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    useless: list[str] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)

    def hear(self, heard: bytes, token: str, about: str) -> None:
        """Look for token and voxels in what the other user got."""
        if token.encode() in heard:
            self.tokens.append(about)
        if _SECRET in heard:
            self.images.append(about)

    def played(self, kind: str) -> None:
        """Count a try."""
        self.tries[kind] = self.tries.get(kind, 0) + 1

    def findings(self) -> list[Finding]:
        """Say each as a line."""
        played = ", ".join(f"{number} {kind}" for kind, number in sorted(self.tries.items()))
        lines = {
            f"tokens stolen ({played})": self.tokens,
            "images stolen": self.images,
            "files, folders, sockets and locks reached": self.files,
            "planted modules that ran": self.modules,
            "engines that their own user did not reach any more": self.useless,
        }
        return [
            Finding(what, len(found), 0, detail="; ".join(found[:5]))
            for what, found in lines.items()
        ]


def attack(count: int, seed: int, work: Path) -> list[Finding]:
    """Play the other user; see the module."""
    chance, tally = random.Random(seed), _Tally()
    two_users = other_user.is_possible()
    if not two_users:
        sys.stderr.write("NOT ROOT: one user plays both; files, tunnels and modules are skipped.\n")
    if two_users and SSHD is None:
        sys.stderr.write("NO SSHD: tunnels are skipped; install openssh-server.\n")
    with other_user.open_folder() as folder:
        image = folder / "scan.nrrd"
        with _engine(folder / "real") as real:
            for number in range(count):
                kind = ("port",) * 6 + ("killed", "killed", "tunnel", "files")
                played = kind[number % len(kind)] if two_users else "port"
                about = f"try {number}"
                if played == "port":
                    _port(real, image, chance, tally, about)
                elif played == "killed":
                    _killed(folder / f"root{number}", image, chance, tally, about)
                elif played == "tunnel" and SSHD is not None:
                    _tunnel(folder / f"far{number}", image, chance, tally, about)
                elif played == "files":
                    _files(folder / f"files{number}", tally, about)
    return tally.findings()


@contextlib.contextmanager
def _engine(root: Path) -> Iterator[Announcement]:
    """A real service, started as an agent does."""
    try:
        yield find_or_start(sys.executable, root)
    finally:
        _kill(root)


def _kill(root: Path) -> None:
    """End the service of a root at once, with what it started, as a crash would."""
    for process in psutil.process_iter(["cmdline"]):
        if str(root) in (process.info["cmdline"] or []) and "ssh" not in process.name():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(10)


def _port_of(found: Announcement) -> int:
    return int(found.address.rsplit(":", 1)[1])


def _use(client: Client, image: Path) -> bool:
    """Do what an agent does, with an image that is new to the engine; whether it answered."""
    image.write_bytes(_SECRET * 20_000 + os.urandom(16))
    answers: list[object] = []
    for action in (lambda: client.call(Operations.health), lambda: client.upload(image)):
        with contextlib.suppress(AlunetError, ValueError):  # a stranger's answer
            answers.append(action())
    return len(answers) == 2


def _port(
    real: Announcement, image: Path, chance: random.Random, tally: _Tally, about: str
) -> None:
    """An address that an agent remembers, at which another user listens."""
    way, host = chance.choice(_WAYS), chance.choice(["127.0.0.1", "localhost", "[::1]"])
    inside = "::1" if host == "[::1]" else "127.0.0.1"
    # the service has this port for itself on the other address alone
    port = _port_of(real) if host == "[::1]" and way == "relay" else 0
    with other_user.listening(way, host=inside, port=port, relay=_port_of(real), api=API) as thief:
        client = Client(f"http://{host}:{thief.port}", real.token)
        _use(client, image)
    tally.hear(thief.heard, real.token, f"{about}: {way} at {host}")
    tally.played("ports of another user")


def _killed(root: Path, image: Path, chance: random.Random, tally: _Tally, about: str) -> None:
    """A service that dies under an agent; the other user takes its port before it is back."""
    way = chance.choice(_WAYS)
    try:
        _outlive(root, link_to(parse(f"local:{root}"), Access()), image, way, tally, about)
    finally:
        _kill(root)
    tally.played("ports of killed services")


def _tunnel(root: Path, image: Path, chance: random.Random, tally: _Tally, about: str) -> None:
    """A service behind ssh that dies while the tunnel stands, and a near end that others try."""
    keys = root.with_name(f"{root.name}-keys")
    keys.mkdir()
    sshd, way = Sshd(keys), chance.choice(_WAYS)
    link: Link = link_to(parse(sshd.address(root)), sshd.access())
    try:
        _outlive(root, link, image, way, tally, f"{about}, a tunnel")
    finally:
        link.close()
        _kill(root)
        sshd.stop()
    tally.played("tunnels")


def _outlive(root: Path, link: Link, image: Path, way: str, tally: _Tally, about: str) -> None:
    """Use an engine, let it die and the other user take its port, and use it once more."""
    client = link.connect()
    if not _use(client, image):
        tally.useless.append(about)
    near = [path for end in map(Path, _near_ends()) for path in (end.parent, end)]
    tally.files += [f"{about}: {what}" for what in other_user.tries(near, [])]
    found = json.loads((root / ".alunet" / "service.json").read_text(encoding="utf-8"))
    _kill(root)
    relay = _port_of(find_or_start(sys.executable, root)) if way == "relay" else 0
    port = int(found["address"].rsplit(":", 1)[1])
    with other_user.listening(way, port=port, relay=relay, api=API) as thief:
        _use(client, image)
        if not _use(link.connect(), image):
            tally.useless.append(about)
    tally.hear(thief.heard, found["token"], f"{about}: {way} after a kill")


def _near_ends() -> list[str]:
    """The Unix sockets at which the tunnels of this process begin."""
    found = []
    for child in psutil.Process().children():
        words = child.cmdline()
        if "-L" in words and words[words.index("-L") + 1].startswith("/"):
            found.append(words[words.index("-L") + 1].partition(":")[0])
    return found


def _files(root: Path, tally: _Tally, about: str) -> None:
    """Everything that a service, its job, and an agent with an outbox leave on the disk."""
    home = root.with_name(f"{root.name}-home")
    root.mkdir(mode=0o777)
    root.chmod(0o777)  # as a careless administrator makes it
    session, ran = None, _plant(root)
    try:
        found = find_or_start(sys.executable, root)
        client = Client(found.address, found.token)
        project = _project(client, root)
        old = os.umask(0o077)  # as the agent's process does
        session = ViewerSession(home, lambda event: None)
        content = {"base_version": 0, "author": "ada", "status": "done", "shape": [1, 1, 1]}
        session.outbox.put(Entry("local", project, 1, content, _SECRET))
        session.spool.file("image.nrrd").write_bytes(_SECRET)
        os.umask(old)
        places = [place for top in (root, home) for place in (top, *top.rglob("*"))]
        planted = [place for place in places if place.parent == root and place.suffix == ".py"]
        # what the careless administrator left open is not the service's
        closed = [place for place in places if place not in (root, *planted)]
        reached = other_user.tries(closed, [found.token])
        reached += [what for what in other_user.tries([root], []) if not what.startswith("list ")]
        tally.files += [f"{about}: {what}" for what in reached]
        tally.modules += [f"{about}: {file.name}" for file in ran.iterdir()]
        open_ones = [place for place in closed if place.lstat().st_mode & 0o077]
        tally.files += [f"{about}: open {place}" for place in open_ones]
    finally:
        if session is not None:
            session.close()
        _kill(root)
        shutil.rmtree(root, ignore_errors=True)
    tally.played("walks over all files")


def _plant(root: Path) -> Path:
    """Put modules where projects are; return the folder in which each that runs leaves a file."""
    ran = root.with_name(f"{root.name}-ran")
    ran.mkdir(mode=0o777)
    ran.chmod(0o777)
    for name in _PLANTED:
        code = f"open({str(ran / name)!r}, 'w').close()\nraise ImportError('planted')\n"
        (root / f"{name}.py").write_text(code, encoding="utf-8")
    return ran


def _project(client: Client, root: Path) -> str:
    """A project with a case that a worker has imported; returns its id."""
    file = root.with_name(f"{root.name}.nrrd")
    voxels = np.random.default_rng(0).integers(0, 800, _SHAPE).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    labels = ["organ"]
    made = client.call(Operations.create_project, name="p", labels=labels, channels=["CT"]).id
    image = client.upload(file).id
    job = client.call(Operations.add_case, project=made, name="a", images=[image])
    while job.state not in ENDED:
        time.sleep(0.1)
        job = client.call(Operations.job, project=made, job=job.id)
    assert job.error is None, job.error
    return made
