"""What happened in a project: settings, rounds and events."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

from alunet.errors import InputError
from alunet.schema import Event
from alunet.storage.database import Database


@dataclass(frozen=True)
class Round:
    """One round of active learning; `record` is None until it is finished."""

    number: int
    strategy: str
    config: dict[str, Any]
    state: str
    record: dict[str, Any] | None


class Journal:
    """The part of a `Project` that remembers; needs `_db`."""

    _db: Database

    def get_meta(self, key: str, default: Any = None) -> Any:
        """A setting stored with `set_meta`, or `default`."""
        text = self._db.value("SELECT value FROM meta WHERE key = ?", (key,))
        return default if text is None else json.loads(str(text))

    def set_meta(self, key: str, value: Any) -> None:
        """Stores a setting; `value` is anything that JSON holds."""
        text = json.dumps(value, ensure_ascii=False)
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, text))

    def start_round(self, number: int, strategy: str, config: dict[str, Any]) -> None:
        """Notes that a round begins; starting it again replaces what was noted.

        Raises:
            InputError: the round is finished already.
        """
        state = self._db.value("SELECT state FROM rounds WHERE number = ?", (number,))
        if state == "finished":
            raise InputError(f"Round {number} is finished already.", f"Start round {number + 1}.")
        self._db.execute(
            "INSERT OR REPLACE INTO rounds (number, strategy, config, state, started) VALUES (?, ?, ?, 'started', ?)",
            (number, strategy, json.dumps(config, ensure_ascii=False), time.time()),
        )

    def finish_round(self, number: int, record: dict[str, Any]) -> None:
        """Notes the result of a started round.

        Raises:
            InputError: the round was not started.
        """
        cursor = self._db.execute(
            "UPDATE rounds SET state = 'finished', record = ?, finished = ? WHERE number = ?",
            (json.dumps(record, ensure_ascii=False), time.time(), number),
        )
        if cursor.rowcount != 1:
            raise InputError(f"Round {number} was not started.", "Start it first.")

    def rounds(self, state: str | None = None) -> list[Round]:
        """The rounds, by number; those that are "started" or "finished", or all."""
        rows = self._db.rows("SELECT number, strategy, config, state, record FROM rounds ORDER BY number")
        return [
            Round(number, strategy, json.loads(config), own, None if record is None else json.loads(record))
            for number, strategy, config, own, record in rows
            if state in (None, own)
        ]

    def add_event(self, kind: str, data: dict[str, Any]) -> int:
        """Stores an event and gives its number; numbers only grow."""
        event = Event(kind, data)
        cursor = self._db.execute(
            "INSERT INTO events (time, kind, data) VALUES (?, ?, ?)",
            (event.time, kind, json.dumps(data, ensure_ascii=False)),
        )
        return int(cursor.lastrowid or 0)

    def events(self, after: int = 0, limit: int = -1) -> list[tuple[int, Event]]:
        """Events with a number above `after`, in order, the first `limit` of them; all without a limit."""
        rows = self._db.rows("SELECT id, kind, data, time FROM events WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [(number, Event(kind, json.loads(data), moment)) for number, kind, data, moment in rows]

    def newest_event(self) -> int:
        """Number of the newest event, 0 where there is none."""
        return int(self._db.rows("SELECT coalesce(max(id), 0) FROM events")[0][0])

    def together(self) -> contextlib.AbstractContextManager[None]:
        """All changes of the block, or none; on disk when it ends."""
        return self._db.transaction()
