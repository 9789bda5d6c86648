"""Every version of samples' labels: voxels in files, the rest in a table."""

from __future__ import annotations

import hashlib
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np

from alunet.project.kept_files import KeptFiles, NotAsStored
from alunet.project.seals import Seals
from alunet.storage.database import Database
from alunet.storage.files import atomic_path


class Versions:
    """The table of versions, and the files in `folder`; it is made with the first."""

    def __init__(self, database: Database, folder: Path, files: KeptFiles, seals: Seals) -> None:
        self._db, self._folder, self._files, self._seals = database, folder, files, seals
        self._written: dict[tuple[int, int], str] = {}

    def last(self, sample: int) -> int:
        """Return the last number that was given to any version, also to one that does not count;
        0 where there is none.
        """
        return self._db.number(
            "SELECT coalesce(max(number), 0) FROM versions WHERE sample_id = ?", (sample,)
        )

    def file(self, sample: int, number: int) -> Path:
        """Return where the voxels of a version are."""
        return self._folder / f"{sample}-{number}.npz"

    def write(self, sample: int, number: int, labels: np.ndarray) -> None:
        """Write the voxels of a version; they are on disk when this returns."""
        file = self.file(sample, number)
        file.parent.mkdir(exist_ok=True)
        for leftover in file.parent.glob(f"tmp-*-{sample}-*.npz"):
            leftover.unlink(missing_ok=True)
        with atomic_path(file) as temporary:
            np.savez_compressed(temporary, labels=labels)
        self._written[sample, number] = labels_hash(labels)

    def read(self, sample: int, number: int) -> np.ndarray:
        """Return the voxels of a version, (k, j, i) of the sample's raw box.

        Raises:
            NotAsStored: its file is missing or not what was stored.
        """
        file = self.file(sample, number)
        try:
            if self._files.is_sound(file):
                return read_version(file)
        except ValueError:
            pass
        raise NotAsStored(
            f"{file} is damaged: version {number} of sample {sample} is not what was stored.",
            "Restore it from a backup, or draw this slice again.",
        )

    def hash_of(self, sample: int, number: int) -> str | None:
        """Return the hash of a version's voxels; None where it is not known."""
        select = "SELECT voxels FROM versions WHERE sample_id = ? AND number = ?"
        found = self._db.value(select, (sample, number))
        return None if found is None else str(found)

    def restore(self, sample: int, number: int, labels: np.ndarray, case: str) -> bool:
        """Write the voxels of a version again, where these are what was stored; return whether
        they are.
        """
        if self.hash_of(sample, number) != labels_hash(labels):
            return False
        self.write(sample, number, labels)
        del self._written[sample, number]
        self._files.note(self.file(sample, number), case)
        return True

    def note(
        self,
        sample: int,
        number: int,
        base: int,
        author: str,
        status: str,
        *,
        seconds: float | None = None,
        conflict: bool = False,
        derived: bool = False,
        moment: float | None = None,
    ) -> None:
        """Store a version whose voxels are written, within the caller's transaction.

        Args:
            base: the version that it corrects; 0 for none.
            conflict: it counts for nothing, as its base was not the newest.
            derived: a change of the structures made it of its base, and no person.
            moment: when it was drawn, seconds since 1970; None: now.
        """
        case = self._db.value("SELECT case_name FROM samples WHERE id = ?", (sample,))
        self._files.note(self.file(sample, number), str(case))
        self._seals.add(
            "versions",
            {
                "sample_id": sample,
                "number": number,
                "base": base,
                "conflict": int(conflict),
                "derived": int(derived),
                "author": author,
                "seconds": seconds,
                "status": status,
                "time": time.time() if moment is None else moment,
                "voxels": self._written.pop((sample, number)),
            },
        )


def read_version(file: Path) -> np.ndarray:
    """Return the voxels in the file of a version.

    Raises:
        ValueError: it is missing or damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as content:
            labels: np.ndarray = content["labels"]
            return labels
    except (OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


def labels_hash(labels: np.ndarray) -> str:
    """Return the SHA-256 of a version's voxels and shape."""
    digest = hashlib.sha256(str(labels.shape).encode())
    digest.update(np.ascontiguousarray(labels, np.uint8).data)
    return digest.hexdigest()
