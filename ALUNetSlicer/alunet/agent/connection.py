"""Keeps the connection to one engine: makes it, watches it, makes it again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from alunet.agent.client import Client
from alunet.agent.connections.links import Link
from alunet.agent.contract import WrongVersion
from alunet.agent.defects import log_defect
from alunet.agent.http_transport import Unreachable
from alunet.agent.proxies import Stranger
from alunet.errors import AlunetError
from alunet.schema import Health, Operations

WATCH_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0


class Connection:
    """A thread that holds a link up until it is closed.

    Args:
        link: the way to the engine; used by this thread alone.
        report: gets ``online`` with the engine's health, or ``offline`` with the reason, at each
            change.
    """

    def __init__(self, link: Link, report: Callable[[str, Health | AlunetError], None]) -> None:
        self._link, self._report = link, report
        self._client: Client | None = None
        self._look, self._stop = threading.Event(), threading.Event()
        self._tried = threading.Condition()
        self._error: AlunetError | None = None
        self._thread = threading.Thread(target=self._run, name="connection", daemon=True)
        self._thread.start()

    @property
    def client(self) -> Client | None:
        """The client while the engine is within reach."""
        return self._client

    @property
    def error(self) -> AlunetError | None:
        """Why the engine is not within reach; None while it is, or while nobody knows."""
        return self._error

    def require(self, seconds: float = 0.0) -> Client:
        """The client; waits for an attempt that is being made, at most so long.

        Raises:
            AlunetError: why there is none.
        """
        deadline = time.monotonic() + seconds
        with self._tried:
            while self._client is None and self._error is None and time.monotonic() < deadline:
                self._tried.wait(max(0.0, deadline - time.monotonic()))
        if self._client is not None:
            return self._client
        raise self._error or Unreachable("The engine is not connected yet.", "Wait a moment.")

    def doubt(self) -> None:
        """Something failed: look at once whether the engine is still there."""
        self._look.set()

    def close(self) -> None:
        """Let go; what the engine does goes on."""
        self._stop.set()
        self._look.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            if self._client is None:
                self._connect()
            elif not self._alive(self._client):
                pause = FIRST_PAUSE
                continue
            self._look.wait(WATCH_SECONDS if self._client else pause)
            self._look.clear()
            pause = FIRST_PAUSE if self._client else min(pause * 2, LONGEST_PAUSE)
        self._link.close()

    def _connect(self) -> None:
        try:
            client = self._link.connect()
            health = client.call(Operations.health)
        except AlunetError as error:
            self._is_offline(error)
        except Exception as error:  # noqa: BLE001  a defect must not end this thread
            self._failed(error)
        else:
            with self._tried:
                self._client, self._error = client, None
                self._tried.notify_all()
            self._report("online", health)

    def _is_offline(self, error: AlunetError) -> None:
        with self._tried:
            news = str(error) != str(self._error)
            self._client, self._error = None, error
            self._tried.notify_all()
        if news and not self._stop.is_set():
            self._report("offline", error)

    def _alive(self, client: Client) -> bool:
        """Whether the engine still answers; where not, it is offline from now on."""
        try:
            client.call(Operations.health)
        except (Unreachable, Stranger, WrongVersion) as error:
            self._is_offline(error)
            return False
        except AlunetError:
            return True  # it answers, if only to complain; whoever asks next is told
        except Exception as error:  # noqa: BLE001  a defect must not end this thread
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> None:
        """Go offline because of an error that is not an `AlunetError`."""
        if not isinstance(error, OSError):
            log_defect(error)
        self._is_offline(
            Unreachable(f"The engine cannot be reached: {error}.", "Test the connection.")
        )
