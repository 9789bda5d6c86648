"""Threads that a slow one cannot hold up: each kind of work has its own few."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from alunet.agent.defects import log_defect

SIZES = {"local": 1, "quick": 6, "transfer": 4, "case": 4, "link": 2}
"""Threads of each lane. `local` is one, so that what a person did enters the outbox in that
order.
"""


class ThreadPools:
    """Runs work in the lane it belongs to. The threads do not keep the process from ending."""

    def __init__(self) -> None:
        self._queues: dict[str, queue.SimpleQueue[Callable[[], None]]] = {
            name: queue.SimpleQueue() for name in SIZES
        }
        for name, size in SIZES.items():
            for _ in range(size):
                threading.Thread(
                    target=self._run, args=(self._queues[name],), name=name, daemon=True
                ).start()

    def add(self, lane: str, work: Callable[[], None]) -> None:
        """Let a lane do this; `work` handles its own errors."""
        self._queues[lane].put(work)

    def drain(self, lane: str, seconds: float) -> None:
        """Wait until a lane of one thread has done what it was given, at most so long."""
        done = threading.Event()
        self.add(lane, done.set)
        done.wait(seconds)

    @staticmethod
    def _run(works: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            work = works.get()
            try:
                work()
            except BaseException as error:  # noqa: BLE001  nothing ends a lane: others wait in it
                log_defect(error)
            del work  # and what it holds, while the lane waits for more


class Throttle:
    """Lets through at most one in `seconds`, and always the last."""

    def __init__(self, seconds: float = 0.2) -> None:
        self._seconds, self._last = seconds, 0.0

    def lets(self, last: bool) -> bool:
        """Whether this one goes through."""
        now = time.monotonic()
        if not last and now - self._last < self._seconds:
            return False
        self._last = now
        return True
