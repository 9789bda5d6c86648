"""Requests that may come twice, because the first answer was lost: the same key gets the same
answer.
"""

from __future__ import annotations

import json
import time
from typing import Any

from alunet.errors import InputError
from alunet.storage.database import Database


class KeyReused(InputError):
    """The key of a request came with another request before."""

    def __init__(self) -> None:
        super().__init__("The key belongs to another request.", "Use a new key for each request.")


class Requests:
    """The table of answers by key."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def answer(self, key: str, digest: str) -> dict[str, Any] | None:
        """Return what was answered to the request of that key, None where it is new or has no key.

        Raises:
            KeyReused: the key came with another request.
        """
        rows = (
            self._db.rows("SELECT digest, answer FROM answers WHERE key = ?", (key,)) if key else []
        )
        if not rows:
            return None
        if rows[0][0] != digest:
            raise KeyReused
        found: dict[str, Any] = json.loads(rows[0][1])
        return found

    def keep(self, key: str, digest: str, answer: dict[str, Any]) -> None:
        """Keep the answer to a request, within the transaction of what it did."""
        if key:
            row = (key, digest, json.dumps(answer), time.time())
            self._db.execute(
                "INSERT INTO answers (key, digest, answer, time) VALUES (?, ?, ?, ?)", row
            )
