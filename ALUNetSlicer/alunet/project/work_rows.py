"""The rows of a worklist: a query, and what it gives as a type."""

from __future__ import annotations

from typing import Any

from alunet.pool import CaseGeometry
from alunet.project.lease_clock import LeaseClock
from alunet.schema import Status, WorkRow
from alunet.storage.database import Database

_WORK = """
SELECT s.sample_id, s.round, s.rank, p.case_name, p.slice_raw, c.geometry, s.reason, s.gain,
    s.uncertainty, s.ahead,
    CASE WHEN p.state = 'labelled'
              AND coalesce(w.status, '') NOT IN ('in_progress', 'flagged') THEN 'done'
         WHEN k.sample_id IS NOT NULL THEN 'skipped' ELSE coalesce(w.status, 'todo') END,
    (SELECT max(number) FROM versions v WHERE v.sample_id = s.sample_id AND NOT v.conflict),
    l.author, l.until, p.k_lo, p.k_hi, p.j_lo, p.j_hi, p.i_lo, p.i_hi
FROM suggestions s JOIN samples p ON p.id = s.sample_id JOIN cases c ON c.name = p.case_name
LEFT JOIN work w ON w.sample_id = s.sample_id
LEFT JOIN skipped k ON k.sample_id = s.sample_id
LEFT JOIN leases l ON l.sample_id = s.sample_id AND l.until > ?
WHERE s.round = ? AND c.role = 'pool' AND c.state = 'present' ORDER BY s.rank
"""


def work_rows(database: Database, round: int) -> list[WorkRow]:
    """Return the batch of a round in the order to work in."""
    clock = LeaseClock(database)
    return [_work_row(row, clock) for row in database.rows(_WORK, (clock.now(), round))]


def newest_version(database: Database, sample: int) -> int:
    """Return the number of a sample's newest version that counts; 0 where there is none."""
    select = "SELECT coalesce(max(number), 0) FROM versions WHERE sample_id = ? AND NOT conflict"
    return database.number(select, (sample,))


def _work_row(row: tuple[Any, ...], clock: LeaseClock) -> WorkRow:
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
        lease=None if author is None else clock.shown(author, until),
    )
