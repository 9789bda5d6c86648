"""Who works on what: the worklist, statuses, leases, and requests that may come twice."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from alunet.errors import InputError
from alunet.pool import CaseGeometry
from alunet.project.annotations import Annotations
from alunet.project.rounds import Rounds
from alunet.schema import Lease, SampleState, Status, WorkRow

_WORK = """
SELECT s.sample_id, s.round, s.rank, p.case_name, p.slice_raw, c.geometry, s.reason, s.gain, s.uncertainty,
    s.ahead,
    CASE WHEN p.state = 'labelled' AND coalesce(w.status, '') NOT IN ('in_progress', 'flagged') THEN 'done'
         WHEN k.sample_id IS NOT NULL THEN 'skipped' ELSE coalesce(w.status, 'todo') END,
    (SELECT max(number) FROM versions v WHERE v.sample_id = s.sample_id AND NOT v.conflict),
    l.author, l.until, p.k_lo, p.k_hi, p.j_lo, p.j_hi, p.i_lo, p.i_hi
FROM suggestions s JOIN samples p ON p.id = s.sample_id JOIN cases c ON c.name = p.case_name
LEFT JOIN work w ON w.sample_id = s.sample_id
LEFT JOIN skipped k ON k.sample_id = s.sample_id
LEFT JOIN leases l ON l.sample_id = s.sample_id AND l.until > ?
WHERE s.round = ? ORDER BY s.rank
"""


class Leased(InputError):
    """The sample is somebody else's for a while."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"{lease.author} is working on this slice.", "Take another one.")
        self.lease = lease


class KeyReused(InputError):
    """The key of a request came with another request before."""

    def __init__(self) -> None:
        super().__init__("The key belongs to another request.", "Use a new key for each request.")


@dataclass(frozen=True)
class Place:
    """Where a sample lies: its case, and its raw box [low, high) along (k, j, i)."""

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


class Sharing(Annotations):
    """The part of a `Project` that several people work on at the same time."""

    rounds: Rounds

    def place(self, sample: int) -> Place:
        """Where a sample lies; raises InputError where there is none."""
        columns = "case_name, k_lo, k_hi, j_lo, j_hi, i_lo, i_hi"
        rows = self._db.rows(f"SELECT {columns} FROM samples WHERE id = ?", (sample,))
        if not rows:
            raise InputError(f"There is no sample {sample}.", "See the worklist.")
        case, *box = rows[0]
        return Place(case, tuple(zip(box[::2], box[1::2], strict=True)))

    def work(self, round: int | None = None) -> list[WorkRow]:
        """The batch of a round in the order to work in; by default of the newest one."""
        number = self.rounds.on_worklist() if round is None else round
        return [_work_row(row) for row in self._db.rows(_WORK, (time.time(), number))]

    def _numbers(self, sample: int) -> tuple[int, int]:
        """The newest version that counts, and the last number given to any; 0 where there is none."""
        row = self._db.rows(
            "SELECT coalesce(max(CASE WHEN conflict THEN 0 ELSE number END), 0), coalesce(max(number), 0)"
            " FROM versions WHERE sample_id = ?",
            (sample,),
        )[0]
        return int(row[0]), int(row[1])

    # --- statuses and leases ----------------------------------------------------------------------------------

    def set_status(self, sample: int, status: Status, author: str, key: str = "", digest: str = "") -> SampleState:
        """Notes what somebody makes of a sample without labels; a skipped one is not suggested again.

        Args:
            key, digest: see `Submission`.

        Raises:
            KeyReused: the key came with another request.
            InputError: there is no such sample, DONE is asked for, or an annotated one is to be skipped.
        """
        self._check_writable()
        self.place(sample)
        if status is Status.DONE:
            raise InputError("Only labels make a slice done.", "Submit them.")
        with self._db.transaction():
            labelled = self._db.value("SELECT state FROM samples WHERE id = ?", (sample,)) == "labelled"
            if status is Status.SKIPPED and labelled:
                raise InputError("The slice is annotated already.", "There is nothing to skip.")
            if self.answer(key, digest) is None:
                self._set_status(sample, status, author)
                self._tell(sample, status)
                self.keep_answer(key, digest, {"status": status.value})
            return SampleState(sample, status, self._numbers(sample)[0])

    def _set_status(self, sample: int, status: Status, author: str) -> None:
        now = time.time()
        self._db.execute("INSERT OR REPLACE INTO work VALUES (?, ?, ?, ?)", (sample, status.value, author, now))
        if status is Status.SKIPPED:
            self._db.execute("INSERT OR IGNORE INTO skipped VALUES (?, ?)", (sample, now))
        else:
            self._db.execute("DELETE FROM skipped WHERE sample_id = ?", (sample,))
        if status is not Status.IN_PROGRESS:
            self._db.execute("DELETE FROM leases WHERE sample_id = ? AND author = ?", (sample, author))

    def _tell(self, sample: int, status: Status) -> None:
        """An event for whoever else looks at the worklist."""
        data = {"sample": sample, "status": status.value, "version": self._numbers(sample)[0]}
        row = (time.time(), "sample", json.dumps(data))
        self._db.execute("INSERT INTO events (time, kind, data) VALUES (?, ?, ?)", row)

    def lease(self, sample: int, author: str, seconds: float) -> Lease:
        """Gives a sample to somebody for a while, or for a while longer.

        Raises:
            Leased: it is somebody else's now.
            InputError: there is no such sample.
        """
        self._check_writable()
        self.place(sample)
        now = time.time()
        with self._db.transaction():
            rows = self._db.rows("SELECT author, until FROM leases WHERE sample_id = ?", (sample,))
            if rows and rows[0][0] != author and rows[0][1] > now:
                raise Leased(Lease(*rows[0]))
            lease = Lease(author, now + seconds)
            self._db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (sample, author, lease.until))
        return lease

    def give_back(self, sample: int, author: str) -> None:
        """Ends somebody's lease; where there is none, nothing happens."""
        self._check_writable()
        self._db.execute("DELETE FROM leases WHERE sample_id = ? AND author = ?", (sample, author))

    # --- requests that may come again -------------------------------------------------------------------------

    def answer(self, key: str, digest: str) -> dict[str, Any] | None:
        """What was answered to the request of that key, None where it is new; raises KeyReused."""
        rows = self._db.rows("SELECT digest, answer FROM answers WHERE key = ?", (key,)) if key else []
        if not rows:
            return None
        if rows[0][0] != digest:
            raise KeyReused
        return json.loads(rows[0][1])

    def keep_answer(self, key: str, digest: str, answer: dict[str, Any]) -> None:
        """Keeps the answer to a request, within the transaction of what it did."""
        if key:
            row = (key, digest, json.dumps(answer), time.time())
            self._db.execute("INSERT INTO answers (key, digest, answer, time) VALUES (?, ?, ?, ?)", row)


def _work_row(row: tuple) -> WorkRow:
    sample, number, rank, case, slice_, geometry, reason, gain, uncertainty, ahead, *rest = row
    status, version, author, until, *box = rest
    return WorkRow(
        sample=sample,
        round=number,
        rank=rank,
        case=case,
        slice=slice_,
        axis=CaseGeometry.from_json(geometry).transpose[0],
        box=[list(extent) for extent in zip(box[::2], box[1::2], strict=True)],
        reason=reason,
        gain=gain,
        uncertainty=uncertainty,
        ahead=bool(ahead),
        status=Status(status),
        version=version or 0,
        lease=None if author is None else Lease(author, until),
    )
