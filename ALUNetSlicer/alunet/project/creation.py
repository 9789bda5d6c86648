"""The first moment of a project: its database, whole or not there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alunet.errors import InputError
from alunet.project.settings import Settings
from alunet.project.tables import MIGRATIONS
from alunet.storage.database import Database
from alunet.storage.files import FolderLock, atomic_path, written_name

if TYPE_CHECKING:
    from alunet.project.project import Project


def create_database(
    root: Path,
    name: str,
    labels: dict[str, int],
    channels: Sequence[str],
    source: Project | None,
    label_values: list[int],
    annotation: dict[str, Any] | None,
    unit: str,
) -> None:
    """Writes schema, description and shared cases to a file that becomes the database when it is
    whole, so that a crash leaves no half project.
    """
    about = {
        "name": name,
        "labels": dict(sorted(labels.items(), key=lambda item: item[1])),
        "channels": [str(channel) for channel in channels],
        "created": time.time(),
    }
    lock = FolderLock(root)
    try:
        _clear_place(root)
        with atomic_path(root / "project.db") as file:
            database = Database(file, MIGRATIONS)
            with contextlib.closing(database), database.transaction():
                database.migrate()
                Settings(database).create(
                    about,
                    label_values=label_values,
                    annotation=annotation,
                    unit=unit,
                    data=None if source is None else reference(source.data, root),
                )
                if source is not None:
                    _take_over_cases(database, source)
    finally:
        lock.release()


def _take_over_cases(database: Database, source: Project) -> None:
    """Enter the cases of a project whose images are shared, and the hashes of their files."""
    columns = "name, role, images, label, shape, spacing, geometry, silent"
    rows = source._db.rows(f"SELECT {columns} FROM cases WHERE state = 'present'")
    database.many(f"INSERT INTO cases ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    files = [file for file in source.cases.files.all() if file.of_data]
    database.many(
        "INSERT INTO files (name, sha256, case_name) VALUES (?, ?, ?)",
        [(file.name, file.sha256, file.case) for file in files],
    )


def _clear_place(root: Path) -> None:
    """Remove what a killed creation left; raise InputError where there is a project already."""
    place = root / "project.db"
    if place.is_dir():
        raise InputError(f"{place} is a folder.", "Choose another folder for the project.")
    if place.exists():
        with contextlib.closing(Database(place, MIGRATIONS)) as database:
            if database.version:
                raise InputError(
                    f"There is a project in {root} already.", "Open it, or choose another folder."
                )
    # a log that stayed would be taken for that of the new file
    for part in root.glob("*project.db*"):
        if (written_name(part) or part.name).startswith("project.db"):
            part.unlink(missing_ok=True)


def reference(data: Path, root: Path) -> str:
    """How `root` refers to `data`: relative where the system can, so that both can move
    together.
    """
    try:
        return Path(os.path.relpath(data.resolve(), root.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return data.resolve().as_posix()
