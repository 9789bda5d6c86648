"""The slices to work on, in their order, and how each one stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from alunet.schema import Status, WorkRow
from ALUNetSlicerLib.mrml.slice_geometry import Box

OPEN = (Status.TODO, Status.IN_PROGRESS)


@dataclass(frozen=True)
class Slice:
    """One row of the worklist.

    Attributes:
        sample: its number in the pool.
        rank: place in the batch, from 0 on.
        reason: why it was chosen, for people.
        uncertainty: 0 to 1, None where the strategy gives none.
        ahead: beyond the batch, to go on with while the model is trained.
        version: of the labels that the engine has, 0 for none.
        sent: whether the engine has all that was handed in here.
        owner: who else has it now; empty for nobody.
    """

    sample: int
    round: int
    rank: int
    case: str
    box: Box
    reason: str
    uncertainty: float | None
    ahead: bool
    status: Status
    version: int
    sent: bool = True
    owner: str = ""

    @classmethod
    def of_row(cls, row: WorkRow, author: str) -> Slice:
        """The slice of a row as the engine gives it, for one annotator."""
        lease = row.lease
        return cls(
            sample=row.sample,
            round=row.round,
            rank=row.rank,
            case=row.case,
            box=Box.of(row.axis, row.box),
            reason=row.reason,
            uncertainty=row.uncertainty,
            ahead=row.ahead,
            status=row.status,
            version=row.version,
            owner=lease.author if lease is not None and lease.author != author else "",
        )


@dataclass(frozen=True)
class Counts:
    """How many slices there are.

    Attributes:
        done: of the batch proper, with labels.
        settled: of the batch proper, with nothing to do: done, skipped or flagged.
        all: of the batch proper.
        unsent: also of those ahead: what was handed in and is on its way.
    """

    done: int
    settled: int
    all: int
    unsent: int


class SliceWorklist:
    """The slices of a batch and of those ahead.

    Attributes:
        changes: how often a slice was changed.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._slices: list[Slice] = []
        self._changed: dict[int, int] = {}

    def fill(self, slices: list[Slice], since: int | None = None) -> None:
        """Replace all; what was handed in here and is still on its way keeps its status.

        Args:
            since: `changes` when the engine was asked for these; what changed after that is newer.
        """
        known = {item.sample: item for item in self._slices}
        self._slices = [
            self._newest(known.get(item.sample), item, since)
            for item in sorted(slices, key=lambda item: item.rank)
        ]

    def _newest(self, known: Slice | None, told: Slice, since: int | None) -> Slice:
        """A slice as the engine told of it, with what is known better here."""
        changed = since is not None and self._changed.get(told.sample, 0) > since
        if known is None or (known.sent and not changed):
            return told
        owner = known.owner or told.owner if changed else told.owner
        version = max(known.version, told.version)
        return replace(told, status=known.status, sent=known.sent, version=version, owner=owner)

    def change(self, sample: int, **changes: Any) -> None:
        """Change what is known of a slice; of one that is not in the list nothing is."""
        self.changes += 1
        self._changed[sample] = self.changes
        self._slices = [
            replace(item, **changes) if item.sample == sample else item for item in self._slices
        ]

    def find(self, sample: int) -> Slice | None:
        """The slice of that number."""
        return next((item for item in self._slices if item.sample == sample), None)

    def next_open(self, after: int | None) -> Slice | None:
        """The next slice to work on, from the one of rank `after` on and round to the beginning:
        the batch first, what is ahead when nothing of the batch is open.
        """
        free = [item for item in self._slices if item.status in OPEN and not item.owner]
        free = [item for item in free if not item.ahead] or free
        return next(
            (item for item in free if after is None or item.rank > after), free[0] if free else None
        )

    def beside(self, sample: int, step: int) -> Slice | None:
        """The slice `step` places further, whatever its status; None beyond the ends."""
        places = [item.sample for item in self._slices]
        place = places.index(sample) + step if sample in places else -1
        return self._slices[place] if 0 <= place < len(places) else None

    @property
    def round(self) -> int | None:
        """Number of the newest round that has slices here; None without slices."""
        return max((item.round for item in self._slices), default=None)

    def counts(self) -> Counts:
        """How far the batch is."""
        batch = [item for item in self._slices if not item.ahead]
        return Counts(
            done=sum(item.status == Status.DONE for item in batch),
            settled=sum(item.status not in OPEN for item in batch),
            all=len(batch),
            unsent=sum(not item.sent for item in self._slices),
        )

    def __iter__(self):  # noqa: ANN204  an iterator of slices
        return iter(self._slices)

    def __len__(self) -> int:
        return len(self._slices)
