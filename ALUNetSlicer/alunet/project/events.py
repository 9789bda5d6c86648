"""What happened in a project, numbered, for everyone who looks at it."""

from __future__ import annotations

import json
from typing import Any

from alunet.schema import Event
from alunet.storage.database import Database


class Events:
    """The table of events; their numbers only grow."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, kind: str, data: dict[str, Any]) -> int:
        """Store an event, within the caller's transaction where there is one; return its number."""
        event = Event(kind, data)
        cursor = self._db.execute(
            "INSERT INTO events (time, kind, data) VALUES (?, ?, ?)",
            (event.time, kind, json.dumps(data, ensure_ascii=False)),
        )
        return int(cursor.lastrowid or 0)

    def after(self, number: int = 0, limit: int = -1) -> list[tuple[int, Event]]:
        """Return events with a greater number, in order, the first `limit` of them; all without
        a limit.

        Where some of them were forgotten, the first one is a ``gap`` that says so.
        """
        select = "SELECT id, kind, data, time FROM events WHERE id > ? ORDER BY id LIMIT ?"
        rows = self._db.rows(select, (number, limit))
        found = [(own, Event(kind, json.loads(data), moment)) for own, kind, data, moment in rows]
        if found and found[0][0] > number + 1:
            first, event = found[0]
            found.insert(
                0, (first - 1, Event("gap", {"after": number, "first": first}, event.time))
            )
        return found

    def forget(self, keep: int, most: int) -> int:
        """Forget the oldest events, at most so many at once; return how many.

        Args:
            keep: the newest that stay.
        """
        delete = (
            "DELETE FROM events WHERE id IN (SELECT id FROM events"
            " WHERE id <= (SELECT max(id) FROM events) - ? ORDER BY id LIMIT ?)"
        )
        return self._db.execute(delete, (keep, most)).rowcount

    def newest(self) -> int:
        """Return the number of the newest event, 0 where there is none."""
        return self._db.number("SELECT coalesce(max(id), 0) FROM events")
