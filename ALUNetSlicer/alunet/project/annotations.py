"""The annotated voxels of a project."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alunet.errors import InputError
from alunet.imaging.reading import EXACT_ENDING, read_labels
from alunet.imaging.writing import write_like
from alunet.project.samples import Samples
from alunet.schema import NOT_ANNOTATED
from alunet.storage.files import written_name
from alunet.storage.locks import FileLock


@dataclass(frozen=True)
class Costs:
    """What has been annotated so far.

    Attributes:
        samples: labelled samples, the unit of the budget.
        slices: distinct slices with a labelled sample.
        voxels: distinct annotated voxels of the image files.
        fraction: labelled samples as a part of the pool, 0 to 1.
    """

    samples: int
    slices: int
    voxels: int
    fraction: float


class Annotations(Samples):
    """The part of a `Project` that keeps label maps; needs what is declared here."""

    if TYPE_CHECKING:
        root: Path
        images_dir: Path
        annotations_dir: Path
        num_classes: int

    def annotation_file(self, case: str) -> Path:
        """Where a case's label map lies (or will lie, while nothing is annotated)."""
        return self.annotations_dir / f"{case}{EXACT_ENDING}"

    def annotation(self, case: str) -> np.ndarray:
        """A case's label map on the grid of its image file, axes (k, j, i), uint8.

        Voxels that were not annotated hold `NOT_ANNOTATED`.

        Raises:
            InputError: there is no such case.
        """
        shape, _, annotated = self._case_row(case)
        if annotated is None:
            return np.full(shape, NOT_ANNOTATED, np.uint8)
        array = read_labels(self.annotation_file(case))
        if array.shape != shape:
            raise InputError(f"{self.annotation_file(case)} has the shape {array.shape}, not {shape}.", "Restore it.")
        return array.astype(np.uint8, copy=False)

    def _case_row(self, case: str) -> tuple[tuple[int, ...], str, str | None]:
        """Shape, first image's file name and annotated voxels (JSON) of a case."""
        rows = self._db.rows("SELECT shape, images, voxels FROM cases WHERE name = ?", (case,))
        if not rows:
            raise InputError(f"There is no case {case!r} in the project.", "See the list of cases.")
        shape, images, voxels = rows[0]
        return tuple(json.loads(shape)), json.loads(images)[0], voxels

    def annotate(
        self,
        case: str,
        items: Iterable[tuple[int, np.ndarray]],
        *,
        round: int,
        author: str,
        seconds: float | None = None,
    ) -> None:
        """Stores labels of a case's samples; when this returns they are on disk.

        The label map is written first, the database after it: a crash between the two leaves voxels that no sample
        claims yet, and nothing that was acknowledged is lost. Labelling a sample again replaces its voxels, and the
        list of who labelled what when grows. A skipped sample is skipped no more.

        Args:
            case: name of the case.
            items: sample id and its labels, of the shape of the sample's raw box; values are classes or
                `NOT_ANNOTATED` where the annotator left a voxel open.
            round: number of the round.
            author: who annotated.
            seconds: time spent on all the items together.

        Raises:
            InputError: a sample is not of the case, or labels have another shape or other values.
        """
        self._check_writable()
        items, pool = [(int(sample), np.asarray(labels)) for sample, labels in items], self._need_pool()
        self._check_samples([sample for sample, _ in items])
        self._case_row(case)
        for sample, _ in items:
            if pool.case_name(sample) != case:
                raise InputError(f"Sample {sample} is of case {pool.case_name(sample)!r}, not {case!r}.")
        with self.case_lock(case):
            counts = self._store(case, [(sample, pool.raw_slices(sample), labels) for sample, labels in items])
            with self._db.transaction():
                self._note(case, [sample for sample, _ in items], counts, round, author, seconds)

    def case_lock(self, case: str) -> FileLock:
        """The lock of a case's label map, for everybody who reads it in order to write it."""
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True)
        return FileLock(folder / f"{case}.lock")

    def _remove_leftovers(self) -> None:
        """Removes what killed processes left half written, and nothing that somebody is writing."""
        for leftover in self.annotations_dir.glob(f"tmp-*{EXACT_ENDING}"):
            if (name := written_name(leftover)) is None:
                continue
            lock = self.case_lock(name.removesuffix(EXACT_ENDING))
            if lock.take():
                leftover.unlink(missing_ok=True)
            lock.release()

    def _store(self, case: str, placed: Sequence[tuple[int, tuple[slice, ...], np.ndarray]]) -> list[int]:
        """Writes samples' labels into a case's label map; the caller holds its lock. Gives the voxels of each class."""
        array = self.annotation(case)
        for sample, place, labels in placed:
            target = array[place]
            self.check_values(sample, labels, target.shape)
            target[...] = labels
        write_like(array, self.images_dir / self._case_row(case)[1], self.annotation_file(case))
        annotated = array[array != NOT_ANNOTATED]  # few voxels: counting all of them took half of the time
        return np.bincount(annotated, minlength=self.num_classes).tolist()

    def _note(
        self, case: str, samples: Sequence[int], counts: list[int], round: int, author: str, seconds: float | None
    ) -> None:
        """Notes in the database what `_store` wrote, within the caller's transaction."""
        share = None if seconds is None else float(seconds) / max(1, len(samples))
        now = time.time()
        self._db.many(
            "INSERT INTO annotations (sample_id, case_name, round, author, seconds, time) VALUES (?, ?, ?, ?, ?, ?)",
            [(sample, case, round, author, share, now) for sample in samples],
        )
        self._db.many("UPDATE samples SET state = 'labelled' WHERE id = ?", [(sample,) for sample in samples])
        self._db.many("DELETE FROM skipped WHERE sample_id = ?", [(sample,) for sample in samples])
        self._db.execute("UPDATE cases SET voxels = ? WHERE name = ?", (json.dumps(counts), case))

    def check_values(self, sample: int, labels: np.ndarray, shape: tuple[int, ...]) -> None:
        """Raises InputError for labels of another shape than `shape`, or with values that are none."""
        if labels.shape != shape:
            raise InputError(f"Labels of sample {sample} have the shape {labels.shape}, not {shape}.")
        known = (labels >= 0) & (labels < self.num_classes) & (labels == np.round(labels))
        strange = labels[~(known | (labels == NOT_ANNOTATED))]
        if strange.size:
            limits = f"Use 0 to {self.num_classes - 1}, or {NOT_ANNOTATED} for voxels left open."
            raise InputError(f"Labels of sample {sample} hold the value {strange[0]}.", limits)

    def class_voxels(self) -> np.ndarray:
        """Annotated voxels of each class over all pool cases, int64 (K,)."""
        return self.case_voxels()[0].sum(axis=0)

    def case_voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the M pool cases with annotations, by name: annotated voxels of each class (M, K), all voxels (M,); int64.
        """
        rows = self._db.rows(
            "SELECT voxels, shape FROM cases WHERE role = 'pool' AND voxels IS NOT NULL ORDER BY name"
        )
        voxels = np.array([json.loads(row[0]) for row in rows], np.int64).reshape(-1, self.num_classes)
        return voxels, np.array([np.prod(json.loads(row[1])) for row in rows], np.int64)

    def costs(self) -> Costs:
        """What has been annotated so far."""
        size, samples = self._db.rows("SELECT count(*), coalesce(sum(state = 'labelled'), 0) FROM samples")[0]
        slices = self._db.value(
            "SELECT count(*) FROM (SELECT DISTINCT case_name, slice FROM samples WHERE state = 'labelled')"
        )
        return Costs(samples, int(str(slices)), int(self.class_voxels().sum()), samples / size if size else 0.0)

    def annotated_cases(self) -> dict[str, int]:
        """Cases with annotated voxels, and how many labelled samples each has, by name."""
        rows = self._db.rows(
            "SELECT case_name, count(*), voxels FROM samples JOIN cases ON cases.name = case_name"
            " WHERE state = 'labelled' GROUP BY case_name ORDER BY case_name"
        )
        return {name: count for name, count, voxels in rows if sum(json.loads(voxels or "[]"))}

    def seconds_spent(self) -> float:
        """Seconds that people say they spent on annotating, all together."""
        return float(str(self._db.value("SELECT coalesce(sum(seconds), 0) FROM annotations")))
