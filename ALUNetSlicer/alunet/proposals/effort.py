"""What it costs to correct a proposal into the final labels of a slice.

The border of a structure is its mask without the erosion across edges (four neighbors); a pixel at
the edge of the slice is border. Added path length is the length of the final border that has to be
drawn: its pixels farther than a tolerance (chessboard distance) from the proposal's border. Removed
path length is the mirror: the proposal's border that has to go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.proposals.proposal import LabelMap


@dataclass(frozen=True)
class PathLength:
    """The effort of one structure, or of all.

    Attributes:
        added_0, added_1: added path length at a tolerance of 0 and 1 pixel, pixels.
        removed_0, removed_1: removed path length, pixels.
        added_1_mm, removed_1_mm: those at 1 pixel in mm: pixels times the mean spacing in plane.
        border: pixels of the final border, what an empty start leaves to draw.
    """

    added_0: int = 0
    added_1: int = 0
    removed_0: int = 0
    removed_1: int = 0
    added_1_mm: float = 0.0
    removed_1_mm: float = 0.0
    border: int = 0

    def __add__(self, other: PathLength) -> PathLength:
        one, more = asdict(self), asdict(other)
        return PathLength(**{name: value + more[name] for name, value in one.items()})


@dataclass(frozen=True)
class TimeModel:
    """Assumed seconds of a slice; a person's own replace them.

    Attributes:
        per_slice: looking at it.
        per_added, per_removed: for each pixel of path length at 1 pixel.
    """

    per_slice: float = 5.0
    per_added: float = 0.15
    per_removed: float = 0.05

    def seconds(self, effort: Effort) -> float:
        """Return the estimated seconds of `effort.slices` slices."""
        paths = effort.total
        return (
            self.per_slice * effort.slices
            + self.per_added * paths.added_1
            + self.per_removed * paths.removed_1
        )


ASSUMED = TimeModel()
"""Until a person's own seconds are known."""


@dataclass(frozen=True)
class Effort:
    """The effort of one slice, or of several together.

    Attributes:
        structures: number -> its effort.
        voxels: of another label than the proposal's.
        accepted: slices that need nothing: no path length at 1 pixel.
        slices: how many.
    """

    structures: Mapping[int, PathLength] = field(default_factory=dict)
    voxels: int = 0
    accepted: int = 0
    slices: int = 0

    @property
    def total(self) -> PathLength:
        """Of all structures together."""
        return sum(self.structures.values(), PathLength())

    def __add__(self, other: Effort) -> Effort:
        numbers = sorted(self.structures.keys() | other.structures.keys())
        return Effort(
            {
                number: self.structures.get(number, PathLength())
                + other.structures.get(number, PathLength())
                for number in numbers
            },
            self.voxels + other.voxels,
            self.accepted + other.accepted,
            self.slices + other.slices,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            **asdict(self),
            "structures": {str(number): asdict(own) for number, own in self.structures.items()},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Effort:
        """Read what `to_json` gave."""
        paths = {int(number): PathLength(**own) for number, own in stored["structures"].items()}
        return cls(paths, stored["voxels"], stored["accepted"], stored["slices"])


def effort_of(proposal: LabelMap, final: LabelMap, spacing: tuple[float, float]) -> Effort:
    """Measure the way from a proposal to the final labels of a slice (h, w).

    Args:
        spacing: mm between rows and between columns.
    """
    mm = float(np.mean(spacing))
    numbers = np.union1d(np.unique(proposal), np.unique(final))
    paths = {
        int(number): _path(proposal == number, final == number, mm)
        for number in numbers
        if number > 0
    }
    effort = Effort(paths, int((proposal != final).sum()), 0, 1)
    whole = effort.total
    unchanged = whole.added_1 == 0 and whole.removed_1 == 0
    return Effort(paths, effort.voxels, int(unchanged), 1)


def total_of(efforts: Iterable[Effort]) -> Effort:
    """Return the effort of several slices together."""
    return sum(efforts, Effort())


def border_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the mask without its erosion across edges."""
    from scipy import ndimage  # slow to load, and the record of a round only reads efforts

    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _path(proposal: npt.NDArray[np.bool_], final: npt.NDArray[np.bool_], mm: float) -> PathLength:
    from scipy import ndimage

    # in the box around both; the margin keeps borders at it apart from the edge of the slice
    box = ndimage.find_objects((proposal | final).view(np.uint8))[0]
    first, last = (border_of(np.pad(mask[box], 1)) for mask in (proposal, final))
    added, removed = _far(last, first, 1), _far(first, last, 1)
    return PathLength(
        added_0=_far(last, first, 0),
        added_1=added,
        removed_0=_far(first, last, 0),
        removed_1=removed,
        added_1_mm=added * mm,
        removed_1_mm=removed * mm,
        border=int(last.sum()),
    )


def _far(border: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], tolerance: int) -> int:
    """How many pixels of a border are farther than the tolerance from the other."""
    if tolerance:
        from scipy import ndimage

        other = ndimage.binary_dilation(other, np.ones((3, 3), bool), iterations=tolerance)
    return int((border & ~other).sum())
