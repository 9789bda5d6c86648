"""The samples of a project's pool, and which of them are labeled or skipped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alunet.errors import InputError
from alunet.pool import Pool
from alunet.storage.database import Database

_COLUMNS = (
    "slice, slice_raw, tile, row, col, row_lo, row_hi, col_lo, col_hi, k_lo, k_hi, j_lo, "
    "j_hi, i_lo, i_hi"
)


# As the view `counted_samples` has it, but case by case: that takes the indices.
_COUNTED = "case_name IN (SELECT name FROM cases WHERE role = 'pool' AND state = 'present')"


@dataclass(frozen=True)
class SampleCounts:
    """How many samples are of cases that count, and what is known of them.

    Attributes:
        pool: all of them.
        labelled, skipped: of them.
        slices: distinct slices with a labeled sample.
    """

    pool: int
    labelled: int
    slices: int
    skipped: int


@dataclass(frozen=True)
class Place:
    """Where a sample is: its case, and its raw box [low, high) along (k, j, i)."""

    case: str
    box: tuple[tuple[int, int], ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index of the case's array."""
        return tuple(slice(low, high) for low, high in self.box)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the box."""
        return tuple(high - low for low, high in self.box)


class Samples:
    """The table of samples."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._pool: Pool | None = None

    @property
    def pool(self) -> Pool:
        """The samples of a planned project.

        Raises:
            InputError: the project is not planned yet.
        """
        found = self.known_pool()
        if found is None:
            raise InputError("The project has no pool of samples yet.", "Plan the project first.")
        return found

    def known_pool(self) -> Pool | None:
        """Return the samples, or None while the project is not planned."""
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
        return Pool(
            cases, tuple(content["patch"]), case, slice_, slice_raw, tile, start, box, raw_box
        )

    def pool_cases(self) -> frozenset[str] | None:
        """Return the cases whose samples are enumerated; None while the project is not planned."""
        about = self._db.value("SELECT value FROM meta WHERE key = 'pool'")
        return None if about is None else frozenset(json.loads(str(about))["cases"])

    def counts(self) -> SampleCounts:
        """Return how many samples count, without reading them."""
        number = self._db.number
        labelled = f"FROM samples WHERE state = 'labelled' AND {_COUNTED}"
        return SampleCounts(
            pool=number(f"SELECT count(*) FROM samples WHERE {_COUNTED}"),
            labelled=number(f"SELECT count(*) {labelled}"),
            slices=number(f"SELECT count(*) FROM (SELECT DISTINCT case_name, slice {labelled})"),
            skipped=number(
                "SELECT count(*) FROM skipped k JOIN samples s ON s.id = k.sample_id"
                f" WHERE {_COUNTED}"
            ),
        )

    def any_left(self) -> bool:
        """Return whether a sample counts that is neither labeled nor skipped."""
        return bool(
            self._db.value(
                f"SELECT EXISTS (SELECT 1 FROM samples WHERE state != 'labelled' AND {_COUNTED}"
                " AND id NOT IN (SELECT sample_id FROM skipped))"
            )
        )

    def has_tiles(self, case: str) -> bool:
        """Return whether a slice of the case is more than one sample."""
        select = "SELECT EXISTS (SELECT 1 FROM samples WHERE case_name = ? AND tile > 0)"
        return bool(self._db.value(select, (case,)))

    def set_pool(self, pool: Pool) -> None:
        """Stores the samples, all unlabelled; storing the same pool again changes nothing.

        A pool with further cases behind those there are adds their samples; what is known of the
        others stays, also of cases that do not count now.

        Raises:
            InputError: a case is unknown or a test case, or another pool has labelled samples
                already.
        """
        roles = dict(self._db.rows("SELECT name, role FROM cases"))
        kept = self.known_pool()
        for name in pool.cases[0 if kept is None or not pool.extends(kept) else len(kept.cases) :]:
            if roles.get(name) != "pool":
                state = "a test case" if name in roles else "not in the project"
                raise InputError(
                    f"The pool holds case {name!r}, which is {state}.", "Enumerate the pool again."
                )
        if kept == pool:
            return
        known = 0 if kept is None or not pool.extends(kept) else len(kept)
        if not known and self._db.value("SELECT count(*) FROM samples WHERE state = 'labelled'"):
            raise InputError(
                "The project has annotations for another pool.", "Start a new project."
            )
        about = json.dumps({"cases": pool.cases, "patch": pool.patch}, ensure_ascii=False)
        columns = (pool.slice, pool.slice_raw, pool.tile, pool.start, pool.box, pool.raw_box)
        table = np.concatenate(
            [column.reshape(len(pool), -1) for column in columns], axis=1
        ).tolist()
        rows = [
            (i, pool.cases[case], *row)
            for i, (case, row) in enumerate(zip(pool.case.tolist(), table, strict=True))
        ]
        marks = ", ".join("?" * 17)
        with self._db.transaction():
            if not known:
                for table_name in ("suggestions", "skipped", "samples"):
                    self._db.execute(f"DELETE FROM {table_name}")
            self._db.many(
                f"INSERT INTO samples (id, case_name, {_COLUMNS}) VALUES ({marks})", rows[known:]
            )
            self._db.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('pool', ?)", (about,)
            )
        self._pool = pool

    def place(self, sample: int) -> Place:
        """Return where a sample is; raises InputError where there is none, or its case does not
        count now.
        """
        columns = "case_name, k_lo, k_hi, j_lo, j_hi, i_lo, i_hi"
        rows = self._db.rows(f"SELECT {columns} FROM counted_samples WHERE id = ?", (sample,))
        if not rows and self._db.rows("SELECT 1 FROM samples WHERE id = ?", (sample,)):
            raise InputError(
                f"The case of sample {sample} is not annotated now: it was removed, or made a case "
                "to evaluate on.",
                "Change that first.",
            )
        if not rows:
            raise InputError(f"There is no sample {sample}.", "See the worklist.")
        case, *box = rows[0]
        return Place(case, tuple(zip(box[::2], box[1::2], strict=True)))

    def covered_voxels(self) -> int:
        """Return how many voxels of images are in labeled samples; one in several counts once."""
        single = (
            "SELECT max(k_hi - k_lo) * max(j_hi - j_lo) * max(i_hi - i_lo) AS voxels FROM samples"
            f" WHERE state = 'labelled' AND {_COUNTED}"
            " GROUP BY case_name, slice HAVING count(*) = 1"
        )
        total = self._db.number(f"SELECT coalesce(sum(voxels), 0) FROM ({single})")
        rows = self._db.rows(
            "SELECT case_name, slice, k_lo, k_hi, j_lo, j_hi, i_lo, i_hi FROM samples"
            f" WHERE state = 'labelled' AND {_COUNTED} AND (case_name, slice) IN"
            " (SELECT case_name, slice FROM samples WHERE state = 'labelled'"
            "  GROUP BY case_name, slice HAVING count(*) > 1)"
        )
        slices: dict[tuple[str, int], list[tuple[int, ...]]] = {}
        for case, number, *extents in rows:
            slices.setdefault((case, number), []).append(tuple(extents))
        for found in slices.values():
            own = np.array(found, np.int64).reshape(-1, 3, 2)
            low, high = own[:, :, 0].min(0), own[:, :, 1].max(0)
            covered = np.zeros(high - low, bool)
            for box in own:
                covered[tuple(slice(a, b) for a, b in box - low[:, None])] = True
            total += int(covered.sum())
        return total

    def counted(self) -> np.ndarray:
        """Which samples are of cases that count, those of the pool that are not removed,
        bool (n,).
        """
        return self._which("SELECT id FROM counted_samples")

    def labelled(self) -> np.ndarray:
        """Which samples are labelled and counted, bool (n,)."""
        return self._which("SELECT id FROM counted_samples WHERE state = 'labelled'")

    def skipped(self) -> np.ndarray:
        """Which samples a person skipped, of those that are counted, bool (n,)."""
        return self._which(
            "SELECT id FROM counted_samples WHERE id IN (SELECT sample_id FROM skipped)"
        )

    def _which(self, select: str) -> np.ndarray:
        found = np.zeros(self._db.number("SELECT count(*) FROM samples"), bool)
        found[[row[0] for row in self._db.rows(select)]] = True
        return found

    def forget_pool(self) -> None:
        """Read the pool anew when it is asked for: a case has another name."""
        self._pool = None

    def skip(self, samples: Iterable[int], *, undo: bool = False) -> None:
        """Never suggest these samples again, until that is undone or they are annotated.

        Raises:
            InputError: there is no such sample.
        """
        self._db.check_writable()
        ids = sorted({int(sample) for sample in samples})
        self.check(ids)
        if undo:
            self._db.many("DELETE FROM skipped WHERE sample_id = ?", [(sample,) for sample in ids])
        else:
            now = time.time()
            self._db.many(
                "INSERT OR IGNORE INTO skipped VALUES (?, ?)", [(sample, now) for sample in ids]
            )

    def labelled_rounds(self) -> np.ndarray:
        """Round in which each sample was first labelled, int32 (n,); -1 while it is not."""
        rounds = np.full(self._db.number("SELECT count(*) FROM samples"), -1, np.int32)
        for sample, number in self._db.rows(
            "SELECT sample_id, min(round) FROM annotations JOIN counted_samples s ON "
            "s.id = sample_id WHERE s.state = 'labelled' GROUP BY sample_id"
        ):
            rounds[sample] = number
        return rounds

    def check(self, samples: Sequence[int]) -> None:
        """Raise InputError where a sample is not in the pool, or occurs twice."""
        size = len(self.pool)
        unknown = [sample for sample in samples if not 0 <= sample < size]
        if unknown:
            raise InputError(
                f"There is no sample {unknown[0]}.", f"The pool has {size} samples, from 0 on."
            )
        if len(set(samples)) != len(samples):
            raise InputError("A sample occurs twice in the batch.", "Suggest each sample once.")
