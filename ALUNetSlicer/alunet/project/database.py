"""The project's SQLite database: schema, migrations, transactions."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from alunet.errors import InputError
from alunet.project.room import room_in

FIRST = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE cases (
        name TEXT PRIMARY KEY,
        role TEXT NOT NULL CHECK (role IN ('pool', 'test')),
        images TEXT NOT NULL,   -- JSON list of file names in images/, one a channel
        label TEXT,             -- file name in labels/ of the hidden reference, if there is one
        shape TEXT NOT NULL,    -- JSON (k, j, i)
        spacing TEXT NOT NULL,  -- JSON, mm, (k, j, i)
        geometry TEXT,          -- JSON of CaseGeometry, known after preprocessing
        voxels TEXT             -- JSON, annotated voxels per class; NULL while nothing is annotated
    )""",
    """CREATE TABLE samples (
        id INTEGER PRIMARY KEY,
        case_name TEXT NOT NULL REFERENCES cases (name),
        slice INTEGER NOT NULL, slice_raw INTEGER NOT NULL, tile INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'unlabelled' CHECK (state IN ('unlabelled', 'suggested', 'labelled')),
        row INTEGER NOT NULL, col INTEGER NOT NULL,
        row_lo INTEGER NOT NULL, row_hi INTEGER NOT NULL, col_lo INTEGER NOT NULL, col_hi INTEGER NOT NULL,
        k_lo INTEGER NOT NULL, k_hi INTEGER NOT NULL, j_lo INTEGER NOT NULL, j_hi INTEGER NOT NULL,
        i_lo INTEGER NOT NULL, i_hi INTEGER NOT NULL,
        UNIQUE (case_name, slice, tile)
    )""",
    """CREATE TABLE rounds (
        number INTEGER PRIMARY KEY,
        strategy TEXT NOT NULL,
        config TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('started', 'finished')),
        record TEXT,
        started REAL NOT NULL,
        finished REAL
    )""",
    """CREATE TABLE suggestions (
        round INTEGER NOT NULL, rank INTEGER NOT NULL,
        sample_id INTEGER NOT NULL REFERENCES samples (id),
        gain REAL, reason TEXT NOT NULL,
        PRIMARY KEY (round, rank), UNIQUE (round, sample_id)
    )""",
    """CREATE TABLE annotations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sample_id INTEGER NOT NULL REFERENCES samples (id),
        case_name TEXT NOT NULL REFERENCES cases (name),
        round INTEGER NOT NULL,
        author TEXT NOT NULL,
        seconds REAL,
        time REAL NOT NULL
    )""",
    "CREATE INDEX annotations_of_sample ON annotations (sample_id)",
    """CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL, state TEXT NOT NULL, config TEXT NOT NULL,
        pid INTEGER, created REAL NOT NULL, finished REAL, error TEXT
    )""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL
    )""",
)

SECOND = (
    # Samples that a person does not want to be asked about again.
    """CREATE TABLE skipped (
        sample_id INTEGER PRIMARY KEY REFERENCES samples (id),
        time REAL NOT NULL
    )""",
    # Where a case was imported from, so that the same import can be asked for again; NULL where that is not known.
    "ALTER TABLE cases ADD COLUMN source TEXT",
)

THIRD = (
    # Every version of a sample's labels that was ever submitted; the voxels lie in annotations/history/.
    """CREATE TABLE versions (
        sample_id INTEGER NOT NULL REFERENCES samples (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        base INTEGER NOT NULL,      -- the version that it corrects
        conflict INTEGER NOT NULL,  -- 1: its base was not the newest, so it counts for nothing but is kept
        author TEXT NOT NULL, seconds REAL, status TEXT NOT NULL, time REAL NOT NULL,
        PRIMARY KEY (sample_id, number)
    )""",
    """CREATE TABLE work (
        sample_id INTEGER PRIMARY KEY REFERENCES samples (id) ON DELETE CASCADE,
        status TEXT NOT NULL, author TEXT NOT NULL, time REAL NOT NULL
    )""",
    """CREATE TABLE leases (
        sample_id INTEGER PRIMARY KEY REFERENCES samples (id) ON DELETE CASCADE,
        author TEXT NOT NULL, until REAL NOT NULL
    )""",
    # What was answered to a request that may be sent again.
    "CREATE TABLE answers (key TEXT PRIMARY KEY, digest TEXT NOT NULL, answer TEXT NOT NULL, time REAL NOT NULL)",
    "ALTER TABLE jobs ADD COLUMN started REAL",
    "ALTER TABLE jobs ADD COLUMN heartbeat REAL",
    "ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN progress TEXT",
    "ALTER TABLE jobs ADD COLUMN waiting TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN cancelled REAL",  # when somebody asked for its end
    "ALTER TABLE jobs ADD COLUMN result TEXT",  # a file name below jobs/
    "ALTER TABLE jobs ADD COLUMN notes TEXT NOT NULL DEFAULT '{}'",  # what a job that is started again must know
)

FOURTH = (
    # Share of the other candidates that the strategy found less uncertain, 0 to 1; NULL where it measures nothing.
    "ALTER TABLE suggestions ADD COLUMN uncertainty REAL",
    # Who chose the sample; NULL: the strategy did.
    "ALTER TABLE suggestions ADD COLUMN author TEXT",
)

MIGRATIONS: list[Sequence[str]] = [FIRST, SECOND, THIRD, FOURTH]
"""Statements that lead from schema version ``i`` to ``i + 1``. Released ones are never changed."""

BUSY_SECONDS = 30.0


class Database:
    """One connection, for the thread that opened it.

    Args:
        path: the database file.
        read_only: refuse every write, also of a migration.

    Raises:
        InputError: the file is not a project's database, or one of a newer program.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        # Only reading needs a URI, which SQLite cannot take for a network path of Windows.
        target = f"{path.absolute().as_uri()}?mode=ro" if read_only else str(path)
        try:
            self._connection = sqlite3.connect(target, uri=read_only, timeout=BUSY_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise InputError(f"{path} cannot be opened: {error}.", "Check the path.") from error
        try:
            with room_in(path.parent) if not read_only else contextlib.nullcontext():
                self._prepare(read_only)
        except sqlite3.DatabaseError as error:
            self.close()
            raise InputError(f"{path} is not a usable database: {error}.", "Restore it from a backup.") from error
        except InputError:
            self.close()
            raise

    def _prepare(self, read_only: bool) -> None:
        version = self.version
        if version > len(MIGRATIONS):
            raise InputError(
                f"{self.path} has schema version {version}; this program knows {len(MIGRATIONS)}.",
                "Update ALUNet to open this project.",
            )
        self._connection.execute("PRAGMA foreign_keys = ON")
        if read_only:
            if 0 < version < len(MIGRATIONS):
                hint = "Open it for writing once, for instance with `alunet plan`."
                raise InputError(f"{self.path} has the old schema version {version}.", hint)
            return
        self._connection.execute("PRAGMA journal_mode = WAL")
        # An acknowledged annotation must survive a power failure, so every commit waits for the disk.
        self._connection.execute("PRAGMA synchronous = FULL")

    @property
    def version(self) -> int:
        """Schema version of the file; 0 for a file without tables."""
        return int(self.execute("PRAGMA user_version").fetchone()[0])

    def migrate(self) -> None:
        """Brings the schema to the newest version, within the caller's transaction where there is one."""
        with self.transaction():
            for number in range(self.version, len(MIGRATIONS)):
                for statement in MIGRATIONS[number]:
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {number + 1}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements of the block or none; inside another transaction it is part of that one."""
        if self._connection.in_transaction:
            yield
            return
        with room_in(self.path.parent):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:  # also KeyboardInterrupt: nothing half done may stay
                if self._connection.in_transaction:  # SQLite undoes some failures itself
                    self._connection.execute("ROLLBACK")
                raise

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Runs one statement; outside of `transaction` it commits at once."""
        with room_in(self.path.parent):
            return self._connection.execute(statement, values)

    def many(self, statement: str, rows: Iterator[Sequence[object]] | Sequence[Sequence[object]]) -> None:
        """Runs one statement for all rows, in one transaction."""
        with self.transaction():
            self._connection.executemany(statement, rows)

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple]:
        """All rows of a query."""
        return self.execute(statement, values).fetchall()

    def value(self, statement: str, values: Sequence[object] = ()) -> object:
        """First column of the first row of a query, or None."""
        row = self.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def copy_to(self, path: Path) -> None:
        """A consistent copy, taken with SQLite's backup while others may read and write."""
        target = sqlite3.connect(path)
        try:
            self._connection.backup(target)
        finally:
            target.close()

    def close(self) -> None:
        """Closes the connection; a second call does nothing."""
        self._connection.close()
