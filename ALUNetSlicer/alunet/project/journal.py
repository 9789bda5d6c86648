"""What happened in a project: settings and events."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from alunet.schema import Event
from alunet.storage.database import Database


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
