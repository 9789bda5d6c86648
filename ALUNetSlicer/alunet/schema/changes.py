"""What the service and its clients say about changes of cases and annotations.

The addresses named here are below `alunet.schema.PREFIX`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CaseChange:
    """PATCH .../cases/{name}: of the fields that are given; the same again changes nothing.

    Attributes:
        state: "removed": it counts for nothing, and keeps all that it has; "present": it is in the
            project again.
        role: "pool" (to learn from) or "test" (to evaluate on).
    """

    author: str
    state: str | None = None
    role: str | None = None


@dataclass(frozen=True)
class EraseRequest:
    """POST .../cases/{name}/erasure: there is no way back; 409 `busy` while a job runs."""

    author: str


@dataclass(frozen=True)
class ChangedCase:
    """A case after a change.

    Attributes:
        name: of an erased one a neutral name.
        state: "present", "removed" or "erased".
        says: what follows, sentences for people.
    """

    name: str
    role: str
    state: str
    says: list[str]


@dataclass(frozen=True)
class TakeBackRequest:
    """POST .../samples/{s}/taking-back: 409 `stale_annotation` where `base_version` is not the
    newest.

    Attributes:
        base_version: that the person has seen; null: any.
        undo: bring back what was taken back.
    """

    author: str
    base_version: int | None = None
    undo: bool = False


@dataclass(frozen=True)
class TakenBack:
    """A sample after its labels were taken back, or brought back; what it says is on disk.

    Attributes:
        status: "todo", or "done" where they were brought back.
        version: the newest one; of labels that were taken back it holds 255 alone.
        says: what follows, sentences for people.
    """

    sample: int
    status: str
    version: int
    says: list[str]
