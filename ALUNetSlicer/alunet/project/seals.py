"""Checksums of the rows that say who annotated what, where and when.

SQLite notices a damaged page where its structure breaks, not where a number within it changed. The
checksum of a row is over all that it means, the place of its sample in the image among them. It
finds any change, and tells which single bit has to be turned back.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alunet.project.events import Events
from alunet.project.kept_files import HISTORY, NotAsStored
from alunet.project.repairs import tell
from alunet.storage.database import Database

_PLACE = ("case_name", "slice_raw", "k_lo", "k_hi", "j_lo", "j_hi", "i_lo", "i_hi")
TABLES: Mapping[str, tuple[str, ...]] = {
    "annotations": ("id", "sample_id", "case_name", "round", "author", "seconds", "time"),
    "versions": (
        *("sample_id", "number", "base", "conflict", "derived"),
        *("author", "seconds", "status", "time", "voxels"),
    ),
}
"""Columns of the sealed tables."""
_TEXTS = ("case_name", "author", "status", "voxels")
Value = int | float | bytes | None


@dataclass(frozen=True)
class Row:
    """A sealed row, with the place of its sample.

    Attributes:
        number: SQLite's own of the row.
        own: of the columns in `TABLES`.
        place: of the sample; all None where there is no such sample.
    """

    table: str
    number: int
    own: tuple[Value, ...]
    place: tuple[Value, ...]
    checksum: str | None

    @property
    def sound(self) -> bool:
        """Whether it means what it meant when it was written."""
        return self.checksum == checksum(self.own, self.place)


class Seals:
    """Writes and checks the sealed tables."""

    def __init__(self, database: Database, events: Events) -> None:
        self._db, self._events = database, events

    def add(self, table: str, row: Mapping[str, object]) -> None:
        """Insert a row and seal it, within the caller's transaction."""
        marks = ", ".join("?" * len(row))
        cursor = self._db.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values())
        )
        self._seal(self._rows(table, "t.rowid = ?", cursor.lastrowid)[0])

    def seal_all(self) -> None:
        """Seal all rows as they are, within the caller's transaction."""
        for table in TABLES:
            for row in self._rows(table):
                self._seal(row)

    def _seal(self, row: Row) -> None:
        self._db.execute(
            f"UPDATE {row.table} SET checksum = ? WHERE rowid = ?",
            (checksum(row.own, row.place), row.number),
        )

    # --- check ------------------------------------------------------------------------------------

    def check_case(self, case: str) -> None:
        """Check what is said of the annotations of a case; a row of which one bit is wrong is put
        right.

        Raises:
            NotAsStored: a row means something else than when it was written.
        """
        if self._is_sound(case):
            return
        self.heal()
        if not self._is_sound(case):
            raise NotAsStored(
                f"What the database says of the annotations of case '{case}' is damaged.",
                "Restore the project from a backup; a check names the rows.",
            )

    def _is_sound(self, case: str) -> bool:
        which = "t.{} = ? OR s.case_name = ?"
        found = self._rows("annotations", which.format("case_name"), case, case)
        versions = self._rows("versions", "s.case_name = ?", case)
        if not all(row.sound for row in [*found, *versions]):
            return False
        # a row of which the sample is wrong is one of another case: its file is left without it
        files = self._db.number(
            "SELECT count(*) FROM files WHERE case_name = ? AND name LIKE ?", (case, f"{HISTORY}/%")
        )
        return files <= len(versions)

    def damaged(self) -> list[Row]:
        """Return all rows that mean something else than when they were written."""
        return [row for table in TABLES for row in self._rows(table) if not row.sound]

    def count(self) -> int:
        """Return how many rows are sealed."""
        return sum(self._db.number(f"SELECT count(*) FROM {table}") for table in TABLES)

    def heal(self) -> list[str]:
        """Put right the rows of which one bit is wrong; return what was done, for people."""
        if self._db.read_only:
            return []
        done = []
        with self._db.transaction():
            for row in self.damaged():
                right = corrected(row, self.place)
                if right is None:
                    continue
                self._write(row, right)
                done.append(f"Row {row.number} of '{row.table}' had one wrong bit, put right.")
            for text in done:
                tell(self._events, "project.db", text)
        return done

    def _write(self, row: Row, right: Row) -> None:
        sets = ", ".join(f"{column} = {_typed(column)}" for column in TABLES[row.table])
        self._db.execute(
            f"UPDATE {row.table} SET {sets}, checksum = ? WHERE rowid = ?",
            (*right.own, right.checksum, row.number),
        )
        sample = right.own[TABLES[row.table].index("sample_id")]
        if self.place(sample) != right.place:
            sets = ", ".join(f"{column} = {_typed(column)}" for column in _PLACE)
            self._db.execute(f"UPDATE samples SET {sets} WHERE id = ?", (*right.place, sample))

    def place(self, sample: Value) -> tuple[Value, ...]:
        """Return the place of a sample as it is now."""
        columns = ", ".join(_read("s", column) for column in _PLACE)
        rows = self._db.rows(f"SELECT {columns} FROM samples s WHERE id = ?", (sample,))
        return rows[0] if rows else (None,) * len(_PLACE)

    def _rows(self, table: str, which: str = "1", *values: object) -> list[Row]:
        own, count = TABLES[table], len(TABLES[table])
        columns = [*(_read("t", column) for column in own), *(_read("s", one) for one in _PLACE)]
        rows = self._db.rows(
            f"SELECT t.rowid, {', '.join(columns)}, CAST(t.checksum AS BLOB) FROM {table} t "
            f"LEFT JOIN samples s ON s.id = t.sample_id WHERE {which} ORDER BY t.rowid",
            values,
        )
        return [
            Row(table, number, tuple(found[:count]), tuple(found[count:-1]), _text(found[-1]))
            for number, *found in rows
        ]


def checksum(own: tuple[Value, ...], place: tuple[Value, ...]) -> str:
    """Return the checksum of a row."""
    return hashlib.sha256(b"\x1f".join(map(_encoded, (*own, *place)))).hexdigest()[:32]


def corrected(row: Row, place_of: Any) -> Row | None:
    """Return a row of which one bit, or its checksum, is wrong as it was; None where that is not
    all.

    Args:
        place_of: gives the place of a sample.
    """
    if row.checksum is None:
        return None
    sample = TABLES[row.table].index("sample_id")
    right = checksum(row.own, row.place)
    if sum(a != b for a, b in zip(right, row.checksum, strict=False)) == 1:
        return Row(row.table, row.number, row.own, row.place, right)
    for index, value in enumerate(row.own):
        for other in _with_one_bit_changed(value):
            own = (*row.own[:index], other, *row.own[index + 1 :])
            place = place_of(other) if index == sample else row.place
            if checksum(own, place) == row.checksum:
                return Row(row.table, row.number, own, place, row.checksum)
    for index, value in enumerate(row.place):
        for other in _with_one_bit_changed(value):
            place = (*row.place[:index], other, *row.place[index + 1 :])
            if checksum(row.own, place) == row.checksum:
                return Row(row.table, row.number, row.own, place, row.checksum)
    return None


def _with_one_bit_changed(value: Value) -> Iterator[Value]:
    if isinstance(value, int):
        for bit in range(63):
            yield value ^ (1 << bit)
        yield value + (1 << 63) if value < 0 else value - (1 << 63)
    elif value is not None:
        packed = struct.pack(">d", value) if isinstance(value, float) else value
        for place in range(8 * len(packed)):
            content = bytearray(packed)
            content[place // 8] ^= 1 << place % 8
            is_float = isinstance(value, float)
            yield struct.unpack(">d", content)[0] if is_float else bytes(content)


def _encoded(value: Value) -> bytes:
    if isinstance(value, int):
        return b"i%d" % value
    if isinstance(value, float):
        return b"f" + struct.pack(">d", value)
    return b"-" if value is None else b"t" + value


def _read(table: str, column: str) -> str:
    """How a column is read: a text as bytes, which may be no text any more."""
    return f"CAST({table}.{column} AS BLOB)" if column in _TEXTS else f"{table}.{column}"


def _typed(column: str) -> str:
    return "CAST(? AS TEXT)" if column in _TEXTS else "?"


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("ascii", "replace")
