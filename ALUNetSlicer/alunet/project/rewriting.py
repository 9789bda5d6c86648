"""A change of all stored labels at once, crash-safe: new files, one moment in the database, moves.

New versions are written under numbers that the database does not know yet, new label maps into the
folder ``change/``. One transaction makes all of it count; then the label maps are moved to their
places. Whoever opens the project after a kill finishes the moves, or forgets what did not count.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.imaging.reading import read_labels
from alunet.imaging.writing import write_like
from alunet.project.annotations import Annotations
from alunet.project.cases import Cases
from alunet.project.label_maps import Stored
from alunet.project.rounds import Rounds
from alunet.project.settings import Settings
from alunet.schema import Status
from alunet.storage.database import Database
from alunet.storage.files import sync_folder

Labels = npt.NDArray[Any]
Recode = Callable[[Labels], Labels]
"""Gives the new labels of old ones; the same voxel by voxel wherever it is applied."""


@dataclass(frozen=True)
class Version:
    """Labels of a sample that will count."""

    sample: int
    case: str
    number: int
    base: int
    status: Status
    author: str
    time: float


@dataclass(frozen=True)
class Staged:
    """What a change wrote.

    Attributes:
        versions: new ones, behind them that of a sample whose labels had none.
        maps: the label map of each case whose label map changes.
        changed: annotated samples whose labels change, ascending.
    """

    versions: tuple[Version, ...]
    maps: dict[str, Stored]
    changed: tuple[int, ...]


class Rewriting:
    """Changes all labels of a project that this process has for itself."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        root: Path,
        cases: Cases,
        annotations: Annotations,
        rounds: Rounds,
    ) -> None:
        self._db, self._settings, self._root = database, settings, root
        self._cases, self._annotations, self._rounds = cases, annotations, rounds
        self._folder = root / "change"
        self._places = {
            "annotations": annotations.maps.folder,
            "labels": root / "labels",
        }

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Refuse submissions while the block runs, and move what it made count when it ends."""
        self._settings.change = {"state": "staging"}
        try:
            for case in self._cases.all(
                "pool", removed=True
            ):  # wait for those who write at the moment
                with self._annotations.case_lock(case.name):
                    pass
            shutil.rmtree(self._folder, ignore_errors=True)
            for name in self._places:
                (self._folder / name).mkdir(parents=True)
            yield
        finally:
            self.recover()

    def forget_training(self) -> None:
        """Remove what an interrupted training left: it began with other labels."""
        folder = self._root / "rounds" / f"{self._rounds.current():03d}"
        (folder / "learned.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "training", ignore_errors=True)

    def recover(self) -> None:
        """Move what counts, forget what does not."""
        change = self._settings.change
        if change is not None and change["state"] == "moving":
            for name, place in self._places.items():
                for file in sorted((self._folder / name).glob("*")):
                    file.replace(place / file.name)
                if place.is_dir():
                    sync_folder(place)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._settings.change = None

    # --- what there is ----------------------------------------------------------------------------

    def annotated(self) -> bool:
        """Return whether any labels were ever handed in."""
        return bool(self._touched())

    def drawn(self, number: int) -> int:
        """Return how many voxels of label maps, drafts and references hold a structure."""
        maps = (self._annotations.read(case) for case in self._annotated_cases())
        drafts = (
            self._annotations.version(sample)[1]
            for sample, state in self._touched().items()
            if state != "labelled"
        )
        references = (
            read_labels(case.label) for case in self._cases.all(removed=True) if case.label
        )
        return sum(
            int(np.count_nonzero(labels == number))
            for source in (maps, drafts, references)
            for labels in source
        )

    def _annotated_cases(self) -> list[str]:
        rows = self._db.rows("SELECT name FROM cases WHERE voxels IS NOT NULL ORDER BY name")
        return [name for (name,) in rows]

    def _touched(self) -> dict[int, str]:
        """State of each sample that is annotated or has a version, by ascending id."""
        return dict(
            self._db.rows(
                "SELECT id, state FROM samples WHERE state = 'labelled'"
                " OR id IN (SELECT sample_id FROM versions WHERE NOT conflict) ORDER BY id"
            )
        )

    # --- write ------------------------------------------------------------------------------------

    def stage(self, recode: Recode, author: str, *, references: bool) -> Staged:
        """Write the new labels of everything beside the old ones.

        Args:
            author: of the new versions.
            references: whether hidden reference labels change, too.
        """
        maps: dict[str, Stored] = {}
        for case in self._annotated_cases():
            old = self._annotations.read(case)
            new = recode(old)
            if not np.array_equal(old, new):
                maps[case] = self._annotations.maps.stage(
                    case, new, self._staged("annotations", case)
                )
        for own in self._cases.all(removed=True) if references else ():
            if own.label is not None:
                old = read_labels(own.label)
                if not np.array_equal(old, new := recode(old)):
                    write_like(new, own.images[0], self._folder / "labels" / own.label.name)
        versions: list[Version] = []
        changed = []
        for sample, state in self._touched().items():
            made = self._versions(sample, recode, author)
            versions += made
            if made and state == "labelled":
                changed.append(sample)
        for name in self._places:
            sync_folder(self._folder / name)
        return Staged(tuple(versions), maps, tuple(changed))

    def _staged(self, place: str, case: str) -> Path:
        return self._folder / place / self._annotations.file(case).name

    def _versions(self, sample: int, recode: Recode, author: str) -> list[Version]:
        """The new version of a sample, and one of its old labels where they had none."""
        base, old = self._annotations.version(sample)
        if np.array_equal(old, new := recode(old)):
            return []
        number = self._annotations.versions.last(sample)
        case, made = self._case_of(sample), []
        if base == 0:
            number += 1
            who, when = self._db.rows(
                "SELECT author, time FROM annotations WHERE sample_id = ? ORDER BY id DESC LIMIT 1",
                (sample,),
            )[0]
            made.append(Version(sample, case, number, 0, Status.DONE, who, when))
            self._annotations.versions.write(sample, number, old)
            base, status = number, Status.DONE
        else:
            status = Status(
                self._db.value(
                    "SELECT status FROM versions WHERE sample_id = ? AND number = ?", (sample, base)
                )
            )
        made.append(Version(sample, case, number + 1, base, status, author, time.time()))
        self._annotations.versions.write(sample, number + 1, new)
        return made

    def _case_of(self, sample: int) -> str:
        return str(self._db.value("SELECT case_name FROM samples WHERE id = ?", (sample,)))

    def note(self, staged: Staged, author: str) -> None:
        """Make what was written count, within the caller's transaction."""
        for v in staged.versions:
            self._annotations.versions.note(
                v.sample,
                v.number,
                v.base,
                v.author,
                v.status.value,
                derived=bool(v.base),
                moment=v.time,
            )
        cases = {version.sample: version.case for version in staged.versions}
        round_, now = self._rounds.of_new_labels(), time.time()
        for sample in staged.changed:
            self._annotations.note_labeled(sample, cases[sample], round_, author, None, now)
        for case, stored in staged.maps.items():
            self._annotations.maps.keep(case, stored)
        for file in sorted((self._folder / "labels").glob("*")):
            self._cases.files.note_moved(file, self._places["labels"] / file.name)
        self._settings.change = {"state": "moving"}
