"""The pool's state and the annotated voxels of a project."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alunet.errors import InputError
from alunet.pool import Pool
from alunet.project.database import Database
from alunet.project.images import EXACT_ENDING, read_labels, write_array

_COLUMNS = "slice, slice_raw, tile, row, col, row_lo, row_hi, col_lo, col_hi, k_lo, k_hi, j_lo, j_hi, i_lo, i_hi"


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


@dataclass(frozen=True)
class Suggestion:
    """A sample that a strategy suggested, in its order; `state` is the sample's state now."""

    sample: int
    gain: float | None
    reason: str
    state: str


class Annotations:
    """The part of a `Project` that keeps samples and their labels; needs what is declared here."""

    _db: Database
    _pool: Pool | None
    read_only: bool

    if TYPE_CHECKING:
        images_dir: Path
        annotations_dir: Path
        ignore_label: int
        num_classes: int

    @property
    def pool(self) -> Pool | None:
        """The project's samples, or None before `set_pool`."""
        if self._pool is None:
            self._pool = self._read_pool()
        return self._pool

    def _read_pool(self) -> Pool | None:
        about = self._db.value("SELECT value FROM meta WHERE key = 'pool'")
        if about is None:
            return None
        content = json.loads(str(about))
        cases = tuple(content["cases"])
        index = {name: number for number, name in enumerate(cases)}
        rows = self._db.rows(f"SELECT case_name, {_COLUMNS} FROM samples ORDER BY id")
        case = np.array([index[row[0]] for row in rows], np.int32)
        table = np.array([row[1:] for row in rows], np.int32).reshape(-1, 15)
        slice_, slice_raw, tile = table[:, :3].T
        start, box, raw_box = table[:, 3:5], table[:, 5:9], table[:, 9:].reshape(-1, 3, 2)
        return Pool(cases, tuple(content["patch"]), case, slice_, slice_raw, tile, start, box, raw_box)

    def set_pool(self, pool: Pool) -> None:
        """Stores the samples, all unlabelled; storing the same pool again changes nothing.

        Raises:
            InputError: a case is unknown or a test case, or another pool has labelled samples already.
        """
        roles = dict(self._db.rows("SELECT name, role FROM cases"))
        for name in pool.cases:
            if roles.get(name) != "pool":
                state = "a test case" if name in roles else "not in the project"
                raise InputError(f"The pool holds case {name!r}, which is {state}.", "Enumerate the pool again.")
        if self.pool == pool:
            return
        if self._db.value("SELECT count(*) FROM samples WHERE state = 'labelled'"):
            raise InputError("The project has annotations for another pool.", "Start a new project.")
        about = json.dumps({"cases": pool.cases, "patch": pool.patch}, ensure_ascii=False)
        columns = (pool.slice, pool.slice_raw, pool.tile, pool.start, pool.box, pool.raw_box)
        table = np.concatenate([column.reshape(len(pool), -1) for column in columns], axis=1).tolist()
        rows = [
            (i, pool.cases[case], *row) for i, (case, row) in enumerate(zip(pool.case.tolist(), table, strict=True))
        ]
        marks = ", ".join("?" * 17)
        with self._db.transaction():
            self._db.execute("DELETE FROM suggestions")
            self._db.execute("DELETE FROM samples")
            self._db.many(f"INSERT INTO samples (id, case_name, {_COLUMNS}) VALUES ({marks})", rows)
            self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('pool', ?)", (about,))
        self._pool = pool

    def labelled(self) -> np.ndarray:
        """Which samples are labelled, bool (n,)."""
        rows = self._db.rows("SELECT state = 'labelled' FROM samples ORDER BY id")
        return np.array([row[0] for row in rows], bool)

    def labelled_rounds(self) -> np.ndarray:
        """Round in which each sample was first labelled, int32 (n,); -1 while it is not."""
        rounds = np.full(int(self._db.value("SELECT count(*) FROM samples") or 0), -1, np.int32)  # type: ignore[call-overload]
        for sample, number in self._db.rows("SELECT sample_id, min(round) FROM annotations GROUP BY sample_id"):
            rounds[sample] = number
        return rounds

    def suggest(self, round: int, ids: Sequence[int], gains: Sequence[float], reasons: Sequence[str]) -> None:
        """Stores a round's batch in its order; suggesting again for the round replaces it.

        Raises:
            InputError: the columns differ in length, or an id is unknown or occurs twice.
        """
        if not len(ids) == len(gains) == len(reasons):
            raise InputError(f"A batch of {len(ids)} ids, {len(gains)} gains and {len(reasons)} reasons.")
        samples = [int(i) for i in ids]
        self._check_samples(samples)
        rows = [
            (round, rank, sample, None if gain is None else float(gain), str(reason))
            for rank, (sample, gain, reason) in enumerate(zip(samples, gains, reasons, strict=True))
        ]
        with self._db.transaction():
            self._db.execute(
                "UPDATE samples SET state = 'unlabelled' WHERE state = 'suggested'"
                " AND id IN (SELECT sample_id FROM suggestions WHERE round = ?)",
                (round,),
            )
            self._db.execute("DELETE FROM suggestions WHERE round = ?", (round,))
            self._db.many("INSERT INTO suggestions VALUES (?, ?, ?, ?, ?)", rows)
            self._db.execute(
                "UPDATE samples SET state = 'suggested' WHERE state = 'unlabelled'"
                " AND id IN (SELECT sample_id FROM suggestions WHERE round = ?)",
                (round,),
            )

    def _check_samples(self, samples: list[int]) -> None:
        size = len(self._need_pool())
        unknown = [sample for sample in samples if not 0 <= sample < size]
        if unknown:
            raise InputError(f"There is no sample {unknown[0]}.", f"The pool has {size} samples, from 0 on.")
        if len(set(samples)) != len(samples):
            raise InputError("A sample occurs twice in the batch.", "Suggest each sample once.")

    def _need_pool(self) -> Pool:
        pool = self.pool
        if pool is None:
            raise InputError("The project has no pool of samples yet.", "Prepare the project first.")
        return pool

    def suggestions(self, round: int) -> list[Suggestion]:
        """A round's batch in its order; empty where nothing was suggested."""
        rows = self._db.rows(
            "SELECT sample_id, gain, reason, state FROM suggestions JOIN samples ON samples.id = sample_id"
            " WHERE round = ? ORDER BY rank",
            (round,),
        )
        return [Suggestion(*row) for row in rows]

    def annotation_file(self, case: str) -> Path:
        """Where a case's label map lies (or will lie, while nothing is annotated)."""
        return self.annotations_dir / f"{case}{EXACT_ENDING}"

    def annotation(self, case: str) -> np.ndarray:
        """A case's label map on the grid of its image file, axes (k, j, i), uint8 or uint16.

        Voxels that nobody annotated hold `ignore_label`.

        Raises:
            InputError: there is no such case.
        """
        dtype = np.uint8 if self.ignore_label <= 255 else np.uint16
        shape, _, annotated = self._case_row(case)
        if annotated is None:
            return np.full(shape, self.ignore_label, dtype)
        array = read_labels(self.annotation_file(case))
        if array.shape != shape:
            raise InputError(f"{self.annotation_file(case)} has the shape {array.shape}, not {shape}.", "Restore it.")
        return array.astype(dtype, copy=False)

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
        claims yet, and nothing that was acknowledged is lost. Labelling a sample again replaces its voxels.

        Args:
            case: name of the case.
            items: sample id and its labels, of the shape of the sample's raw box; values are classes or
                `ignore_label` where the annotator left a voxel open.
            round: number of the round.
            author: who annotated.
            seconds: time spent on all the items together.

        Raises:
            InputError: a sample is not of the case, or labels have another shape or other values.
        """
        if self.read_only:
            raise InputError("The project is open for reading only.", "Open it for writing.")
        items = list(items)
        samples = [int(sample) for sample, _ in items]
        self._check_samples(samples)
        array = self.annotation(case)
        for sample, labels in items:
            self._paint(array, case, int(sample), np.asarray(labels))
        counts = np.bincount(array.ravel(), minlength=self.num_classes)[: self.num_classes]
        write_array(array, self.images_dir / self._case_row(case)[1], self.annotation_file(case))
        share = None if seconds is None else float(seconds) / max(1, len(samples))
        now = time.time()
        with self._db.transaction():
            self._db.many(
                "INSERT INTO annotations (sample_id, case_name, round, author, seconds, time)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [(sample, case, round, author, share, now) for sample in samples],
            )
            self._db.many("UPDATE samples SET state = 'labelled' WHERE id = ?", [(sample,) for sample in samples])
            self._db.execute("UPDATE cases SET voxels = ? WHERE name = ?", (json.dumps(counts.tolist()), case))

    def _paint(self, array: np.ndarray, case: str, sample: int, labels: np.ndarray) -> None:
        """Writes one sample's labels into a case's label map."""
        pool = self._need_pool()
        if pool.case_name(sample) != case:
            raise InputError(f"Sample {sample} is of case {pool.case_name(sample)!r}, not {case!r}.")
        target = array[pool.raw_slices(sample)]
        if labels.shape != target.shape:
            raise InputError(f"Labels of sample {sample} have the shape {labels.shape}, not {target.shape}.")
        strange = labels[(labels < 0) | (labels > self.ignore_label) | (labels != np.round(labels))]
        if strange.size:
            limits = f"Use 0 to {self.num_classes - 1}, or {self.ignore_label} for voxels left open."
            raise InputError(f"Labels of sample {sample} hold the value {strange[0]}.", limits)
        target[...] = labels

    def class_voxels(self) -> np.ndarray:
        """Annotated voxels of each class over all pool cases, int64 (K,)."""
        rows = self._db.rows("SELECT voxels FROM cases WHERE role = 'pool' AND voxels IS NOT NULL")
        total = np.zeros(self.num_classes, np.int64)
        for (voxels,) in rows:
            total += np.array(json.loads(voxels), np.int64)
        return total

    def costs(self) -> Costs:
        """What has been annotated so far."""
        size, samples = self._db.rows("SELECT count(*), coalesce(sum(state = 'labelled'), 0) FROM samples")[0]
        slices = self._db.value(
            "SELECT count(*) FROM (SELECT DISTINCT case_name, slice FROM samples WHERE state = 'labelled')"
        )
        return Costs(samples, int(str(slices)), int(self.class_voxels().sum()), samples / size if size else 0.0)

    def annotated_cases(self) -> dict[str, int]:
        """Cases with labelled samples, and how many, by name."""
        return dict(
            self._db.rows(
                "SELECT case_name, count(*) FROM samples WHERE state = 'labelled' GROUP BY case_name ORDER BY case_name"
            )
        )

    def touched_since(self, round: int) -> list[str]:
        """Cases that were annotated in `round` or later, by name."""
        rows = self._db.rows("SELECT DISTINCT case_name FROM annotations WHERE round >= ? ORDER BY case_name", (round,))
        return [name for (name,) in rows]
