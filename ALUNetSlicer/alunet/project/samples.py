"""The samples of a project's pool and what became of each: suggested, skipped, labelled."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alunet.errors import InputError
from alunet.pool import Pool
from alunet.storage.database import Database

_COLUMNS = "slice, slice_raw, tile, row, col, row_lo, row_hi, col_lo, col_hi, k_lo, k_hi, j_lo, j_hi, i_lo, i_hi"


@dataclass(frozen=True)
class Suggestion:
    """A sample that a strategy suggested or a person chose, in its order.

    Attributes:
        state: of the sample now: "suggested", "labelled", or "unlabelled" where it went back to the pool.
        skipped: whether a person does not want to be asked about it.
        uncertainty: share of the other candidates that were less uncertain, None where nothing of that is known.
        author: who chose it, None where a strategy did.
        ahead: whether it was chosen behind the batch, for people who go on while the model trains.
    """

    sample: int
    gain: float | None
    reason: str
    state: str
    skipped: bool = False
    uncertainty: float | None = None
    author: str | None = None
    ahead: bool = False

    @property
    def in_batch(self) -> bool:
        """Whether a strategy chose it for the batch proper; then a person may have chosen it, too."""
        return not self.ahead and (self.author is None or self.gain is not None)


def chosen_by(author: str) -> str:
    """Why a sample that a person chose is in the worklist."""
    return f"chosen by {author}"


class Samples:
    """The part of a `Project` that keeps the state of the pool; needs what is declared here."""

    _db: Database
    _pool: Pool | None
    read_only: bool

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

        A pool with further cases behind those there are adds their samples; what is known of the others stays.

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
        known = 0 if self.pool is None or not pool.extends(self.pool) else len(self.pool)
        if not known and self._db.value("SELECT count(*) FROM samples WHERE state = 'labelled'"):
            raise InputError("The project has annotations for another pool.", "Start a new project.")
        about = json.dumps({"cases": pool.cases, "patch": pool.patch}, ensure_ascii=False)
        columns = (pool.slice, pool.slice_raw, pool.tile, pool.start, pool.box, pool.raw_box)
        table = np.concatenate([column.reshape(len(pool), -1) for column in columns], axis=1).tolist()
        rows = [
            (i, pool.cases[case], *row) for i, (case, row) in enumerate(zip(pool.case.tolist(), table, strict=True))
        ]
        marks = ", ".join("?" * 17)
        with self._db.transaction():
            if not known:
                for table_name in ("suggestions", "skipped", "samples"):
                    self._db.execute(f"DELETE FROM {table_name}")
            self._db.many(f"INSERT INTO samples (id, case_name, {_COLUMNS}) VALUES ({marks})", rows[known:])
            self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('pool', ?)", (about,))
        self._pool = pool

    def labelled(self) -> np.ndarray:
        """Which samples are labelled, bool (n,)."""
        rows = self._db.rows("SELECT state = 'labelled' FROM samples ORDER BY id")
        return np.array([row[0] for row in rows], bool)

    def skipped(self) -> np.ndarray:
        """Which samples a person skipped, bool (n,)."""
        rows = self._db.rows("SELECT id IN (SELECT sample_id FROM skipped) FROM samples ORDER BY id")
        return np.array([row[0] for row in rows], bool)

    def sample_count(self) -> int:
        """Samples of the pool; 0 before `set_pool`."""
        return int(self._db.rows("SELECT count(*) FROM samples")[0][0])

    def skip(self, samples: Iterable[int], *, undo: bool = False) -> None:
        """Never suggest these samples again, until that is undone or they are annotated.

        Raises:
            InputError: there is no such sample.
        """
        self._check_writable()
        ids = sorted({int(sample) for sample in samples})
        self._check_samples(ids)
        if undo:
            self._db.many("DELETE FROM skipped WHERE sample_id = ?", [(sample,) for sample in ids])
        else:
            now = time.time()
            self._db.many("INSERT OR IGNORE INTO skipped VALUES (?, ?)", [(sample, now) for sample in ids])

    def labelled_rounds(self) -> np.ndarray:
        """Round in which each sample was first labelled, int32 (n,); -1 while it is not."""
        rounds = np.full(int(self._db.value("SELECT count(*) FROM samples") or 0), -1, np.int32)  # type: ignore[call-overload]
        for sample, number in self._db.rows("SELECT sample_id, min(round) FROM annotations GROUP BY sample_id"):
            rounds[sample] = number
        return rounds

    def suggest(
        self,
        round: int,
        ids: Sequence[int],
        gains: Sequence[float],
        reasons: Sequence[str],
        uncertainty: Sequence[float | None] | None = None,
        *,
        size: int | None = None,
    ) -> None:
        """Stores a round's batch in its order; suggesting again for the round replaces it.

        Behind the batch stays what people chose: in this round, or in the one before where it is still open. Where the
        batch holds such a sample itself, it counts as chosen all the same.

        Args:
            size: samples of the batch proper; what comes behind them is ahead. None: all.

        Raises:
            InputError: the columns differ in length, or an id is unknown or occurs twice.
        """
        shares = [None] * len(ids) if uncertainty is None else list(uncertainty)
        if not len(ids) == len(gains) == len(reasons) == len(shares):
            lengths = f"{len(ids)} ids, {len(gains)} gains, {len(reasons)} reasons and {len(shares)} uncertainties"
            raise InputError(f"A batch of {lengths}.")
        samples = [int(i) for i in ids]
        self._check_samples(samples)
        with self._db.transaction():
            chosen, size = self._choices(round), len(samples) if size is None else size
            rows: list[tuple] = []
            for rank, (sample, gain, reason, share) in enumerate(zip(samples, gains, reasons, shares, strict=True)):
                author, worth = chosen.pop(sample, None), None if gain is None else float(gain)
                rows.append((sample, worth, str(reason), share, author, rank >= size and author is None))
            rows += [(sample, None, chosen_by(author), None, author, False) for sample, author in chosen.items()]
            self._db.execute(
                "UPDATE samples SET state = 'unlabelled' WHERE state = 'suggested'"
                " AND id IN (SELECT sample_id FROM suggestions WHERE round = ?)",
                (round,),
            )
            self._db.execute("DELETE FROM suggestions WHERE round = ?", (round,))
            self._db.many(
                "INSERT INTO suggestions (round, rank, sample_id, gain, reason, uncertainty, author, ahead)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(round, rank, *row) for rank, row in enumerate(rows)],
            )
            self._db.execute(
                "UPDATE samples SET state = 'suggested' WHERE state = 'unlabelled'"
                " AND id IN (SELECT sample_id FROM suggestions WHERE round = ?)",
                (round,),
            )

    def _choices(self, round: int) -> dict[int, str]:
        """What people chose and who: first in this round, then in the one before, as far as it is still open."""
        rows = self._db.rows(
            "SELECT s.sample_id, s.author FROM suggestions s JOIN samples p ON p.id = s.sample_id"
            " WHERE s.author IS NOT NULL AND (s.round = ?"
            " OR s.round = (SELECT max(round) FROM suggestions WHERE round < ?) AND p.state != 'labelled'"
            " AND s.sample_id NOT IN (SELECT sample_id FROM skipped)) ORDER BY s.round DESC, s.rank",
            (round, round),
        )
        return dict(rows)

    def release(self) -> None:
        """Gives every suggested sample that nobody annotated back to the pool."""
        self._db.execute("UPDATE samples SET state = 'unlabelled' WHERE state = 'suggested'")

    def _check_writable(self) -> None:
        if self.read_only:
            raise InputError("The project is open for reading only.", "Open it for writing.")

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
            "SELECT sample_id, gain, reason, state, sample_id IN (SELECT sample_id FROM skipped), uncertainty, author,"
            " ahead FROM suggestions JOIN samples ON samples.id = sample_id WHERE round = ? ORDER BY rank",
            (round,),
        )
        return [Suggestion(*row[:4], bool(row[4]), *row[5:7], bool(row[7])) for row in rows]
