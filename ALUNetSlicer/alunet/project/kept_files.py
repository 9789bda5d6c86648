"""Which files belong to a project, and the SHA-256 that each had when it was written.

Disks forget a bit now and then, and no file system of a workstation says so. Each file that cannot
be computed again (images, reference labels, label maps, versions, weights) is compared with its
hash before it is used, so that damage is found where it is and goes no further.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alunet.errors import InputError
from alunet.project.identity import comparable, content_of
from alunet.storage.database import Database
from alunet.storage.files import sha256_file

IMAGES, LABELS, MAPS, HISTORY, ROUNDS = (
    "images",
    "labels",
    "annotations",
    "annotations/history",
    "rounds",
)
"""Folders of the files that are kept."""
_OF_DATA = ("images/", "labels/", "nnunet/")

_digests: dict[Path, tuple[tuple[int, int, int], str]] = {}


class NotAsStored(InputError):
    """A file or a row is not as it was stored."""


@dataclass(frozen=True)
class KeptFile:
    """A file as it was written.

    Attributes:
        name: path below the project, with slashes; images, references and plan: below the project
            that has the data.
        case: of which it is; None for a file of all.
    """

    name: str
    sha256: str
    case: str | None

    @property
    def of_data(self) -> bool:
        """Whether it is one of the data, which several projects may share."""
        return self.name.startswith(_OF_DATA)


class KeptFiles:
    """The table of files.

    Args:
        root: folder of the project.
        data: folder that holds images/, labels/ and nnunet/.
    """

    def __init__(self, database: Database, root: Path, data: Path) -> None:
        self._db, self._root, self._data = database, root, data

    def all(self) -> list[KeptFile]:
        """Return the files by name."""
        rows = self._db.rows("SELECT name, sha256, case_name FROM files ORDER BY name")
        return [KeptFile(*row) for row in rows]

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return (self._data if name.startswith(_OF_DATA) else self._root) / name

    def name(self, path: Path) -> str:
        """Return the name under which a file of the project is kept."""
        root = self._root if path.is_relative_to(self._root) else self._data
        return path.relative_to(root).as_posix()

    def note(self, path: Path, case: str | None = None, sha256: str | None = None) -> None:
        """Note a file that was written; within the caller's transaction where there is one.

        Args:
            sha256: None: it is read.
        """
        self._db.execute(
            "INSERT OR REPLACE INTO files (name, sha256, case_name) VALUES (?, ?, ?)",
            (self.name(path), sha256 or sha256_file(path), case),
        )

    def note_moved(self, staged: Path, target: Path) -> None:
        """Note a file that will be moved over another one, within the caller's transaction."""
        case = self._db.value("SELECT case_name FROM files WHERE name = ?", (self.name(target),))
        self.note(target, None if case is None else str(case), sha256_file(staged))

    def forget(self, path: Path) -> None:
        """Note that a file does not belong to the project any more."""
        self._db.execute("DELETE FROM files WHERE name = ?", (self.name(path),))

    def hash_of(self, path: Path) -> str | None:
        """Return the hash of a file when it was written; None where that is not known."""
        found = self._db.value("SELECT sha256 FROM files WHERE name = ?", (self.name(path),))
        return None if found is None else str(found)

    def is_sound(self, path: Path, *, once: bool = False) -> bool:
        """Return whether a file is as it was written; where no hash is known, whether it is there.

        Args:
            once: read it once for each process, and again when its size, its time or its place on
                the disk changed. Images and weights are large and read often; a bit that flips
                while a process runs is found by the next one. Label maps and versions are read
                every time: they are small, and what is drawn next is written on top of them.
        """
        known = self.hash_of(path)
        try:
            return path.is_file() if known is None else _digest(path, once) == known
        except OSError:
            return False

    def check(self, paths: Iterable[Path], hint: str) -> None:
        """Compare files with their hashes, once for each process.

        Raises:
            NotAsStored: one is missing or not as it was written.
        """
        for path in paths:
            if not self.is_sound(path, once=True):
                what = "is damaged: it is not as it was stored" if path.is_file() else "is missing"
                raise NotAsStored(f"{path} {what}.", hint)

    def check_case(self, name: str, files: Iterable[Path]) -> None:
        """Compare files of a case, images or its reference label, with their hashes.

        Of a case that was added before hashes were kept, the voxels are compared with the number
        that was kept then, and the hashes of all its files are noted from now on.

        Raises:
            NotAsStored: one is missing or not as it was stored.
        """
        wanted = list(files)
        self.check(wanted, self._hint(name))
        if not self._db.read_only and any(self.hash_of(file) is None for file in wanted):
            self._note_first(name)

    def _note_first(self, name: str) -> None:
        images, label, kept = self._db.rows(
            "SELECT images, label, content FROM cases WHERE name = ?", (name,)
        )[0]
        own = [self._data / "images" / file for file in json.loads(images)]
        content = comparable(kept)
        if content is not None and content_of(own) != content:
            raise NotAsStored(
                f"The images of case '{name}' are damaged: their voxels are not those that were "
                "added.",
                self._hint(name),
            )
        found = [*own, *([self._data / "labels" / label] if label else [])]
        hashes = [(file, sha256_file(file)) for file in found if self.hash_of(file) is None]
        with self._db.transaction():
            for file, sha256 in hashes:
                self.note(file, name, sha256)

    def _hint(self, name: str) -> str:
        """Where the files of a case can be had again."""
        stamp = self._db.value("SELECT stamp FROM cases WHERE name = ?", (name,))
        sources = [] if stamp is None else [str(entry[0]) for entry in json.loads(str(stamp))]
        there = [source for source in sources if Path(source).is_file()]
        again = f", or from where it was added: {there[0]}" if there else ""
        return f"Restore it from a backup{again}."


def _digest(path: Path, once: bool) -> str:
    about = path.stat()
    stamp = (about.st_size, about.st_mtime_ns, about.st_ino)
    if not once or (kept := _digests.get(path)) is None or kept[0] != stamp:
        kept = (stamp, sha256_file(path))
        _digests[path] = kept
    return kept[1]


def forget_digests(paths: Sequence[Path] | None = None) -> None:
    """Read files again although this process did; all of them, or these."""
    for path in list(_digests) if paths is None else paths:
        _digests.pop(path, None)
