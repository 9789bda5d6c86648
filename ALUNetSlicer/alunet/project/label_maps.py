"""The label map of each case: written whole, compared with its hash when read, rebuilt where it is
not what was stored.

What is annotated is known twice. Beside a label map there is a copy of it from the last time when
it was changed as a whole (labels from a file, labels taken back, other structures), and each slice
that was submitted since is a version of its own. Copy and versions together are what the database
says of the label map, down to the last voxel: so it can be rebuilt, and the hash of the voxels
proves that it is. Voxels that neither claims are gone then.

Two copies take turns, so that the one that the database names is never the one being written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import InputError
from alunet.imaging.reading import EXACT_ENDING, copy_file, read_labels
from alunet.imaging.writing import write_like
from alunet.project.annotated import Counts, counted_voxels
from alunet.project.case_table import CaseRow, CaseTable
from alunet.project.events import Events
from alunet.project.kept_files import NotAsStored
from alunet.project.repairs import keep_apart, tell
from alunet.project.seals import Seals
from alunet.project.settings import Settings
from alunet.project.versions import Versions, labels_hash
from alunet.schema import NOT_ANNOTATED
from alunet.storage.database import Database
from alunet.storage.files import sha256_file, written_name
from alunet.storage.locks import FileLock, InUse

_COPIES = ("a", "b")
Placed = tuple[int, Any, np.ndarray]
"""A sample, the index of its voxels in the case's array, and their labels."""


@dataclass(frozen=True)
class Stored:
    """A label map that was written, and that the database does not know yet.

    Attributes:
        counts: its voxels.
        sha256: of its file.
        voxels: SHA-256 of its voxels.
        copy: which copy was made of it; None: the last one stays, with what is drawn over it.
    """

    counts: Counts
    sha256: str
    voxels: str
    copy: str | None


class LabelMaps:
    """The label maps in `folder`.

    Args:
        locks: folder of the locks, one for each case.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        locks: Path,
        settings: Settings,
        cases: CaseTable,
        versions: Versions,
        seals: Seals,
        events: Events,
    ) -> None:
        self._db, self.folder, self._locks, self._settings = database, folder, locks, settings
        self._cases, self._versions, self._files = cases, versions, cases.files
        self._seals, self._events = seals, events

    def file(self, case: str) -> Path:
        """Return where a case's label map is, or will be while nothing is annotated."""
        return self.folder / f"{case}{EXACT_ENDING}"

    def copy(self, case: str, which: str) -> Path:
        """Return where a copy of a case's label map is."""
        return self.folder / "copies" / which / f"{case}{EXACT_ENDING}"

    def lock(self, case: str) -> FileLock:
        """Return the lock of a case's label map, to be held from reading it until it is written."""
        self._locks.mkdir(exist_ok=True)
        return FileLock(self._locks / f"{case}.lock")

    def remove_leftovers(self) -> None:
        """Remove what killed processes left half written, and nothing that is being written."""
        for folder in (self.folder, *(self.folder / "copies" / which for which in _COPIES)):
            for leftover in folder.glob(f"tmp-*{EXACT_ENDING}"):
                if (name := written_name(leftover)) is None:
                    continue
                lock = self.lock(name.removesuffix(EXACT_ENDING))
                if lock.take():
                    leftover.unlink(missing_ok=True)
                lock.release()

    # --- read -------------------------------------------------------------------------------------

    def read(self, case: str, *, locked: bool = False) -> np.ndarray:
        """Return a case's label map on the grid of its image file, axes (k, j, i), uint8.

        Voxels that were not annotated hold `NOT_ANNOTATED`. A label map that is not what was stored
        is rebuilt first, and that is said.

        Args:
            locked: the caller holds the lock of the case.

        Raises:
            InputError: there is no such case.
            NotAsStored: it cannot be rebuilt, or what the database says of it is damaged.
        """
        known = self._cases.row(case)
        if known.voxels is None:
            return np.full(known.shape, NOT_ANNOTATED, np.uint8)
        self._seals.check_case(case)
        found = self._sound(case, known)
        return self._healed(case, locked) if found is None else found

    def sound_file(self, case: str) -> Path:
        """Return the file of an annotated case's label map, which is what was stored.

        Raises:
            NotAsStored: see `read`.
        """
        self._seals.check_case(case)
        if not self._files.is_sound(self.file(case)):
            self._healed(case, locked=False)
        return self.file(case)

    def version(self, sample: int, number: int) -> np.ndarray:
        """Return the voxels of a version; where its file is damaged, and the label map still holds
        them, from there, and the file is written again.

        Raises:
            NotAsStored: it is lost.
        """
        case = str(self._db.value("SELECT case_name FROM samples WHERE id = ?", (sample,)))
        self._seals.check_case(case)
        try:
            return self._versions.read(sample, number)
        except NotAsStored:
            labels = self._held(case, sample)
            if labels is None or not self._versions.restore(sample, number, labels, case):
                raise
            text = f"Version {number} of sample {sample} was damaged, and was rebuilt from the "
            tell(
                self._events,
                self._files.name(self._versions.file(sample, number)),
                f"{text}label map.",
            )
            return labels

    def holds(self, sample: int, number: int) -> bool:
        """Return whether the label map holds what a version held when it was stored."""
        case = self._db.value("SELECT case_name FROM samples WHERE id = ?", (sample,))
        labels = None if case is None else self._held(str(case), sample)
        return labels is not None and self._versions.hash_of(sample, number) == labels_hash(labels)

    def all(self) -> list[str]:
        """Return the cases that have a label map, by name."""
        rows = self._db.rows("SELECT name FROM cases WHERE voxels IS NOT NULL ORDER BY name")
        return [name for (name,) in rows]

    def _held(self, case: str, sample: int) -> np.ndarray | None:
        """What the label map of a case holds of a sample; None where it cannot be written to."""
        known = self._cases.row(case)
        found = None if known.voxels is None else self._sound(case, known)
        if found is None or self._db.read_only:
            return None
        box = self._db.rows(
            "SELECT k_lo, k_hi, j_lo, j_hi, i_lo, i_hi FROM samples WHERE id = ?", (sample,)
        )[0]
        return found[tuple(slice(*box[axis : axis + 2]) for axis in (0, 2, 4))]

    def is_sound(self, case: str) -> bool:
        """Return whether the file of an annotated case's label map is what was stored."""
        file = self.file(case)
        if self._files.hash_of(file) is not None and self._files.is_sound(file):
            return True
        if self._db.read_only:
            return False
        with self.lock(case):  # another process may have written it and not yet committed
            return self._files.hash_of(file) is not None and self._files.is_sound(file)

    def renew_copy(self, case: str) -> None:
        """Make another copy of a label map; what was drawn over the last one is in it.

        Raises:
            NotAsStored: the label map is damaged, too.
        """
        with self.lock(case):
            self.read(case, locked=True)
            which = self.next_copy(case)
            copy_file(self.file(case), self.copy(case, which))
            with self._db.transaction():
                self._name_copy(case, which, sha256_file(self.copy(case, which)))

    def _sound(self, case: str, known: CaseRow) -> np.ndarray | None:
        """The label map as its file holds it; None where that is not what was stored."""
        if not self._files.is_sound(self.file(case)):
            return None
        try:
            array = read_labels(self.file(case)).astype(np.uint8, copy=False)
        except InputError:
            return None
        return array if array.shape == known.shape else None

    def _healed(self, case: str, locked: bool) -> np.ndarray:
        """The label map of a file that is not what was stored, which is rebuilt.

        Another process may have written it and not yet committed: the lock decides.
        """
        if not locked and not self._db.read_only:
            with self.lock(case):
                return self._healed(case, locked=True)
        known = self._cases.row(case)
        if known.voxels is None:
            return np.full(known.shape, NOT_ANNOTATED, np.uint8)
        found = self._sound(case, known)
        if found is not None:
            return found
        if self._settings.change is not None:
            raise InUse("The structures are being changed.", "Try again in a moment.")
        array = self.rebuilt(case)
        if not self._db.read_only:
            self._put_back(case, array)
        return array

    def _put_back(self, case: str, array: np.ndarray) -> None:
        """Write a rebuilt label map, say so, and keep the damaged file apart."""
        file = self.file(case)
        gone = ""
        if file.is_file():
            gone = self._unclaimed(file, array)
            keep_apart(self.folder.parent, file)
        stored = self.paint(case, array)
        with self._db.transaction():
            self.keep(case, stored)
            text = (
                f"The label map of '{case}' was not what was stored, and was rebuilt from its "
                f"versions{gone}."
            )
            tell(self._events, self._files.name(file), text)

    @staticmethod
    def _unclaimed(file: Path, array: np.ndarray) -> str:
        try:
            old = read_labels(file)
        except InputError:
            return ""
        changed = np.count_nonzero(old != array) if old.shape == array.shape else 0
        return f"; {changed:,} voxels that no version claims are gone" if changed else ""

    def rebuilt(self, case: str) -> np.ndarray:
        """Return a case's label map from its copy and the versions submitted since, array
        (k, j, i).

        Raises:
            NotAsStored: they do not give what was stored.
        """
        rows = self._db.rows("SELECT shape, copy, map FROM cases WHERE name = ?", (case,))
        shape, which, wanted = rows[0]
        array = np.full(json.loads(shape), NOT_ANNOTATED, np.uint8)
        try:
            if which is not None:
                copy = self.copy(case, which)
                self._files.check([copy], "")
                array = read_labels(copy).astype(np.uint8)
            for place, labels in self._painted(case):
                array[place] = labels
        except InputError as error:
            raise self._lost(case) from error
        if array.shape != tuple(json.loads(shape)) or labels_hash(array) != wanted:
            raise self._lost(case)
        return array

    def _lost(self, case: str) -> NotAsStored:
        return NotAsStored(
            f"{self.file(case)} is damaged, and so is what it could be rebuilt from.",
            "Restore the project from a backup.",
        )

    def _painted(self, case: str) -> list[tuple[tuple[slice, ...], np.ndarray]]:
        """Where each version since the copy is, and its labels."""
        rows = self._db.rows(
            "SELECT p.sample_id, p.number, k_lo, k_hi, j_lo, j_hi, i_lo, i_hi FROM painted p "
            "JOIN samples s ON s.id = p.sample_id WHERE p.case_name = ? ORDER BY p.id",
            (case,),
        )
        return [
            (
                tuple(slice(low, high) for low, high in zip(box[::2], box[1::2], strict=True)),
                self._versions.read(sample, number),
            )
            for sample, number, *box in rows
        ]

    # --- write ------------------------------------------------------------------------------------

    def paint(self, case: str, array: np.ndarray) -> Stored:
        """Write a case's label map; the caller holds its lock, and notes it with `keep`."""
        known = self._row(case)
        write_like(array, known.image, self.file(case))
        counts = counted_voxels(array, known.geometry)
        return Stored(counts, sha256_file(self.file(case)), labels_hash(array), None)

    def _row(self, case: str) -> CaseRow:
        """What is known of a case whose label map is written on the grid of its image."""
        known = self._cases.row(case)
        self._files.check_case(case, [known.image])
        return known

    def write(self, case: str, array: np.ndarray) -> Stored:
        """Write a case's label map that changed as a whole, and a copy of it; see `paint`."""
        return self.stage(case, array, self.file(case))

    def stage(self, case: str, array: np.ndarray, place: Path) -> Stored:
        """Write what will be a case's label map to `place`, and a copy of it; see `paint`."""
        known, which = self._row(case), self.next_copy(case)
        write_like(array, known.image, self.copy(case, which))
        copy_file(self.copy(case, which), place)
        counts = counted_voxels(array, known.geometry)
        return Stored(counts, sha256_file(place), labels_hash(array), which)

    def next_copy(self, case: str) -> str:
        """Return the copy that the database does not name; its folder is there."""
        named = self._db.value("SELECT copy FROM cases WHERE name = ?", (case,))
        which = _COPIES[named == _COPIES[0]]
        self.copy(case, which).parent.mkdir(parents=True, exist_ok=True)
        return which

    def keep(self, case: str, stored: Stored, painted: Sequence[tuple[int, int]] = ()) -> None:
        """Note a label map that was written, within the caller's transaction.

        Args:
            painted: samples and numbers of the versions that were drawn over the last copy.
        """
        voxels, unseen = stored.counts
        self._db.execute(
            "UPDATE cases SET voxels = ?, unseen = ?, map = ? WHERE name = ?",
            (json.dumps(voxels), unseen, stored.voxels, case),
        )
        self._files.note(self.file(case), case, stored.sha256)
        if stored.copy is not None:
            self._name_copy(case, stored.copy, stored.sha256)
        self._db.many(
            "INSERT INTO painted (case_name, sample_id, number) VALUES (?, ?, ?)",
            [(case, sample, number) for sample, number in painted],
        )

    def _name_copy(self, case: str, which: str, sha256: str) -> None:
        """Note a copy in the place of the last one, and that nothing is drawn over it yet."""
        for other in _COPIES:
            self._files.forget(self.copy(case, other))
        self._files.note(self.copy(case, which), case, sha256)
        self._db.execute("UPDATE cases SET copy = ? WHERE name = ?", (which, case))
        self._db.execute("DELETE FROM painted WHERE case_name = ?", (case,))

    def remove(self, case: str) -> None:
        """Remove the label map of a case in which nothing is annotated any more; the caller holds
        its lock.
        """
        files = [self.file(case), *(self.copy(case, which) for which in _COPIES)]
        with self._db.transaction():
            self._db.execute(
                "UPDATE cases SET voxels = NULL, unseen = 0, outdated = 0, map = NULL, copy = NULL "
                "WHERE name = ?",
                (case,),
            )
            self._db.execute("DELETE FROM painted WHERE case_name = ?", (case,))
            for file in files:
                self._files.forget(file)
        for file in files:
            file.unlink(missing_ok=True)
