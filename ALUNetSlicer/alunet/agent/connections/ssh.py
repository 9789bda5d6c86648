"""An engine behind the system's `ssh`: keys, agent, known hosts and jump hosts as they are
configured there.

Two connections: one finds or starts the service and ends; the other forwards a Unix socket of this
computer to it (`tunnel`), until this process ends or the line drops. Host-key checks are what ssh's
own configuration says; nothing here weakens them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import alunet
from alunet.agent.client import Client
from alunet.agent.connections.links import Access, Link
from alunet.agent.connections.target import Target
from alunet.agent.connections.tunnel import NearEnd
from alunet.agent.contract import check_engine
from alunet.agent.http_transport import is_loopback
from alunet.agent.proven import Tunnel
from alunet.errors import AlunetError
from alunet.schema import Announcement, from_json

CONNECT_SECONDS = 15
COMMAND_SECONDS = 150.0
HOME = f"$HOME/.local/share/alunet/engine-{alunet.__version__}"
"""Where bootstrap puts the engine, in words of the other computer's shell."""
_FIXED = (
    "BatchMode=yes",
    "RequestTTY=no",
    "RemoteCommand=none",
    f"ConnectTimeout={CONNECT_SECONDS}",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "ExitOnForwardFailure=yes",
    "StreamLocalBindMask=0177",
)


class SshError(AlunetError):
    """ssh did not get through, or the other computer could not do what it was asked.

    Attributes:
        code: what is wrong, for programs: see `REASONS`.
    """

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.code = code


REASONS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "host_key_changed",
        "{host} shows another host key than before.",
        "Either it was set up anew, or somebody stands between. Ask whoever runs it; only when "
        "they "
        "say that the key is "
        "new, type: ssh-keygen -R {host}",
    ),
    (
        "Host key verification failed",
        "host_key_unknown",
        "This computer does not know the host key of {host} yet.",
        "Type once in a terminal: ssh {login} – and compare the fingerprint with the one its "
        "administrator gives you.",
    ),
    (
        "Permission denied",
        "ssh_key",
        "{host} does not let {login} in.",
        "Make a key (ssh-keygen), put it there (ssh-copy-id {login}); one with a passphrase must "
        "be "
        "in the agent "
        "(ssh-add).",
    ),
    (
        "Too many authentication failures",
        "ssh_key",
        "{host} was offered too many keys.",
        "Name the right one in ~/.ssh/config: IdentityFile and IdentitiesOnly yes.",
    ),
    (
        "UNPROTECTED PRIVATE KEY",
        "ssh_key",
        "Others can read your ssh key, so ssh does not use it.",
        "Type: chmod 600 and the key's file.",
    ),
    (
        "Could not resolve hostname",
        "name",
        "There is no computer called {host} for ssh.",
        "Check the spelling; is the VPN on?",
    ),
    ("connect failed", "engine", "The engine of {host} ended at this very moment.", "Try again."),
    (
        "Connection refused",
        "port",
        "{host} is there, but no ssh server answers at that port.",
        "Check the port; ask whether sshd runs there.",
    ),
    (
        "timed out",
        "port",
        "{host} does not answer.",
        "Is it switched on, the VPN on, and the port open in the firewall?",
    ),
    (
        "No route to host",
        "port",
        "There is no way to {host}.",
        "Is it switched on, and the network or VPN up?",
    ),
    ("Network is unreachable", "port", "There is no way to {host}.", "Is the network or VPN up?"),
    (
        "administratively prohibited",
        "forwarding",
        "{host} forbids to forward ports.",
        "Ask its administrator for: AllowTcpForwarding yes.",
    ),
    (
        "No module named 'alunet",
        "no_engine",
        "{host} has no engine of this version.",
        "Put it there: {bootstrap}",
    ),
    (
        "No module named alunet",
        "no_engine",
        "{host} has no engine of this version.",
        "Put it there: {bootstrap}",
    ),
    (
        "not found",
        "no_python",
        "{host} has no Python where it was looked for.",
        "Install Python 3.10 to 3.13 there, then: {bootstrap}",
    ),
)
"""What ssh's words mean: a part of them, a code, the message, what to do."""


def explain(target: Target, words: str) -> SshError:
    """An error in plain words for what ssh said."""
    known = {"host": target.host, "login": target.login, "bootstrap": _bootstrap(target)}
    for part, code, message, hint in REASONS:
        if part in words:
            return SshError(code, message.format(**known), hint.format(**known))
    last = (words.strip().splitlines() or ["no reason given"])[-1]
    return SshError(
        "ssh", f"ssh to {target.host} failed: {last}", f"Try in a terminal: ssh {target.login}"
    )


class Ssh:
    """The system's ssh, for one target."""

    def __init__(self, target: Target, options: Sequence[str] = ()) -> None:
        self.target = target
        self._options = tuple(options)

    def command(self, *extra: str) -> list[str]:
        """The command line up to the destination; raises SshError where there is no ssh."""
        program = shutil.which("ssh")
        if program is None:
            raise SshError(
                "no_ssh", "This computer has no ssh.", "Install OpenSSH's client, then try again."
            )
        options = [word for option in (*_FIXED, *self._options) for word in ("-o", option)]
        port = ["-p", str(self.target.port)] if self.target.port else []
        return [program, "-T", *options, *port, *extra, "--", self.target.login]

    def start(
        self, script: str, arguments: Sequence[str] = (), *extra: str, **pipes: Any
    ) -> subprocess.Popen[bytes]:
        """Run a script of the POSIX shell there; nothing secret may stand in it."""
        remote = " ".join(shlex.quote(word) for word in ("sh", "-c", script, "alunet", *arguments))
        environment = {**os.environ, "LC_ALL": "C"}
        hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows alone has it
        command = [*self.command(*extra), f"exec {remote}"]
        return subprocess.Popen(command, env=environment, creationflags=hidden, **pipes)

    def run(
        self, script: str, arguments: Sequence[str] = (), seconds: float = COMMAND_SECONDS
    ) -> str:
        """Run a script there and return what it prints.

        Raises:
            SshError: no way there, or the script fails, or takes longer than `seconds`.
        """
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.start(script, arguments, "-o", "ClearAllForwardings=yes", **pipes) as process:
            try:
                out, errors = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise explain(self.target, "timed out") from None
        if process.returncode:
            raise explain(
                self.target,
                f"{errors.decode('utf-8', 'replace')}\n{out.decode('utf-8', 'replace')}",
            )
        return out.decode("utf-8", "replace")


def python_there(access: Access) -> str:
    """Shell words that set ``$python`` to the engine's interpreter there."""
    if access.python:
        return f"python={shlex.quote(access.python)}"
    return f'python="{HOME}/.venv/bin/python"; [ -x "$python" ] || python=python3'


class SshLink(Link):
    """Finds or starts the service over ssh, and keeps a tunnel to it.

    The forwarding process reads a pipe of ours: when this process is gone, however it went, ssh
    ends too.
    """

    def __init__(self, target: Target, access: Access) -> None:
        self._target, self._access = target, access
        self._ssh = Ssh(target, access.ssh_options)
        self._held = contextlib.ExitStack()

    def connect(self) -> Client:
        """Find or start the service there, and make the tunnel anew."""
        self.close()
        found = self._find()
        check_engine(found.api, self._target.host)
        parts = urlsplit(found.address)
        host = parts.netloc.rsplit(":", 1)[0] if is_loopback(parts.hostname or "") else "127.0.0.1"
        tunnel = self._forward(f"{host}:{parts.port}")
        base = f"http://{tunnel.address}"
        return Client(base, found.token, place=self._target.host, tunnel=tunnel)

    def close(self) -> None:
        """End the tunnel."""
        self._held.close()

    def _find(self) -> Announcement:
        script = (
            f"{python_there(self._access)}; PYTHONSAFEPATH=1; export PYTHONSAFEPATH; "
            'exec "$python" -m alunet.agent.connections.host "$@"'
        )
        said = self._ssh.run(script, [self._target.root]).strip().splitlines()
        try:
            content = json.loads(said[-1])
            if "message" in content:
                raise SshError(
                    "engine",
                    f"On {self._target.host}: {content['message']}",
                    content.get("hint", ""),
                )
            return from_json(Announcement, content)
        except (LookupError, TypeError, ValueError):
            hint = f"Put this version there: {_bootstrap(self._target)}"
            raise SshError("engine", f"{self._target.host} answers strangely.", hint) from None

    def _forward(self, address: str) -> Tunnel:
        near = self._held.enter_context(NearEnd())
        words = self._held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  closed with the rest
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": words}
        tunnel = self._ssh.start("exec cat", (), "-L", f"{near.name}:{address}", **pipes)
        self._held.callback(_end, tunnel)
        deadline = time.monotonic() + 2 * CONNECT_SECONDS
        while time.monotonic() < deadline and tunnel.poll() is None:
            passed = near.passes()
            if passed:
                return near.tunnel(address)
            if passed is False:
                break
            time.sleep(0.05)
        words.seek(0)
        said = words.read().decode("utf-8", "replace")
        self.close()
        raise explain(self._target, said or "timed out")


def _end(tunnel: subprocess.Popen[bytes]) -> None:
    tunnel.kill()
    tunnel.wait()
    if tunnel.stdin is not None:
        tunnel.stdin.close()


def _bootstrap(target: Target) -> str:
    return f"alunet agent --bootstrap {target.name}"
