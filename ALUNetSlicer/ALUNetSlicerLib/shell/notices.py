"""What a person must know: what went wrong, when, why and what to do, until that is of the past."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.ports.signal import Signal

KEPT = 500
"""So many are kept in the log."""


@dataclass(frozen=True)
class Notice:
    """One message.

    Attributes:
        at: when it came last, in seconds since the epoch.
        why: cause, and what to do.
        count: how often it came.
        past: whether what failed has worked since, or a person has put it away.
    """

    at: float
    why: Failure
    count: int = 1
    past: bool = False

    @property
    def about(self) -> str:
        """What it is about; see `Failure.about`."""
        return self.why.about or self.why.code

    @property
    def clock(self) -> str:
        """The time of day."""
        return time.strftime("%H:%M", time.localtime(self.at))


class Notices:
    """Of one panel, the newest last.

    Args:
        clock: gives seconds since the epoch.

    Attributes:
        changed: emits nothing; another message is the one to be shown, or none.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.changed = Signal()
        self._clock = clock
        self._log: deque[Notice] = deque(maxlen=KEPT)

    @property
    def log(self) -> list[Notice]:
        """All that is kept, the newest last."""
        return list(self._log)

    @property
    def open(self) -> list[Notice]:
        """What is not of the past, the newest last: of each thing that was tried the last word."""
        return [notice for notice in self._log if not notice.past]

    def add(self, why: Failure) -> None:
        """Something went wrong; the same again counts once more."""
        new = Notice(self._clock(), why)
        for known in [known for known in self.open if known.about == new.about]:
            if str(known.why) == str(why):
                new = replace(new, count=known.count + 1)
                self._log.remove(known)
            else:
                self._put_away(known)
        self._log.append(new)
        self.changed.emit()

    def settle(self, about: str) -> None:
        """What was tried has worked: what is said of it is of the past."""
        self._end([notice for notice in self.open if notice.about == about])

    def put_away(self, but: Sequence[str] = ()) -> None:
        """A person has read them all, but those about some things."""
        self._end([notice for notice in self.open if notice.about not in but])

    def _end(self, notices: list[Notice]) -> None:
        for notice in notices:
            self._put_away(notice)
        if notices:
            self.changed.emit()

    def _put_away(self, notice: Notice) -> None:
        self._log[self._log.index(notice)] = replace(notice, past=True)
