"""What the header of an image file declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def nothing() -> None:
    """Verify nothing: what is not packed has no checksum."""


@dataclass(frozen=True)
class Declared:
    """What a header says of its voxels; the length of the file was compared with it.

    Attributes:
        size: bytes of the voxels, unpacked.
        verify: reads what is packed to its end; raises InputError where it is damaged.
        sibling: the other file that holds the voxels, where there is one: it is beside the header.
    """

    size: int
    verify: Callable[[], None] = nothing
    sibling: Path | None = None
