"""A real sshd on loopback, with its own keys, configuration and port."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from alunet.agent.connections import Access
from alunet.agent.connections.tunnel import free_port

PACKAGE = Path(__file__).resolve().parents[2]
SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


class Sshd:
    """An ordinary process that lets this very user in with one key."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.environment = folder, free_port(), {"PYTHONPATH": str(PACKAGE)}
        for name in ("host", "other_host", "mine", "stranger"):
            make_key(folder / name)
        shutil.copy(folder / "mine.pub", folder / "authorized")
        self.trust("host")
        self.start()

    def trust(self, name: str) -> None:
        key = (self.folder / f"{name}.pub").read_text(encoding="ascii")
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}", encoding="ascii")

    def start(self, *more: str) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True, mode=0o755)
        variables = " ".join(f'{name}="{value}"' for name, value in self.environment.items())
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder / 'host'}",
            "UsePAM no",
            f"AuthorizedKeysFile {self.folder / 'authorized'}",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "PidFile none",
            "MaxStartups 100",
            f"SetEnv {variables}",
            *more,
        ]
        (self.folder / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "config")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1),
            ):
                return
            assert time.monotonic() < deadline and self.process.poll() is None, (
                self.folder / "log"
            ).read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it with every connection it has."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                if child.name().startswith("sshd"):
                    child.kill()
        self.process.kill()
        self.process.wait()

    def options(self, key: str = "mine") -> list[str]:
        return [
            f"IdentityFile={self.folder / key}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
            "GlobalKnownHostsFile=/dev/null",
        ]

    def address(self, root: Path | str = "") -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{root}"

    def access(self, key: str = "mine", python: str = sys.executable) -> Access:
        return Access(python=python, ssh_options=tuple(self.options(key)))


def make_key(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
