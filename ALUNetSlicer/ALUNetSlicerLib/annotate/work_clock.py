"""How long somebody works on a slice: time without mouse and keys is not counted."""

from __future__ import annotations

from ALUNetSlicerLib.ports.protocols import Timer

IDLE_SECONDS = 60.0
"""So long after mouse or keys were used time is counted."""


class WorkClock:
    """Of the slice on screen.

    Args:
        timer: of the main thread.
    """

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._counted, self._used = 0.0, timer.now()

    def begin(self, spent: float) -> None:
        """Another slice is on screen.

        Args:
            spent: seconds that were spent on it before.
        """
        self._counted, self._used = spent, self._timer.now()

    def touch(self) -> None:
        """Mouse or keys are used."""
        self._counted, self._used = self.seconds, self._timer.now()

    @property
    def seconds(self) -> float:
        """Time spent on the slice so far."""
        return self._counted + min(self._timer.now() - self._used, IDLE_SECONDS)
