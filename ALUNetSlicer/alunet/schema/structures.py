"""What the service and its clients say about the structures of a project, and how they change.

The addresses named here stand below `messages.PREFIX`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StructureInfo:
    """One of GET /projects/{p}/structures.

    Attributes:
        number: in the labels of samples and cases; it stays, and is never given again.
        value: in label files that do not say what their values mean.
        color: #rrggbb; None: the usual one.
        voxels: how many are annotated.
    """

    name: str
    number: int
    value: int
    color: str | None
    voxels: int


@dataclass(frozen=True)
class StructureRequest:
    """POST /projects/{p}/structures: add one; 400 where the name is taken, 409 `answer_needed`
    where `earlier` is missing, 409 `busy` while a job runs.

    Attributes:
        earlier: what the background of slices annotated so far says of it: "open", nothing, so
            they come back to be looked at; "absent", it is not there.
        color: #rrggbb; None: the usual one.
    """

    name: str
    author: str
    earlier: str | None = None
    color: str | None = None


@dataclass(frozen=True)
class StructureEdit:
    """PATCH /projects/{p}/structures/{number}: what is None stays.

    Attributes:
        name: new name.
        color: #rrggbb; "": the usual one.
    """

    author: str
    name: str | None = None
    color: str | None = None


@dataclass(frozen=True)
class StructureChange:
    """Answer to a change of the structures.

    Attributes:
        structures: as they are now.
        again: annotated samples that came back into the worklist.
        notes: what the change did and what follows, for a person.
    """

    structures: list[StructureInfo]
    again: int = 0
    notes: list[str] = field(default_factory=list)
