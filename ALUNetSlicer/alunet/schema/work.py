"""What the service and its clients say about the worklist: rows, statuses, leases.

The addresses named here stand below `messages.PREFIX`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

NOT_ANNOTATED = 255
"""Value of voxels of a label map that were not annotated; classes are 0 to 254 at most."""


class Status(str, Enum):
    """What an annotator has made of a suggested sample."""

    TODO = "todo"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    SKIPPED = "skipped"
    FLAGGED = "flagged"


class ProposalSource(str, Enum):
    """Where the labels with which a slice begins come from."""

    MODEL = "model"
    NEIGHBORS = "neighbors"  # interpolated from drawn slices of the same case
    EMPTY = "empty"


@dataclass(frozen=True)
class Lease:
    """A sample is somebody's until a moment, seconds since the epoch."""

    author: str
    until: float


@dataclass(frozen=True)
class LeaseRequest:
    """POST .../samples/{s}/lease: 200 with a `Lease`; 409 `leased` where somebody else has it."""

    author: str
    seconds: float = 300.0


@dataclass(frozen=True)
class WorkRow:
    """One suggested sample of GET .../worklist, in the order to work in.

    Attributes:
        sample: its number in the pool.
        rank: place in its round's batch, from 0 on.
        slice: index across `axis` in the image file.
        axis: of the image array (k, j, i) that is sliced: 0, 1 or 2.
        box: raw box in the image array, ((k0, k1), (j0, j1), (i0, i1)), ends not included.
        gain: of the strategy, in its own unit; None where it has none.
        uncertainty: of the model, as a rank: the share of the other candidates of that round that
            the strategy found less uncertain, 0 to 1; None where it measures nothing of a single
            sample.
        ahead: beyond the round's batch, to go on with while the next model is trained.
        version: of the annotation; 0 while there is none.
    """

    sample: int
    round: int
    rank: int
    case: str
    slice: int
    axis: int
    box: list[list[int]]
    reason: str
    gain: float | None
    uncertainty: float | None
    ahead: bool
    status: Status
    version: int
    lease: Lease | None


@dataclass(frozen=True)
class SliceRequest:
    """POST .../worklist: put a slice that a person chose into the newest round's batch, as the list
    of its `WorkRow`.

    201, or 200 where all of it is in that batch already; 409 `annotated` where it is not, but has
    labels, and 409 `not_ready` where the case is not planned. In a project without a round this
    begins round 0, "chosen"; what is chosen and still open stays in the batches after it.

    Attributes:
        axis: of the image array (k, j, i) that is sliced: 0, 1 or 2; the same for all slices of a
            case.
        slice: index across `axis` in the image file.
        author: who chose it.
    """

    case: str
    axis: int
    slice: int
    author: str


@dataclass(frozen=True)
class StatusRequest:
    """PATCH .../samples/{s}: a status without an annotation (todo, in_progress, skipped,
    flagged).
    """

    status: Status
    author: str


@dataclass(frozen=True)
class SampleState:
    """Answer of PATCH .../samples/{s} and of PUT .../samples/{s}/annotation; what it says is on
    disk.
    """

    sample: int
    status: Status
    version: int
