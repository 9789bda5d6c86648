"""Parts of a structure in a slice: shape, place and size, and which of two slices belong together.

Coordinates are pixels (row, column); lengths are mm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
Box = tuple[slice, slice]

_EIGHT = np.ones((3, 3), bool)
_NEAR = 2.0  # parts without overlap match nearer than so many times their radii together


class Piece:
    """One or more pieces of a structure in one slice that are interpolated as one shape.

    Args:
        mask: where the structure is, enclosed structures included; at least one pixel.
        own: of these the pixels that are labeled as the structure.
        low: row and column of the masks' first pixel in the slice.
        spacing: mm between rows and between columns.
    """

    def __init__(self, mask: Mask, own: Mask, low: Numbers, spacing: tuple[float, float]) -> None:
        self.mask, self.own, self.low = mask, own, np.asarray(low)
        self.high = self.low + self.mask.shape
        self.spacing = np.array(spacing)

    @cached_property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask.sum())

    @cached_property
    def pieces(self) -> int:
        """How many pieces it is of."""
        return int(ndimage.label(self.mask, _EIGHT)[1])

    @cached_property
    def center(self) -> Numbers:
        """Centroid, pixels (2,)."""
        return np.asarray(np.argwhere(self.mask).mean(axis=0) + self.low)

    @cached_property
    def spread(self) -> Numbers:
        """Covariance of its pixels, mm², (2, 2)."""
        offsets = (np.argwhere(self.mask) + self.low - self.center) * self.spacing
        return np.asarray(offsets.T @ offsets / len(offsets) + np.diag(self.spacing**2 / 12))

    @cached_property
    def root(self) -> Numbers:
        """Square root of the spread, mm (2, 2): takes a circle of radius 1 to the shape."""
        return square_root(self.spread)

    def same_as(self, other: Piece) -> bool:
        """Whether both cover the same pixels."""
        return (
            np.array_equal(self.low, other.low)
            and np.array_equal(self.mask, other.mask)
            and np.array_equal(self.own, other.own)
        )

    def placed(self, low: Numbers, high: Numbers, mask: Mask) -> Mask:
        """Return one of its masks in a box [low, high) that holds it."""
        out = np.zeros(tuple(int(side) for side in high - low), bool)
        row, column = (int(start) for start in self.low - low)
        out[row : row + mask.shape[0], column : column + mask.shape[1]] = mask
        return out

    def distance(self, low: Numbers, high: Numbers) -> Field:
        """Return the signed distance to its border in a box that holds it, inside positive.

        In units of the smaller spacing, so that the pixels at the border have about +-0.5.
        """
        mask = self.placed(low, high, self.mask)
        if mask.all():  # nothing says where it ends
            return np.full(mask.shape, min(mask.shape) / 2, np.float32)
        sampling = tuple(self.spacing / self.spacing.min())
        inside = ndimage.distance_transform_edt(mask, sampling)
        outside = ndimage.distance_transform_edt(~mask, sampling)
        return np.asarray(np.where(mask, inside - 0.5, 0.5 - outside), np.float32)

    @cached_property
    def depth(self) -> float:
        """The largest distance of a pixel to the border, in units of the smaller spacing."""
        return float(self.distance(self.low - 1, self.high + 1).max())


def square_root(spread: Numbers) -> Numbers:
    """Return the square root of a covariance."""
    values, axes = np.linalg.eigh(spread)
    return np.asarray((axes * np.sqrt(values)) @ axes.T)


def enclosed(labels: npt.NDArray[np.unsignedinteger], structure: int) -> tuple[Mask, set[int]]:
    """Return the mask of a structure with the holes that other structures fill, and these.

    A hole that holds background stays one: it may be the structure's own.
    """
    mask = labels == structure
    pieces, count = ndimage.label(~np.pad(mask, 1))  # the first is what is around the structure
    inner: set[int] = set()
    if count == 1:
        return mask, inner
    pieces = pieces[1:-1, 1:-1]
    for number, box in enumerate(ndimage.find_objects(pieces, count), 1):
        if number == 1 or box is None:
            continue
        hole = pieces[box] == number
        held = np.unique(labels[box][hole])
        if held[0] > 0:
            mask[box] |= hole
            inner.update(held.tolist())
    return mask, inner


def matched(first: Mask, second: Mask) -> list[tuple[Mask | None, Mask | None]]:
    """Return which pieces of a structure in two slices are one shape; None where one has none.

    Pieces that overlap belong together, so that one may split into several; of the others those
    that are near. The masks have one shape.
    """
    (one, count), (two, others) = (ndimage.label(mask, _EIGHT) for mask in (first, second))
    if count == 1 and others == 1:
        return [(first, second)]
    overlap = (one > 0) & (two > 0)
    pairs = set(zip(one[overlap].tolist(), two[overlap].tolist(), strict=True))
    left = sorted(set(range(1, count + 1)) - {a for a, _ in pairs})
    right = sorted(set(range(1, others + 1)) - {b for _, b in pairs})
    pairs.update(_nearest(one, left, two, right))
    groups = _groups(pairs, count, others)
    return [(np.isin(one, a) if a else None, np.isin(two, b) if b else None) for a, b in groups]


def _nearest(
    one: npt.NDArray[np.integer], left: list[int], two: npt.NDArray[np.integer], right: list[int]
) -> Iterable[tuple[int, int]]:
    """Pair the nearest of the pieces that overlap with none."""
    if not (left and right):
        return
    centers = [
        np.array(ndimage.center_of_mass(pieces > 0, pieces, numbers))
        for pieces, numbers in ((one, left), (two, right))
    ]
    radii = [
        np.sqrt(ndimage.sum_labels(pieces > 0, pieces, numbers) / np.pi)
        for pieces, numbers in ((one, left), (two, right))
    ]
    apart = np.linalg.norm(centers[0][:, None] - centers[1][None], axis=2)
    apart = np.round(apart / (radii[0][:, None] + radii[1][None]), 6)
    while (least := apart.min()) < _NEAR:
        nearest = np.argwhere(apart == least)  # several at the same distance are one shape
        yield from ((left[a], right[b]) for a, b in nearest)
        apart[nearest[:, 0]], apart[:, nearest[:, 1]] = np.inf, np.inf


def _groups(
    pairs: Iterable[tuple[int, int]], count: int, others: int
) -> list[tuple[list[int], list[int]]]:
    """Return the connected parts of the graph of pairs, as pieces of each slice."""
    root = list(range(count + others + 1))

    def find(place: int) -> int:
        while root[place] != place:
            place = root[place]
        return place

    for a, b in pairs:
        root[find(a)] = find(count + b)
    found: defaultdict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for a in range(1, count + 1):
        found[find(a)][0].append(a)
    for b in range(1, others + 1):
        found[find(count + b)][1].append(b)
    return list(found.values())
