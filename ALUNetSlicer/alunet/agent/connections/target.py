"""Where an engine is, as a person writes it.

=============================  =====================================================================
``local``, ``local:/folder``   this computer; the folder of the projects, without:
                               ``alunet-projects`` at home
``https://host:port``          a service that somebody runs; needs its token
``ssh://user@host:port/path``  another computer, reached as `ssh` reaches it; all parts but the host
                               may be left out
=============================  =====================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from alunet.errors import InputError

ROOT = "~/alunet-projects"
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")
_USER = re.compile(r"[A-Za-z0-9_.@+\\-]+")


@dataclass(frozen=True)
class Target:
    """One engine.

    Attributes:
        kind: "local", "http", "https" or "ssh".
        name: the whole, always written in the same way; what waits in the outbox belongs to this
            name.
        root: folder of the projects, of "local" and "ssh"; a leading ``~`` is home there.
    """

    kind: str
    name: str
    host: str = ""
    user: str = ""
    port: int | None = None
    root: str = ""

    @property
    def login(self) -> str:
        """Destination for `ssh`: user and host."""
        return f"{self.user}@{self.host}" if self.user else self.host


def parse(text: str) -> Target:
    """Read a target.

    Raises:
        InputError: it is none, or it carries a password.
    """
    if text == "local" or text.startswith("local:"):
        root = str(Path(text[6:] or ROOT).expanduser().absolute())
        return Target("local", f"local:{root}", root=root)
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise InputError(
            f"{text!r} cannot be read: {error}.", "Write it like ssh://me@gpu-box."
        ) from error
    if (
        parts.scheme not in ("http", "https", "ssh")
        or not parts.hostname
        or not _HOST.fullmatch(parts.hostname)
    ):
        raise InputError(
            f"{text!r} says of no engine where it is.",
            "Write local, ssh://user@host or https://host:port.",
        )
    if parts.password:
        raise InputError(
            "A password has no place in an address.", "Use an ssh key; tokens are given separately."
        )
    if parts.scheme == "ssh":
        return _ssh(parts.hostname, unquote(parts.username or ""), port, unquote(parts.path))
    return _web(parts.scheme, parts.hostname, port)


def _web(scheme: str, host: str, port: int | None) -> Target:
    port = port or (443 if scheme == "https" else 80)
    return Target(scheme, f"{scheme}://{_bracketed(host)}:{port}", host, port=port)


def _ssh(host: str, user: str, port: int | None, path: str) -> Target:
    if host.startswith("-") or (user and (user.startswith("-") or not _USER.fullmatch(user))):
        raise InputError(f"{user or host!r} is no name for ssh.", "Write it like ssh://me@gpu-box.")
    root = path.rstrip("/").removeprefix("/~/") or ROOT
    root = f"~/{root}" if path.startswith("/~/") else root
    name = "ssh://" + (f"{user}@" if user else "") + _bracketed(host) + (f":{port}" if port else "")
    return Target("ssh", name + ("" if root == ROOT else path.rstrip("/")), host, user, port, root)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
