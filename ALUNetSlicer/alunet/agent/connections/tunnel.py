"""The end of an ssh tunnel on this computer: a Unix socket that other users cannot reach.

It is in a folder of its own that its owner alone can enter. On Windows, whose Python knows no such
sockets, it is a port of loopback; there the service's proof (`alunet.agent.proven`) alone keeps
another user, who took the port, from token and images.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from alunet.agent.proven import Tunnel

HANG_UP_SECONDS = 0.7
_LONGEST = 80
"""Of a socket's name; systems take 104 and more, and ssh may add to it."""
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


class NearEnd:
    """The place where ssh listens on this computer; it is removed at the end of `with`."""

    def __init__(self) -> None:
        self._folder = "" if sys.platform == "win32" else _folder()
        self._port = 0 if self._folder else free_port()

    @property
    def name(self) -> str:
        """The near end in the form that ``ssh -L`` takes."""
        return self._socket or f"127.0.0.1:{self._port}"

    def tunnel(self, address: str) -> Tunnel:
        """The tunnel to an address on the other computer."""
        return Tunnel(address, self._socket, self._port)

    def passes(self) -> bool | None:
        """Whether it leads somewhere; None where ssh does not listen yet.

        ssh takes a connection before it knows whether the other side does, and hangs up where not.
        """
        try:
            with self._connect() as probe:
                probe.settimeout(HANG_UP_SECONDS)
                return probe.recv(1) != b""
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False
        except OSError:
            return None

    def __enter__(self) -> NearEnd:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _socket(self) -> str:
        return f"{self._folder}/s" if self._folder else ""

    def _connect(self) -> socket.socket:
        if not self._folder:
            return socket.create_connection(("127.0.0.1", self._port), 1)
        probe = socket.socket(socket.AF_UNIX)
        try:
            probe.settimeout(1)
            probe.connect(self._socket)
        except BaseException:
            probe.close()
            raise
        return probe


def free_port() -> int:
    """Return a port of this computer on which no program listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _folder() -> str:
    """Make a folder that its owner alone can enter, with a name that ssh and sockets can take."""
    usual = tempfile.gettempdir()
    short = len(usual) <= _LONGEST - len("/alunet-12345678/s") and _PLAIN.fullmatch(usual)
    return tempfile.mkdtemp(prefix="alunet-", dir=usual if short else Path("/tmp"))
