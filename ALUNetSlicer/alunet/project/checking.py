"""Compare a project with what was stored: its database, the rows of annotations, every file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alunet.errors import InputError
from alunet.project.byte_progress import ByteProgress
from alunet.project.kept_files import HISTORY, MAPS, KeptFile
from alunet.project.project import Project
from alunet.project.seals import Row, corrected
from alunet.schema import Emit
from alunet.storage.database import is_sound
from alunet.storage.files import sha256_file, written_name

DATABASE, ROW, MAP, COPY, VERSION, IMAGE, OTHER = (
    "database",
    "row",
    "label map",
    "copy",
    "version",
    "image",
    "file",
)
_BACKUP = "Restore it from a backup."
_YOUNG_SECONDS = 60.0  # what is newer may be on its way into the database


@dataclass(frozen=True)
class Damage:
    """Something that is not what was stored.

    Attributes:
        kind: one of the constants of this module.
        name: of the file below the project, or of the row.
        text: what is wrong.
        remedy: what a repair does; empty where it can do nothing.
        hint: what a person can do then.
        case: of which it is, where it is of one.
    """

    kind: str
    name: str
    text: str
    remedy: str = ""
    hint: str = _BACKUP
    case: str | None = None


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        damages: what is not as it was stored.
        notes: what a person may want to know besides: files that belong to nothing.
        files: how many were compared with their hashes.
        rows: how many rows were compared with their checksums.
        moment: when it began, seconds since 1970.
    """

    damages: tuple[Damage, ...]
    notes: tuple[str, ...]
    files: int
    rows: int
    moment: float


def check(project: Project, emit: Emit) -> Checked:
    """Compare all of a project with what was stored; nothing is repaired.

    Images of a project that an earlier version made are compared with the number of their voxels,
    and get a hash (`KeptFiles.check_case`). The project may be in use.

    Args:
        emit: hears progress events of the phase "check".

    Raises:
        InUse: the structures are being changed: label maps are not yet what the database says.
    """
    begun = time.time()
    if not is_sound(project.root / "project.db"):
        return Checked((database_damage(project.root),), (), 0, 0, begun)
    project.annotations.check_unchanging()
    damages = [_row(project, row) for row in project.seals.damaged()]
    damages += _first_hashes(project)
    kept = project.cases.files.all()
    compared = (_file(project, file) for file in _with_progress(project, kept, emit))
    damages += [damage for damage in compared if damage is not None]
    damages += _unknown(project)
    return Checked(
        tuple(damages), tuple(_orphans(project)), len(kept), project.seals.count(), begun
    )


def database_damage(root: Path) -> Damage:
    """Return what is to be said of a project whose database SQLite finds damaged."""
    return Damage(DATABASE, "project.db", f"SQLite finds {root / 'project.db'} damaged.")


def _row(project: Project, row: Row) -> Damage:
    text = f"Row {row.number} of '{row.table}' means something else than when it was written."
    right = corrected(row, project.seals.place)
    remedy = "" if right is None else "the one wrong bit is turned back"
    return Damage(ROW, f"{row.table} {row.number}", text, remedy)


def _first_hashes(project: Project) -> Iterator[Damage]:
    """Give hashes to files that have none, of cases that were added by an earlier version."""
    files = project.cases.files
    for case in project.cases.all(removed=True):
        own = [*case.images, *([case.label] if case.label else [])]
        if any(files.hash_of(file) is None for file in own):
            try:
                files.check_case(case.name, own)
            except InputError as error:
                if all(files.hash_of(file) is None for file in own):
                    yield Damage(
                        IMAGE, f"images of '{case.name}'", error.message, "", error.hint, case.name
                    )


def _with_progress(project: Project, kept: list[KeptFile], emit: Emit) -> Iterator[KeptFile]:
    """Pass files on, and report how many megabytes are done."""
    sizes = [_size(project.cases.files.path(file.name)) for file in kept]
    progress = ByteProgress("check", sum(sizes), emit)
    for file, size in zip(kept, sizes, strict=True):
        yield file
        progress.add(size)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _file(project: Project, kept: KeptFile) -> Damage | None:
    files, maps = project.cases.files, project.annotations.maps
    path, kind = files.path(kept.name), kind_of(kept)
    sound = maps.is_sound(kept.case) if kind == MAP and kept.case else files.is_sound(path)
    if sound or files.hash_of(path) is None:  # it may have been taken back or erased meanwhile
        return None
    text = f"{path} is {'not what was stored' if path.is_file() else 'missing'}."
    remedy = _remedy(project, kept, kind)
    hint = "Train the next round: it starts anew." if kind == OTHER else _BACKUP
    return Damage(kind, kept.name, text, remedy, hint, kept.case)


def kind_of(kept: KeptFile) -> str:
    """Return what a file is."""
    if kept.name.startswith(f"{HISTORY}/"):
        return VERSION
    if kept.name.startswith(f"{MAPS}/copies/"):
        return COPY
    if kept.name.startswith(f"{MAPS}/"):
        return MAP
    return IMAGE if kept.name.startswith(("images/", "labels/")) else OTHER


def _remedy(project: Project, kept: KeptFile, kind: str) -> str:
    """What a repair can do about a file; empty: nothing."""
    maps = project.annotations.maps
    if kind == IMAGE:
        source = source_of(project, kept)
        return "" if source is None else f"it is copied again from {source}"
    if kept.case is None:
        return ""
    if kind == MAP:
        try:
            maps.rebuilt(kept.case)
        except InputError:
            return ""
        return "it is rebuilt from its versions"
    if kind == COPY and maps.is_sound(kept.case):
        return "it is made again from the label map"
    if kind == VERSION and maps.holds(*version_of(kept)):
        return "it is written again from the label map"
    return ""


def version_of(kept: KeptFile) -> tuple[int, int]:
    """Return sample and number of the version in a file."""
    sample, number = Path(kept.name).stem.split("-")
    return int(sample), int(number)


def source_of(project: Project, kept: KeptFile) -> Path | None:
    """Return the file that a damaged image came from, where it still has the bytes."""
    for source in project.cases.sources(kept.case or ""):
        if source.is_file() and sha256_file(source) == kept.sha256:
            return source
    return None


def _unknown(project: Project) -> Iterator[Damage]:
    """Label maps that no hash is known of: they could not be read when hashes were introduced."""
    for case in project.annotations.maps.all():
        file = project.annotations.file(case)
        if project.cases.files.hash_of(file) is None:
            yield Damage(MAP, f"{MAPS}/{file.name}", f"{file} cannot be read.", "", _BACKUP, case)


def _orphans(project: Project) -> Iterator[str]:
    """Name the files that the database does not know."""
    known = {file.name for file in project.cases.files.all()}
    folders = [project.annotations_dir, project.annotations_dir / "history"]
    if project.data == project.root:
        folders += [project.images_dir, project.labels_dir]
    for folder in folders:
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            young = not path.is_file() or time.time() - path.stat().st_mtime < _YOUNG_SECONDS
            if young or written_name(path) or project.cases.files.name(path) in known:
                continue
            yield f"{project.cases.files.name(path)} belongs to nothing in the project."
