"""What a service says of its projects in a list: read once, and again only where one changed.

Opening a project takes locks and looks for what a killed process left; of a thousand that takes
seconds. So a database that no process has open is read as the plain file that it is then, and what
a list needs is kept for as long as the file stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from alunet.imaging.labels import Structures
from alunet.project.case_table import CaseTable
from alunet.project.events import Events
from alunet.project.settings import Settings, SettingsRead
from alunet.project.tables import MIGRATIONS
from alunet.schema import JobKind, ProjectInfo
from alunet.storage.database import Database

_SETTLED_SECONDS = 2.0
"""A file system may give two changes that are closer than this the same time."""
_WAITING = "SELECT kind, config, cancelled IS NULL FROM jobs WHERE state IN ('queued', 'running')"

Stamp = tuple[tuple[int, int, int], ...]
"""Inode, time of the last change and size of a database file, and of its log where that holds
anything.
"""


@dataclass(frozen=True)
class Glance:
    """What is known of a project without its being open.

    Attributes:
        info: as a list of projects shows it.
        unfinished: whether a job waits or runs.
        uploads: that imports wait for.
    """

    info: ProjectInfo
    unfinished: bool
    uploads: frozenset[str]


class Catalog:
    """The projects below `root`, by id."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._known: dict[str, tuple[Stamp, Glance]] = {}

    def find(self, identifier: str) -> Glance | None:
        """Return what is known of a project; None where it has to be opened for that."""
        folder = self._root / identifier
        stamp, known = _stamp(folder), self._known.get(identifier)
        if known is not None and known[0] == stamp:
            return known[1]
        glance = _read(folder, stamp)
        if glance is not None:
            self._known[identifier] = stamp, glance
        return glance

    def name(self, identifier: str) -> str | None:
        """Return the name of a project, which it keeps; None where it has to be opened for that."""
        known = self._known.get(identifier)
        glance = self.find(identifier) if known is None else known[1]
        return None if glance is None else glance.info.name

    def idle(self, identifiers: Iterable[str]) -> set[str]:
        """Return the projects of which it is known that no job waits or runs."""
        found = {identifier: self.find(identifier) for identifier in identifiers}
        return {name for name, own in found.items() if own is not None and not own.unfinished}


def describe(
    identifier: str, settings: Settings, events: Events, structures: Structures
) -> ProjectInfo:
    """A project as clients see it, without its status."""
    event, about, own = events.newest(), settings.about, settings.colors
    labels: dict[str, int] = about["labels"]
    replaced = {str(number): became for number, became in structures.became.items()}
    colors = {name: own[number] for name, number in labels.items() if number in own}
    return ProjectInfo(
        identifier, about["name"], labels, list(about["channels"]), event, {}, colors, replaced
    )


def _read(folder: Path, stamp: Stamp) -> Glance | None:
    """Read the database of a project that no process has open; None where it has to be opened.

    SQLite then takes no lock and looks at no log, which is right only while nothing changes: that
    the stamp is the same afterwards tells.
    """
    if len(stamp) != 1 or not _is_settled(stamp):
        return None
    with contextlib.suppress(sqlite3.Error, LookupError, TypeError, ValueError, OSError):
        with _still(folder / "project.db") as still:
            if still.number("PRAGMA user_version") != len(MIGRATIONS):
                return None
            settings = SettingsRead(cast(Database, still))
            if settings.data is not None or settings.change is not None:
                return None
            cases = CaseTable(cast(Database, still), settings, folder, folder)
            events = Events(cast(Database, still))
            info = describe(folder.name, settings, events, cases.structures)
            glance = _with_jobs(info, still.rows(_WAITING))
        if _stamp(folder) == stamp:
            return glance
    return None


def _with_jobs(info: ProjectInfo, jobs: Sequence[tuple[Any, ...]]) -> Glance:
    uploads: set[str] = set()
    for kind, config, goes_on in jobs:
        if kind == JobKind.IMPORT.value and goes_on:
            uploads.update(used_uploads(json.loads(config)))
    return Glance(info, bool(jobs), frozenset(uploads))


def used_uploads(options: dict[str, Any]) -> list[str]:
    """Return the uploads that an import is made of."""
    return [*options["images"], *([options["label"]] if options["label"] else [])]


class _Still:
    """Reads a database as a file; of `Database` what the tables' classes need to read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Database.rows`."""
        return self._connection.execute(statement, values).fetchall()

    def number(self, statement: str, values: Sequence[Any] = ()) -> int:
        """See `Database.number`."""
        return int(self._connection.execute(statement, values).fetchone()[0])


@contextlib.contextmanager
def _still(path: Path) -> Iterator[_Still]:
    target = f"{path.as_uri()}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(target, uri=True, isolation_level=None)) as connection:
        yield _Still(connection)


def _stamp(folder: Path) -> Stamp:
    """Return the stamp of a project's database; empty where it has none."""
    database, found = f"{folder}{os.sep}project.db", []
    for file in (database, f"{database}-wal", f"{database}-journal"):
        with contextlib.suppress(OSError):
            about = os.stat(file)  # noqa: PTH116 - of thousands, and a `Path` takes longer
            if file == database or about.st_size:
                found.append((about.st_ino, about.st_mtime_ns, about.st_size))
    return tuple(found)


def _is_settled(stamp: Stamp) -> bool:
    newest = max((changed for _, changed, _ in stamp), default=0)
    return bool(stamp) and time.time() - newest / 1e9 > _SETTLED_SECONDS
