"""Every version of samples' labels: voxels in files, the rest in a table."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from alunet.storage.database import Database
from alunet.storage.files import atomic_path


class Versions:
    """The table of versions, and the files in `folder`; it is made with the first."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._db, self._folder = database, folder

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

    def read(self, sample: int, number: int) -> np.ndarray:
        """Return the voxels of a version, (k, j, i) of the sample's raw box."""
        with np.load(self.file(sample, number), allow_pickle=False) as content:
            labels: np.ndarray = content["labels"]
        return labels

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
        self._db.execute(
            "INSERT INTO versions (sample_id, number, base, conflict, derived, author, seconds, "
            "status, time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                sample,
                number,
                base,
                int(conflict),
                int(derived),
                author,
                seconds,
                status,
                time.time() if moment is None else moment,
            ),
        )
