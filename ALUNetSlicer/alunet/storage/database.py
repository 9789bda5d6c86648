"""A connection to a SQLite database whose tables are brought up to date by migrations."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.storage.failures import (
    DamagedDatabase,
    DiskError,
    DiskFull,
    Locked,
    ReadOnly,
    StorageFailure,
    means_damage,
    reporting_failures,
)
from alunet.storage.file_systems import is_network
from alunet.storage.locks import InUse
from alunet.storage.private_copy import read_copy
from alunet.storage.shared_memory import SharedMemory

BUSY_SECONDS = 30.0
_ATTEMPTS = 10

Migration = Sequence["str | Callable[[Database], None]"]
"""Statements, and functions for what SQL cannot do; all within one transaction."""


class OldSchema(InputError):
    """A database that an earlier version made was opened for reading only."""


class Database:
    """One connection, for the thread that opened it.

    Where the disk is full or read-only, SQLite cannot make the files that it needs to read beside
    others. Who only reads, or may do without writing, reads a copy in memory then.

    Args:
        path: the database file.
        migrations: what leads from schema version ``i`` to ``i + 1``.
        read_only: refuse every write, also of a migration.
        reading_helps: open it also where nothing can be written for now; `unwritable` says why.
        wait: seconds to wait for others while it is opened.

    Attributes:
        unwritable: why nothing can be written for now; None where it can. Writing raises it.

    Raises:
        InputError: the file is not a project's database, or one of a newer program.
        StorageFailure: the disk does not let it be opened.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[Migration],
        *,
        read_only: bool = False,
        reading_helps: bool = False,
        wait: float = BUSY_SECONDS,
    ) -> None:
        self.path, self._migrations, self.read_only = path, migrations, read_only
        self._wait = wait
        self.unwritable: StorageFailure | None = None
        self._memory: SharedMemory | None = None
        self._connection: sqlite3.Connection | None = None
        try:
            with self._reporting():
                self._open()
        except (DiskFull, ReadOnly) as failure:
            self.close()
            if not read_only and not reading_helps:
                raise
            self._open_copy(failure)
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                kind = DiskError if path.is_file() else InputError
                raise kind(f"{path} cannot be opened: {error}.", "Check the path.") from error
            raise

    def _open_copy(self, failure: StorageFailure) -> None:
        """Read what is there, where that failure keeps SQLite from its own files."""
        self.unwritable = failure
        try:
            with self._reporting():
                self._connection = read_copy(self.path)
                self._check_version()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Connect, with shared memory that cannot end the process; see `SharedMemory`."""
        network = is_network(self.path.parent)
        for _ in range(_ATTEMPTS):
            self._connect(network)
            try:
                self._check_version()
            except DiskError:
                if not (network and self.read_only):
                    raise
                self.close()  # it has a log, and this may not lock it for itself
                self._connection = read_copy(self.path)
                return
            if self._memory is None or self._memory.is_current():
                self._set_up(network)
                return
            self.close()
        raise Locked(f"{self.path} is opened by others all the time.", "Try again in a moment.")

    def _connect(self, network: bool) -> None:
        # Only reading needs a URI, which SQLite cannot take for a network path of Windows.
        target = f"{self.path.absolute().as_uri()}?mode=ro" if self.read_only else str(self.path)
        self._connection = sqlite3.connect(
            target, uri=self.read_only, timeout=self._wait, isolation_level=None
        )
        if network:
            # One that was made on a disk of one computer has a log; it is read without its shared
            # memory, which other computers do not see.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        else:
            self._memory = SharedMemory(self.path)
            self._memory.take()

    def _set_up(self, network: bool) -> None:
        if not self.read_only:
            self._sqlite.execute(f"PRAGMA journal_mode = {'DELETE' if network else 'WAL'}")
            # An acknowledged annotation must survive a power failure, so every commit waits for the
            # disk.
            self._sqlite.execute("PRAGMA synchronous = FULL")
            # What is deleted may be a patient's.
            self._sqlite.execute("PRAGMA secure_delete = ON")
        if network:
            self._sqlite.execute("PRAGMA locking_mode = NORMAL")
            self._check_version()  # the lock is given back when it is read next
        self._sqlite.execute(f"PRAGMA busy_timeout = {round(1000 * BUSY_SECONDS)}")
        self._sqlite.execute("PRAGMA foreign_keys = ON")

    def _check_version(self) -> None:
        version = self.version
        if version > self.newest:
            raise InputError(
                f"{self.path} has schema version {version}; this program knows {self.newest}.",
                "Update ALUNet to open this project.",
            )
        if self.read_only and 0 < version < self.newest:
            raise OldSchema(
                f"{self.path} has the old schema version {version}.", "Open it for writing once."
            )

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Raise a StorageFailure for what the disk or SQLite says; damage only where there is
        some.
        """
        try:
            with reporting_failures(self.path.parent):
                yield
        except sqlite3.Error as error:
            if means_damage(error):
                raise self._damage(error) from error
            raise
        except ReadOnly as error:
            if self.unwritable is not None and error is not self.unwritable:
                raise self.unwritable from error
            raise

    def _damage(self, error: sqlite3.Error) -> StorageFailure:
        if _is_damaged(self.path):
            return DamagedDatabase(
                f"{self.path} is not a usable database: {error}.", "Restore it from a backup."
            )
        return DiskError(
            f"{self.path} was read wrongly, though it is whole: {error}.", "Try again."
        )

    @property
    def _sqlite(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("The database is closed.")
        return self._connection

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
                        self._sqlite.execute(change)
                    else:
                        change(self)
                self._sqlite.execute(f"PRAGMA user_version = {number + 1}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements of the block or none; inside another transaction it is part of that
        one.
        """
        if self._sqlite.in_transaction:
            yield
            return
        with self._reporting():
            self._sqlite.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._sqlite.execute("COMMIT")
            except BaseException:  # also KeyboardInterrupt: nothing half done may stay
                if self._sqlite.in_transaction:  # SQLite undoes some failures itself
                    self._sqlite.execute("ROLLBACK")
                raise

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Runs one statement; outside of `transaction` it commits at once."""
        with self._reporting():
            return self._sqlite.execute(statement, values)

    def many(
        self, statement: str, rows: Iterator[Sequence[object]] | Sequence[Sequence[object]]
    ) -> None:
        """Runs one statement for all rows, in one transaction."""
        with self.transaction():
            self._sqlite.executemany(statement, rows)

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._reporting():  # SQLite reads while the rows are fetched
            return self._sqlite.execute(statement, values).fetchall()

    def value(self, statement: str, values: Sequence[object] = ()) -> object:
        """First column of the first row of a query, or None."""
        with self._reporting():
            row = self._sqlite.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def number(self, statement: str, values: Sequence[object] = ()) -> int:
        """The whole number in the first column of the first row of a query."""
        return int(str(self.value(statement, values)))

    def check_writable(self) -> None:
        """Raise InputError where it was opened for reading only, or nothing can be written."""
        if self.unwritable is not None:
            raise self.unwritable
        if self.read_only:
            raise InputError("The project is open for reading only.", "Open it for writing.")

    def rewrite(self, seconds: float = 20.0) -> None:
        """Write the whole file anew, so that nothing that was deleted stays in its free parts or
        in its log.

        Raises:
            InUse: others read it for longer than `seconds`.
        """
        self._sqlite.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")
        try:
            with self._reporting():
                self._sqlite.execute("VACUUM")
                blocked = self._sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except Locked:
            blocked = 1
        finally:
            self._sqlite.execute(f"PRAGMA busy_timeout = {round(1000 * BUSY_SECONDS)}")
        if blocked:
            raise InUse(
                f"{self.path} is being read by another program.",
                "Wait until that ends, and open the project again.",
            )

    def copy_to(self, path: Path) -> None:
        """A consistent copy, taken with SQLite's backup while others may read and write.

        It is of what is committed. Within a transaction of this connection no other one commits
        meanwhile. A second connection reads, because SQLite lets none back up what it writes.
        """
        with reporting_failures(path.parent):
            source, target = sqlite3.connect(self.path, timeout=BUSY_SECONDS), sqlite3.connect(path)
            try:
                source.backup(target)
            finally:
                target.close()
                source.close()

    def close(self) -> None:
        """Closes the connection; a second call does nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._memory is not None:
            self._memory.release()
            self._memory = None


def _is_damaged(path: Path) -> bool:
    """Whether SQLite's own check finds damage in a database, seen in a copy of it."""
    try:
        copy = read_copy(path)
    except sqlite3.Error as error:
        return means_damage(error)
    try:
        return copy.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]
    except sqlite3.Error as error:
        return means_damage(error)
    finally:
        copy.close()


def is_sound(path: Path) -> bool:
    """Return whether SQLite finds a database whole: pages, indexes, and what rows refer to.

    Where SQLite cannot open it in its place (a disk that is read-only or full), a copy in memory is
    checked.

    Raises:
        StorageFailure: the disk, or another program, does not let it be read.
    """
    with reporting_failures(path.parent):
        try:
            return _is_whole(sqlite3.connect(path, timeout=BUSY_SECONDS))
        except sqlite3.Error as error:
            if means_damage(error):
                return False
        try:
            return _is_whole(read_copy(path))
        except sqlite3.Error as error:
            if means_damage(error):
                return False
            raise


def _is_whole(connection: sqlite3.Connection) -> bool:
    """Whether SQLite's checks of a database find nothing; closes the connection."""
    with contextlib.closing(connection):
        said = connection.execute("PRAGMA integrity_check(1)").fetchall()
        lost = connection.execute("PRAGMA foreign_key_check").fetchone()
    return said == [("ok",)] and lost is None
