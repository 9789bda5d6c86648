"""Ways to an engine. A link gives a client as often as it is asked, and repairs itself meanwhile
where it can.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alunet.agent.client import Client
from alunet.agent.connections.starting import find_or_start
from alunet.agent.connections.target import Target
from alunet.agent.contract import check_engine
from alunet.errors import InputError


@dataclass(frozen=True)
class Access:
    """What it takes to get in, beside the address. It is never logged; `repr` leaves the token out.

    Attributes:
        token: of an http(s) service.
        ca: file with the certificate authority to trust.
        allow_plain: send the token in clear text to another computer; on this one, trust a tunnel
            that the person has made.
        python: interpreter of the engine, of "local" and "ssh"; empty: this one, or the one
            bootstrap made.
        environment: variables for a local engine; None: this process's own.
        direct: ask no proxy on the way to an http(s) service.
        ssh_options: further ``-o`` options for `ssh`, for instance ("IdentityFile=…",).
    """

    token: str = field(default="", repr=False)
    ca: str | None = None
    allow_plain: bool = False
    python: str = ""
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    ssh_options: tuple[str, ...] = ()
    direct: bool = False


class Link(ABC):
    """A way to one engine."""

    @abstractmethod
    def connect(self) -> Client:
        """A client for now; starts what must be started. May take a minute; raises AlunetError."""

    def close(self) -> None:  # noqa: B027  most links hold nothing
        """End what this link started on this computer; the engine itself goes on."""


class LocalLink(Link):
    """An engine on this computer, in an environment of its own.

    Args:
        python: its interpreter.
    """

    def __init__(self, target: Target, access: Access, python: str) -> None:
        self._target, self._access, self._python = target, access, python

    def connect(self) -> Client:
        """Find the service, or start it."""
        found = find_or_start(self._python, Path(self._target.root), self._access.environment)
        place = f"this computer, {self._python}"
        check_engine(found.api, place)
        return Client(found.address, found.token, self._access.ca, place=place)


class WebLink(Link):
    """A service that somebody else runs."""

    def __init__(self, target: Target, access: Access) -> None:
        if not access.token:
            raise InputError(
                f"{target.name} needs a token.", "Ask whoever runs the service for it."
            )
        self._target, self._access = target, access

    def connect(self) -> Client:
        """There is nothing to start."""
        access = self._access
        return Client(
            self._target.name,
            access.token,
            access.ca,
            access.allow_plain,
            direct=access.direct,
        )
