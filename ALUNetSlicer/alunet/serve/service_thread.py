"""A thread of the service that no error ends, and that says when it does not go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

STUCK_SECONDS = 60.0
"""A thread whose step takes longer than this without a word is reported."""
_LONGEST_PAUSE = 60.0

log = logging.getLogger("alunet.serve")


class ServiceThread:
    """Takes a step again and again until it is closed.

    Args:
        name: for people, as in "The supervisor of the jobs".
        step: does what is due; gives how many seconds may pass until the next time. What it raises
            is logged once, and it is tried again after longer and longer pauses.
    """

    def __init__(self, name: str, step: Callable[[], float]) -> None:
        self._name, self._step = name, step
        self._end, self._news = threading.Event(), threading.Event()
        self._failure, self._failures = "", 0
        self._due = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, when all is there that the step needs."""
        self._due = time.monotonic()
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._news.set()

    def close(self) -> None:
        """Take no more steps; waits for the one that is being taken, at most some seconds."""
        self._end.set()
        self._news.set()
        self._thread.join(5)

    @property
    def closing(self) -> bool:
        """Whether a step that takes long should end."""
        return self._end.is_set()

    def goes_on(self) -> None:
        """Say within a step that takes long that it goes on."""
        self._due = time.monotonic()

    def stuck(self) -> list[str]:
        """What people should know, in at most one line."""
        late = time.monotonic() - self._due
        if not self._thread.is_alive() and not self._end.is_set():
            return [f"{self._name} ended: start the service again."]
        if late > STUCK_SECONDS:
            return [f"{self._name} has not looked for {late:.0f} s."]
        return [f"{self._name} fails: {self._failure}."] if self._failure else []

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                pause = self._step()
                self._failure, self._failures = "", 0
            except Exception as error:  # noqa: BLE001  it is logged, and nothing ends the thread
                pause = self._failed(error)
            self._due = time.monotonic() + pause
            self._news.wait(pause)
            self._news.clear()

    def _failed(self, error: Exception) -> float:
        """Log what a step raised, once; give the pause until the next try."""
        words = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        if words != self._failure:
            log.error("%s fails", self._name, exc_info=error)
        self._failure, self._failures = words, self._failures + 1
        return min(_LONGEST_PAUSE, 0.5 * 2.0 ** min(self._failures, 10))
