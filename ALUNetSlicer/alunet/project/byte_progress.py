"""How many megabytes of long work are done, and how long the rest takes, as progress events."""

from __future__ import annotations

import time

from alunet.schema import Emit, Event

_REPORT_SECONDS = 0.5
_MEGABYTE = 1e6


class ByteProgress:
    """Counts bytes that are done.

    Args:
        phase: of the events.
        total: bytes in all.
        emit: hears an event now and then, and one at the end.
    """

    def __init__(self, phase: str, total: int, emit: Emit) -> None:
        self._phase, self._total, self._emit = phase, total, emit
        self._done, self._begun, self._last = 0, time.monotonic(), 0.0

    def add(self, count: int) -> None:
        """Count `count` more bytes."""
        self._done += count
        now = time.monotonic()
        if now - self._last < _REPORT_SECONDS and self._done < self._total:
            return
        self._last = now
        left = (now - self._begun) * (self._total - self._done) / max(1, self._done)
        done, total = (round(value / _MEGABYTE, 1) for value in (self._done, self._total))
        data = {"phase": self._phase, "done": done, "total": total, "unit": "MB"}
        self._emit(Event("progress", {**data, "seconds_left": left}))
