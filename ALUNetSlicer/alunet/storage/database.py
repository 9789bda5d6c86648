"""A connection to a SQLite database whose tables are brought up to date by migrations."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.storage.disk_space import reporting_full_disk
from alunet.storage.locks import InUse

BUSY_SECONDS = 30.0

Migration = Sequence["str | Callable[[Database], None]"]
"""Statements, and functions for what SQL cannot do; all within one transaction."""


class Database:
    """One connection, for the thread that opened it.

    Args:
        path: the database file.
        migrations: what leads from schema version ``i`` to ``i + 1``.
        read_only: refuse every write, also of a migration.

    Raises:
        InputError: the file is not a project's database, or one of a newer program.
    """

    def __init__(
        self, path: Path, migrations: Sequence[Migration], *, read_only: bool = False
    ) -> None:
        self.path, self._migrations, self.read_only = path, migrations, read_only
        # Only reading needs a URI, which SQLite cannot take for a network path of Windows.
        target = f"{path.absolute().as_uri()}?mode=ro" if read_only else str(path)
        try:
            self._connection = sqlite3.connect(
                target, uri=read_only, timeout=BUSY_SECONDS, isolation_level=None
            )
        except sqlite3.Error as error:
            raise InputError(f"{path} cannot be opened: {error}.", "Check the path.") from error
        try:
            with reporting_full_disk(path.parent) if not read_only else contextlib.nullcontext():
                self._prepare(read_only)
        except sqlite3.DatabaseError as error:
            self.close()
            raise InputError(
                f"{path} is not a usable database: {error}.", "Restore it from a backup."
            ) from error
        except InputError:
            self.close()
            raise

    def _prepare(self, read_only: bool) -> None:
        version = self.version
        if version > self.newest:
            raise InputError(
                f"{self.path} has schema version {version}; this program knows {self.newest}.",
                "Update ALUNet to open this project.",
            )
        self._connection.execute("PRAGMA foreign_keys = ON")
        if read_only:
            if 0 < version < self.newest:
                hint = "Open it for writing once, for instance with `alunet plan`."
                raise InputError(f"{self.path} has the old schema version {version}.", hint)
            return
        self._connection.execute("PRAGMA journal_mode = WAL")
        # An acknowledged annotation must survive a power failure, so every commit waits for the
        # disk.
        self._connection.execute("PRAGMA synchronous = FULL")
        # What is deleted may be a patient's.
        self._connection.execute("PRAGMA secure_delete = ON")

    @property
    def version(self) -> int:
        """Schema version of the file; 0 for a file without tables."""
        return int(self.execute("PRAGMA user_version").fetchone()[0])

    @property
    def newest(self) -> int:
        """Schema version after all migrations."""
        return len(self._migrations)

    def migrate(self) -> None:
        """Brings the schema to the newest version, within the caller's transaction where there
        is one.
        """
        with self.transaction():
            for number in range(self.version, self.newest):
                for change in self._migrations[number]:
                    if isinstance(change, str):
                        self._connection.execute(change)
                    else:
                        change(self)
                self._connection.execute(f"PRAGMA user_version = {number + 1}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements of the block or none; inside another transaction it is part of that
        one.
        """
        if self._connection.in_transaction:
            yield
            return
        with reporting_full_disk(self.path.parent):
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
        with reporting_full_disk(self.path.parent):
            return self._connection.execute(statement, values)

    def many(
        self, statement: str, rows: Iterator[Sequence[object]] | Sequence[Sequence[object]]
    ) -> None:
        """Runs one statement for all rows, in one transaction."""
        with self.transaction():
            self._connection.executemany(statement, rows)

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.execute(statement, values).fetchall()

    def value(self, statement: str, values: Sequence[object] = ()) -> object:
        """First column of the first row of a query, or None."""
        row = self.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def number(self, statement: str, values: Sequence[object] = ()) -> int:
        """The whole number in the first column of the first row of a query."""
        return int(self.execute(statement, values).fetchone()[0])

    def check_writable(self) -> None:
        """Raise InputError where it was opened for reading only."""
        if self.read_only:
            raise InputError("The project is open for reading only.", "Open it for writing.")

    def rewrite(self, seconds: float = 20.0) -> None:
        """Write the whole file anew, so that nothing that was deleted stays in its free parts or
        in its log.

        Raises:
            InUse: others read it for longer than `seconds`.
        """
        self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")
        try:
            with reporting_full_disk(self.path.parent):
                self._connection.execute("VACUUM")
                blocked = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            blocked = 1
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * BUSY_SECONDS)}")
        if blocked:
            raise InUse(
                f"{self.path} is being read by another program.",
                "Wait until that ends, and open the project again.",
            )

    def copy_to(self, path: Path) -> None:
        """A consistent copy, taken with SQLite's backup while others may read and write.

        It is of what is committed. Within a transaction of this connection nobody commits
        meanwhile. A connection of its own reads, because SQLite lets none back up what it writes.
        """
        source, target = sqlite3.connect(self.path, timeout=BUSY_SECONDS), sqlite3.connect(path)
        try:
            source.backup(target)
        finally:
            target.close()
            source.close()

    def close(self) -> None:
        """Closes the connection; a second call does nothing."""
        self._connection.close()


def is_sound(path: Path) -> bool:
    """Return whether SQLite finds a database whole: pages, indexes, and what rows refer to.

    Raises:
        sqlite3.OperationalError: others have it for themselves for too long.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            said = connection.execute("PRAGMA integrity_check(1)").fetchall()
            lost = connection.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise
        return False
    return said == [("ok",)] and lost is None
