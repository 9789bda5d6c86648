"""What happens while work goes on, told in plain data.

An `Event` is one line of JSON. Long work speaks only in events, never in text to parse:

==============  ====================================================================================
kind            data
==============  ====================================================================================
``progress``    ``phase`` (plan, train, score, …), ``done``, ``total``, ``unit``; ``seconds_left``
                where it is known
``epoch``       ``epoch``, ``epochs``, ``loss``, ``dice`` (pseudo Dice, or null), ``seconds_left``
``step``        ``name``, ``state`` ("started", "finished", "reused"), ``seconds``,
                ``peak_memory_mb``
``result``      what the work returns, last line of a child process
``message``     ``text``: a note for a person
``error``       ``message``, ``hint``, ``input`` (true where the input is to blame)
``job``         ``state`` (see `JobState`), ``kind`` (see `JobKind`), ``error`` where it failed
``sample``      ``sample``, ``status``, ``version``: an annotation or a status was stored
``case``        ``case``, ``state`` or ``role``, ``author``: a case was removed or restored, has
                another role, or was erased (then ``case`` is a neutral name, and ``samples``
                those that it had)
``structures``  ``change`` ("added", "renamed", "recolored", "removed"), ``number``, ``text``; the
                project's ``labels`` and ``colors`` from then on
``repaired``    ``file``, ``text``: something was found damaged and put right
``worklist``    ``round``, ``samples``, ``author``: somebody put these samples into the worklist of
                that round
==============  ====================================================================================

Events that a service gives out carry ``job``, the number of the job they belong to, in their data
where there is one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened at `time` (seconds since the epoch)."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def to_json(self) -> str:
        """One line of JSON, without a line break."""
        return json.dumps(
            {"kind": self.kind, "time": self.time, "data": self.data}, ensure_ascii=False
        )

    @classmethod
    def from_json(cls, line: str) -> Event:
        """Inverse of `to_json`; raises ValueError for anything else."""
        try:
            content = json.loads(line)
            return cls(content["kind"], content["data"], content["time"])
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not an event: {line[:80]!r}") from error


Emit = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """The listener that does not listen."""
