"""A project in one file: its database at one moment, and the files that this database names.

The project may be in use. While the database is copied no process can commit, and every file that
it names gets a second name (a hard link): a process that writes a file again replaces the name,
never the bytes. What is packed afterwards is that moment, however long it takes.

Left out is what can be computed again: preprocessed images, proposals, caches, logs, files of jobs,
and the weights of rounds before the last one. A project that shares another's images gets its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from alunet.errors import InputError
from alunet.imaging.reading import EXACT_ENDING
from alunet.imaging.writing import write_like
from alunet.project.byte_progress import ByteProgress
from alunet.project.held import held_files, remove_held_files
from alunet.project.kept_files import IMAGES, MAPS, ROUNDS, KeptFile, NotAsStored, forget_digests
from alunet.project.project import Project
from alunet.project.repairs import log
from alunet.schema import Emit
from alunet.storage.files import atomic_path, sha256_file, sync_folder

MANIFEST = "alunet-backup.json"
_FORMAT = 1
_DATABASE = "project.db"
_UNCHANGING = f"{IMAGES}/"
_BLOCK = 4 << 20
_LARGEST_MANIFEST = 256 << 20
_PRINTED = ("batch.json", "learned.json", "length.json", "manifest.json", "worklist.json")


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes:
        files: how many.
        size: of the archive in bytes.
        moment: of the database, seconds since 1970.
    """

    file: Path
    files: int
    size: int
    moment: float


# --- make one -------------------------------------------------------------------------------------


def back_up(project: Project, file: Path, emit: Emit) -> Backup:
    """Write a project into one zip file, whole or not at all; others may go on annotating.

    Every file is compared with its hash on the way, so that no damage is kept in place of what was
    sound.

    Args:
        emit: hears progress events of the phase "back up".

    Raises:
        NotAsStored: a file is not what was stored and cannot be rebuilt.
        InUse: the structures are being changed.
        InputError: the file cannot be written.
    """
    file = Path(file).absolute()
    if file.is_dir() or not file.parent.is_dir():
        what = "is a folder" if file.is_dir() else "has no folder"
        raise InputError(f"{file} {what}.", "Name a file in a folder that exists.")
    project.annotations.check_unchanging()
    beside = file.parent if project.read_only else project.root  # hard links need the same disk
    remove_held_files(beside)
    with held_files(beside) as place:
        moment, names = _hold(project, place)
        with atomic_path(file) as part:
            _pack(project, place, names, part, moment, emit)
    return Backup(file, len(names), file.stat().st_size, moment)


def _hold(project: Project, place: Path) -> tuple[float, list[str]]:
    """Copy the database into `place` and give all that it names a second name there."""
    alone = contextlib.nullcontext() if project.read_only else project.together()
    with alone:  # no process commits meanwhile
        moment = time.time()
        project.copy_database(place / _DATABASE)
        kept = [file for file in project.cases.files.all() if not _left_out(project, file)]
        names = [file.name for file in kept]
        names += [name for name in _printed(project) if name not in names]
        for name in names:
            if not name.startswith(_UNCHANGING):
                _link(project.cases.files.path(name), place / name)
    for name in names:  # copied where there are no hard links: that takes too long to wait for
        if name.startswith(_UNCHANGING):
            _link(project.cases.files.path(name), place / name)
    _complete(place / _DATABASE, names)
    _heal_maps(place, kept)
    found = [name for name in names if (place / name).is_file()]
    lost = [file.name for file in kept if file.name not in found]
    if lost:
        raise NotAsStored(
            f"{lost[0]} is missing, or not what was stored.", "Repair the project first."
        )
    return moment, [_DATABASE, *found]


def _left_out(project: Project, file: KeptFile) -> bool:
    """Whether a file is one of a model that is not the newest."""
    if not file.name.startswith(f"{ROUNDS}/"):
        return False
    return int(file.name.split("/")[1]) != project.rounds.current() - 1


def _printed(project: Project) -> Iterator[str]:
    """Files that no hash is needed of: what rounds say of themselves, and the plan."""
    for name in _PRINTED:
        for path in sorted(project.rounds_dir.glob(f"*/{name}")):
            yield path.relative_to(project.root).as_posix()
    for path in sorted(project.nnunet_dir.rglob("*.json")):
        if not path.name.endswith(".properties.json"):  # of preprocessed images
            yield path.relative_to(project.data).as_posix()


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(source, target)


def _complete(file: Path, names: list[str]) -> None:
    """Let a copied database name these files alone, and have its images itself."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        known = [name for (name,) in database.execute("SELECT name FROM files")]
        gone = [(name,) for name in known if name not in set(names)]
        database.executemany("DELETE FROM files WHERE name = ?", gone)
        database.execute("DELETE FROM meta WHERE key = 'data'")


def _heal_maps(place: Path, kept: Iterable[KeptFile]) -> None:
    """Make what the database names of label maps that were written and not yet committed."""
    with Project.open(place, read_only=True) as held:
        for file in kept:
            target = place / file.name
            if not target.is_file() or sha256_file(target) == file.sha256 or file.case is None:
                continue
            if file.name == f"{MAPS}/{file.case}{EXACT_ENDING}":
                array = held.annotations.maps.rebuilt(file.case)
                image = held.cases.row(file.case).image
                target.unlink()  # another name of the project's own file
                write_like(array, image, target)
            if sha256_file(target) != file.sha256:
                target.unlink()


def _pack(
    project: Project, place: Path, names: list[str], part: Path, moment: float, emit: Emit
) -> None:
    """Write the archive; images and label maps are compressed already."""
    hashes = {name: sha256_file(place / name) for name in names}
    about = {"format": _FORMAT, "project": project.name, "moment": moment, "files": hashes}
    total = sum((place / name).stat().st_size for name in names)
    progress = ByteProgress("back up", total, emit)
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr(MANIFEST, json.dumps(about, ensure_ascii=False))
        for name in names:
            with (
                (place / name).open("rb") as source,
                archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target,
            ):
                while block := source.read(_BLOCK):
                    target.write(block)
                    progress.add(len(block))


# --- bring one back -------------------------------------------------------------------------------


def restore(file: Path, folder: Path, emit: Emit) -> Project:
    """Make the project of a backup in a new folder, whole or not at all, and open it.

    Args:
        folder: a new one, or an empty one.
        emit: hears progress events of the phase "restore".

    Raises:
        InputError: the file is no backup, or damaged, or the folder is taken.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already.", "Give a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_held_files(folder.parent)
    with held_files(folder.parent) as place:
        made = place / "project"
        made.mkdir(mode=0o700)  # closed to other users, as `Project.create` makes it
        _unpack(Path(file), made, emit)
        Project.open(made).close()
        _sync(made)
        if folder.exists():
            folder.rmdir()
        made.replace(folder)
    sync_folder(folder.parent)
    forget_digests()
    return Project.open(folder)


def _unpack(file: Path, place: Path, emit: Emit) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            hashes = _manifest(archive, file)
            members = _checked(archive, hashes, file)
            progress = ByteProgress("restore", sum(each.file_size for each in members), emit)
            for member in members:
                target = place / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as copy:
                    while block := source.read(_BLOCK):
                        copy.write(block)
                        progress.add(len(block))
                if sha256_file(target) != hashes[member.filename]:
                    raise _no_backup(file, f"{member.filename} in it is damaged")
    except FileNotFoundError as error:
        raise InputError(f"There is no file {file}.", "Check the path.") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _no_backup(file, "it is no zip file, or damaged") from error


def _manifest(archive: zipfile.ZipFile, file: Path) -> dict[str, str]:
    try:
        info = archive.getinfo(MANIFEST)
        if info.file_size > _LARGEST_MANIFEST or info.compress_type != zipfile.ZIP_STORED:
            raise ValueError
        about: Any = json.loads(archive.read(info))
        hashes = {str(name): str(sha256) for name, sha256 in about["files"].items()}
        if about["format"] > _FORMAT:
            raise InputError(f"{file} was made by a newer version.", "Update ALUNet to restore it.")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _no_backup(file, "it has no list of its files") from error
    if _DATABASE not in hashes:
        raise _no_backup(file, "it holds no project")
    return hashes


def _checked(archive: zipfile.ZipFile, hashes: dict[str, str], file: Path) -> list[zipfile.ZipInfo]:
    """The members that the list names; nothing leaves the folder, links, or grows when unpacked."""
    members = [info for info in archive.infolist() if info.filename != MANIFEST]
    if sorted(info.filename for info in members) != sorted(hashes):
        raise _no_backup(file, "its files are not those of its list")
    size = file.stat().st_size
    for info in members:
        path, mode = PurePosixPath(info.filename), info.external_attr >> 16
        inside = not path.is_absolute() and not set(path.parts) & {"..", "."} and path.parts
        plain = not set(info.filename) & set('\\:*?"<>|\0') and path.as_posix() == info.filename
        if not inside or not plain or mode & 0o170000 not in (0, 0o100000):
            raise _no_backup(file, f"it holds {info.filename!r}, which is no file of a project")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise _no_backup(file, f"{info.filename} in it is compressed")
    if sum(info.file_size for info in members) > size:
        raise _no_backup(file, f"its files have more bytes than its own {size}")
    return members


def _no_backup(file: Path, why: str) -> InputError:
    log.info("%s: %s", file, why)
    return InputError(f"{file} cannot be restored: {why}.", "Give a file that a backup has made.")


def _sync(folder: Path) -> None:
    """Bring everything below a folder to the disk."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_folder(path)
            continue
        with path.open("r+b") as stream:
            os.fsync(stream.fileno())
