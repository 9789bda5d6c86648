"""The outbox: what a person did and the engine has not acknowledged, on this computer's own disk.

An entry is an annotation of one sample, or a change of its status. `put` returns when the entry is
on disk; from then on it is sent in order until the engine gives a definite answer, whatever happens
to this process. The ``Idempotency-Key`` of an entry never changes, so that the engine stores it
once however often it is sent.

States of an entry:

============  ======================================================================================
``waiting``   not acknowledged yet
``sent``      acknowledged, on the engine's disk; its voxels are forgotten here
``conflict``  somebody else was faster; the engine keeps both versions, this one in the history
``refused``   the engine cannot take it (the reason is kept); it stays here until a person says
              otherwise
============  ======================================================================================
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alunet.errors import AlunetError, InputError

ITEM_SIZES = {"uint8": 1, "uint16": 2}
KEEP_SETTLED = 10_000
_TABLE = (
    "CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT "
    "UNIQUE NOT NULL, "
    "engine TEXT NOT NULL, project TEXT NOT NULL, sample INTEGER NOT NULL, content TEXT NOT NULL, "
    "body BLOB, "
    "follows TEXT, state TEXT NOT NULL, answer TEXT NOT NULL, time REAL NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_state ON entries (state, engine, number)",
    "CREATE INDEX IF NOT EXISTS by_sample ON entries (sample, engine, project)",
)
_COLUMNS = "number, key, engine, project, sample, content, follows, state, answer, time"


class OutboxError(AlunetError):
    """The outbox cannot be read or written; nothing was acknowledged."""

    code = "outbox"


@dataclass(frozen=True)
class Entry:
    """One annotation or change of status.

    Attributes:
        engine: name of the engine it belongs to, see `reach.Target.name`.
        content: author, seconds, status and, of an annotation, base_version, shape (k, j, i) and
            dtype.
        body: voxels in (k, j, i) order, little-endian, gzip; None for a change of status, and where
            not read.
        follows: key of an entry for the same sample that was still waiting; its version will be the
            base of this.
        answer: what the engine said last.
    """

    engine: str
    project: str
    sample: int
    content: dict[str, Any]
    body: bytes | None = None
    key: str = ""
    number: int = 0
    follows: str | None = None
    state: str = "waiting"
    answer: dict[str, Any] | None = None
    time: float = 0.0

    @property
    def is_annotation(self) -> bool:
        """Whether it carries voxels, as opposed to a change of status alone."""
        return "shape" in self.content


def pack(voxels: bytes, shape: Iterable[int], dtype: str) -> bytes:
    """Compress voxels after checking that there are as many as the shape says.

    Raises:
        InputError: unknown dtype, or shape and bytes do not fit.
    """
    shape = tuple(shape)
    if dtype not in ITEM_SIZES:
        raise InputError(f"Voxels of type {dtype!r} cannot be sent.", "Use uint8 or uint16.")
    if len(shape) != 3 or any(not isinstance(n, int) or n < 1 for n in shape):
        raise InputError(
            f"{list(shape)} is no shape of a sample.", "Give three positive numbers: k, j, i."
        )
    expected = shape[0] * shape[1] * shape[2] * ITEM_SIZES[dtype]
    if len(voxels) != expected:
        raise InputError(
            f"{len(voxels)} bytes are not {shape[0]} x {shape[1]} x {shape[2]} voxels of {dtype}, "
            f"{expected} bytes.",
            "Write the voxels without header, in (k, j, i) order.",
        )
    return gzip.compress(voxels, compresslevel=3, mtime=0)


class Outbox:
    """A folder with the entries of one person on this computer; several processes may share it.

    Args:
        folder: made where missing.

    Raises:
        OutboxError: the folder or its database cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = sqlite3.connect(
                folder / "outbox.db", timeout=30, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA synchronous = EXTRA")
        except (OSError, sqlite3.Error) as error:
            raise _unusable(folder, error) from error
        with self._transaction() as database:
            for statement in _TABLE:
                database.execute(statement)

    def put(self, entry: Entry) -> Entry:
        """Store an entry, on disk when this returns.

        An entry whose key is known already is not stored again: the known one is returned, whatever
        its state. What is based on an own annotation that is still on its way, or was just
        acknowledged, gets its version as base: nobody gets into conflict with themselves for
        painting faster than the line.
        """
        key = entry.key or str(uuid.uuid4())
        with self._transaction() as database:
            known = self._select(database, "key = ?", (key,))
            if known:
                return known[0]
            content, follows = self._based(database, entry)
            now = time.time()
            number = database.execute(
                "INSERT INTO entries"
                " (key, engine, project, sample, content, body, follows, state, answer, time)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', 'null', ?)",
                (
                    key,
                    entry.engine,
                    entry.project,
                    entry.sample,
                    _dump(content),
                    entry.body,
                    follows,
                    now,
                ),
            ).lastrowid
        return replace(
            entry, content=content, key=key, number=number or 0, follows=follows, time=now
        )

    def next_waiting(self, engine: str, without: Collection[str] = ()) -> Entry | None:
        """The oldest entry of an engine that waits, with its voxels.

        Args:
            without: projects of which none is wanted.
        """
        marks = ", ".join("?" * len(without))
        with self._transaction() as database:
            found = self._select(
                database,
                f"state = 'waiting' AND engine = ? AND project NOT IN ({marks})"
                " ORDER BY number LIMIT 1",
                (engine, *without),
            )
            if not found:
                return None
            body = database.execute(
                "SELECT body FROM entries WHERE key = ?", (found[0].key,)
            ).fetchone()[0]
        return replace(found[0], body=body)

    def settle(self, key: str, state: str, answer: dict[str, Any]) -> None:
        """Note the engine's definite answer.

        What was acknowledged loses its voxels here, and entries made on top of it get its version
        as their base.
        """
        with self._transaction() as database:
            database.execute(
                "UPDATE entries SET state = ?, answer = ?,"
                " body = CASE WHEN ? = 'refused' THEN body END WHERE key = ?",
                (state, _dump(answer), state, key),
            )
            if state == "sent" and "version" in answer:
                for child in self._select(database, "follows = ? AND state = 'waiting'", (key,)):
                    content = child.content | {"base_version": answer["version"]}
                    database.execute(
                        "UPDATE entries SET content = ? WHERE key = ?", (_dump(content), child.key)
                    )
            database.execute(
                "DELETE FROM entries WHERE state IN ('sent', 'conflict') AND number <= "
                "(SELECT max(number) FROM entries) - ?",
                (KEEP_SETTLED,),
            )

    def entries(self, engine: str, states: Iterable[str] = ("waiting", "refused")) -> list[Entry]:
        """Entries of an engine in the order they were made, without voxels."""
        wanted = tuple(states)
        marks = ", ".join("?" * len(wanted))
        with self._transaction() as database:
            return self._select(
                database, f"engine = ? AND state IN ({marks}) ORDER BY number", (engine, *wanted)
            )

    def get(self, key: str) -> Entry | None:
        """An entry without its voxels, or None."""
        with self._transaction() as database:
            found = self._select(database, "key = ?", (key,))
        return found[0] if found else None

    def voxels(self, key: str) -> bytes | None:
        """Voxels of an entry as they were handed in; None where it has none, or none any more."""
        with self._transaction() as database:
            row = database.execute("SELECT body FROM entries WHERE key = ?", (key,)).fetchone()
        return None if row is None or row[0] is None else gzip.decompress(row[0])

    def retry(self, key: str) -> None:
        """Let a refused entry wait again, at its old place."""
        with self._transaction() as database:
            database.execute(
                "UPDATE entries SET state = 'waiting' WHERE key = ? AND state = 'refused'", (key,)
            )

    def discard(self, key: str) -> None:
        """Forget a refused entry for good, because a person said so; entries in any other state
        stay.
        """
        with self._transaction() as database:
            database.execute("DELETE FROM entries WHERE key = ? AND state = 'refused'", (key,))

    def close(self) -> None:
        """Close the database; what was put is on disk already."""
        with self._lock:
            self._database.close()

    def _based(
        self, database: sqlite3.Connection, entry: Entry
    ) -> tuple[dict[str, Any], str | None]:
        """Content with the right base, and the key of the own entry that is still on its way."""
        if not entry.is_annotation:
            return entry.content, None
        own = [
            other
            for other in self._select(
                database,
                "engine = ? AND project = ? AND sample = ?"
                " AND state IN ('waiting', 'sent') ORDER BY number",
                (entry.engine, entry.project, entry.sample),
            )
            if other.is_annotation and other.content["author"] == entry.content["author"]
        ]
        base = entry.content["base_version"]
        for other in own:
            if other.state == "sent" and other.content["base_version"] == base and other.answer:
                base = other.answer["version"]
        waiting = [other.key for other in own if other.state == "waiting"]
        return entry.content | {"base_version": base}, waiting[-1] if waiting else None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that is on disk when the block ends, or did not happen.

        The rollback journal rather than WAL: it needs no shared memory, which network home folders
        lack.
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise _unusable(self.folder, error) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    @staticmethod
    def _select(
        database: sqlite3.Connection, condition: str, values: tuple[Any, ...]
    ) -> list[Entry]:
        rows = database.execute(f"SELECT {_COLUMNS} FROM entries WHERE {condition}", values)
        return [
            Entry(
                number=row[0],
                key=row[1],
                engine=row[2],
                project=row[3],
                sample=row[4],
                content=json.loads(row[5]),
                follows=row[6],
                state=row[7],
                answer=json.loads(row[8]),
                time=row[9],
            )
            for row in rows
        ]


def _dump(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)


def _unusable(folder: Path, error: Exception) -> OutboxError:
    return OutboxError(
        f"The outbox {folder} cannot be used: {error}.",
        "Free space on that disk and check that the folder is yours to write; nothing that was "
        "acknowledged is lost.",
    )
