"""A structure between two drawn slices: the signed distance to its border in every slice of the
gap.

The shapes of both ends are moved, scaled and turned onto a common center and spread, and their
signed distances blended (Raya and Udupa's shape-based interpolation). Centers and spreads follow
cubic curves through up to four drawn slices. Spreads are covariances: the square of a length, as
along an ellipsoid, is closer to a line than the length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from alunet.proposals.parts import Field, Numbers, Piece, square_root

OUTSIDE = np.float32(-1e3)
"""Signed distance far from every structure."""
CERTAIN = np.float32(1e3)
"""Signed distance where both ends agree on a whole shape."""
_MARGIN = 6  # pixels around the shapes in which distances are known
_BEND = 0.5  # share of the parabola's slope; the rest is that of the line between both ends
_HALF = 0.5  # of a gap: where a part without a counterpart ends
_FADE = 0.5  # of its depth that such a part would have lost at the far end of the gap
_LEAST = 0.25  # of the spread between the ends, which the cubic curve does not go below


def box_of(parts: Sequence[Piece], shape: tuple[int, int]) -> tuple[Numbers, Numbers]:
    """Return the box [low, high) of some parts and what is around them, within a slice."""
    low = np.min([part.low for part in parts], axis=0) - _MARGIN
    high = np.max([part.high for part in parts], axis=0) + _MARGIN
    return np.maximum(low, 0), np.minimum(high, shape)


@dataclass(frozen=True, eq=False)
class Patch:
    """Signed distances in a box of a slice, pixels.

    Attributes:
        low: first row and column of the box.
        field: inside positive; `OUTSIDE` where nothing is known.
    """

    low: Numbers
    field: Field

    @classmethod
    def around(cls, parts: Sequence[Piece], shape: tuple[int, int]) -> Patch:
        """A patch around some parts, in which nothing is."""
        low, high = box_of(parts, shape)
        return cls(low, np.full(tuple(int(side) for side in high - low), OUTSIDE, np.float32))

    @property
    def box(self) -> tuple[slice, slice]:
        """Where it is in the slice."""
        row, column = (int(start) for start in self.low)
        height, width = self.field.shape
        return slice(row, row + height), slice(column, column + width)

    def put(self, other: Patch) -> None:
        """Take the larger values of another patch where both are."""
        own, others = self.shared(other)
        np.maximum(own, others, out=own)

    def shared(self, other: Patch) -> tuple[Field, Field]:
        """Return both fields where both patches are, as views."""
        low = np.maximum(self.low, other.low)
        ends = [patch.low + patch.field.shape for patch in (self, other)]
        high = np.maximum(np.minimum(*ends), low)
        views = []
        for patch in (self, other):
            (top, left), (bottom, right) = (
                [int(side) for side in corner - patch.low] for corner in (low, high)
            )
            views.append(patch.field[top:bottom, left:right])
        return views[0], views[1]


def distance(part: Piece, shape: tuple[int, int]) -> Patch:
    """Return the signed distance of a part in the box around it."""
    low, high = box_of([part], shape)
    return Patch(low, part.distance(low, high))


def fading(part: Piece, away: float, reach: float, shape: tuple[int, int]) -> Patch:
    """Return the signed distance of a part beyond the outermost drawn slice: it shrinks, and ends
    at `reach`.

    Args:
        away, reach: mm from the drawn slice.
    """
    patch = distance(part, shape)
    return Patch(patch.low, patch.field - np.float32(part.depth * away / reach))


class Gap:
    """A structure between two neighboring drawn slices.

    Args:
        first, last: positions of the drawn slices, mm.
        pairs: its parts in both; None where a part has no counterpart.
        shape: rows and columns of a slice.
    """

    def __init__(
        self,
        first: float,
        last: float,
        pairs: Iterable[tuple[Piece | None, Piece | None]],
        shape: tuple[int, int],
    ) -> None:
        self.first, self.last, self.shape = first, last, shape
        self.pairs = list(pairs)
        self._blends: dict[int, _Blend] = {}

    def _end(self, part: Piece, beyond: Gap | None) -> float:
        """Return the share of the gap before which a part without a counterpart ends.

        Halfway has the least expected error; the middle slice itself still holds a structure that
        ends as a whole and was not shrinking on the way here.
        """
        whole = all(None in pair for pair in self.pairs)
        if beyond is None or not whole:
            return _HALF
        past = beyond.before(part) if beyond.last == self.first else beyond.after(part)
        holds = past is not None and part.area >= past.area
        return float(np.nextafter(_HALF, 1)) if holds else _HALF

    def before(self, part: Piece) -> Piece | None:
        """The part at this gap's first slice that goes on as `part`."""
        return next((one for one, other in self.pairs if other is part), None)

    def after(self, part: Piece) -> Piece | None:
        """The part at this gap's last slice that `part` goes on as."""
        return next((other for one, other in self.pairs if one is part), None)

    def forget(self) -> None:
        """Drop what was computed for the slices of the gap."""
        self._blends.clear()

    def field(self, position: float, earlier: Gap | None, later: Gap | None) -> Patch:
        """Return the signed distance of the structure at a position (mm).

        Args:
            earlier, later: the same structure in the gaps beside this one.
        """
        t = (position - self.first) / (self.last - self.first)
        patch = Patch.around([part for pair in self.pairs for part in pair if part], self.shape)
        for place, (one, other) in enumerate(self.pairs):
            if one is not None and other is not None:
                if place not in self._blends:
                    self._blends[place] = _Blend(one, other, self.shape)
                bend = _Bend(one, other, self, earlier, later)
                patch.put(self._blends[place].at(t, *bend.at(t)))
                continue
            part, way = (one, t) if one is not None else (other, 1 - t)
            if part is not None and way < self._end(part, earlier if one is not None else later):
                own = distance(part, self.shape)
                patch.put(Patch(own.low, own.field - np.float32(_FADE * part.depth * way)))
        return patch


class _Blend:
    """The shapes of a pair of parts on a common center and spread, from one to the other.

    Args:
        shape: rows and columns of a slice.
    """

    def __init__(self, one: Piece, other: Piece, shape: tuple[int, int]) -> None:
        self._parts, self._shape = (one, other), shape
        self._low, self._high = box_of(self._parts, shape)

    def at(self, t: float, center: Numbers, spread: Numbers) -> Patch:
        """Return the signed distance at share t of the gap, with this center and spread."""
        one, other = self._parts
        if one.same_as(other):
            patch = distance(one, self._shape)
            patch.put(Patch(one.low, np.where(one.own, CERTAIN, OUTSIDE)))
            return patch
        if self._apart:
            first, second = self._in_place
            return Patch(self._low, np.float32(1 - t) * first + np.float32(t) * second)
        start, step, first, second = self._normalized
        root = square_root(spread)
        matrix = np.linalg.inv(root) * one.spacing / step  # of pixels, to places of the lattice
        offset = matrix @ (self._low - center) - start / step
        blended = np.float32(1 - t) * first + np.float32(t) * second
        sides = tuple(int(side) for side in self._high - self._low)
        field = ndimage.affine_transform(
            blended, matrix, offset, sides, order=1, mode="nearest", output=np.float32
        )
        return Patch(self._low, field * np.float32(_size(root)))

    @cached_property
    def _apart(self) -> bool:
        """Whether the shapes overlap more where they are than on a common center and spread."""
        _, _, first, second = self._normalized
        if any(part.pieces > 1 for part in self._parts):
            return True
        return _overlap(*self._in_place) >= _overlap(first, second)

    @cached_property
    def _in_place(self) -> tuple[Field, Field]:
        """Both signed distances where they are."""
        one, other = self._parts
        return one.distance(self._low, self._high), other.distance(self._low, self._high)

    @cached_property
    def _normalized(self) -> tuple[Numbers, float, Field, Field]:
        """Start and step of a lattice, and both signed distances on it, divided by their size.

        Its axes are those of the slice, divided by the spread; a step is about a pixel of the
        larger part.
        """
        reach = np.max([np.abs(self._corners(part)) for part in self._parts], axis=(0, 1))
        step = self._parts[0].spacing.min() / max(_size(part.root) for part in self._parts)
        half = np.ceil(reach / step).astype(int)  # the same to all sides, so that a mirror is one
        start, sides = -half * step, tuple((2 * half + 1).tolist())
        fields = []
        for part in self._parts:
            matrix = part.root / part.spacing[:, None]
            low, high = box_of([part], self._shape)
            field = ndimage.affine_transform(
                part.distance(low, high), matrix * step, part.center - low + matrix @ start, sides,
                order=1, mode="nearest", output=np.float32,
            )  # fmt: skip
            fields.append(field / np.float32(_size(part.root)))
        return start, float(step), fields[0], fields[1]

    def _corners(self, part: Piece) -> Numbers:
        """The corners of a part's box on the lattice, (4, 2)."""
        low, high = box_of([part], self._shape)
        places = np.array([(y, x) for y in (low[0], high[0]) for x in (low[1], high[1])])
        return np.asarray(((places - part.center) * part.spacing) @ np.linalg.inv(part.root))


def _overlap(first: Field, second: Field) -> float:
    """Dice of the insides of two signed distances."""
    one, other = first > 0, second > 0
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def _size(root: Numbers) -> float:
    """Mean radius of the shape of a square root, mm."""
    return float(np.sqrt(np.linalg.det(root)))


class _Bend:
    """The slopes of center and spread at both ends of a pair, for the whole width of the gap."""

    def __init__(
        self, one: Piece, other: Piece, gap: Gap, earlier: Gap | None, later: Gap | None
    ) -> None:
        self._parts = (one, other)
        width = gap.last - gap.first
        self.center_start = self.center_end = straight = other.center - one.center
        self.spread_start = self.spread_end = swell = other.spread - one.spread
        if earlier is not None:
            past = width / (gap.first - earlier.first)
            before = earlier.before(one)
            if before is not None:
                self.center_start = _slope(straight, (one.center - before.center) * past, past)
                self.spread_start = _slope(swell, (one.spread - before.spread) * past, past)
            else:  # it begins somewhere in that gap, as far as is known in its middle
                self.spread_start = _slope(swell, one.spread * 2 * past, 2 * past)
        if later is not None:
            past = width / (later.last - gap.last)
            after = later.after(other)
            if after is not None:
                self.center_end = _slope(straight, (after.center - other.center) * past, past)
                self.spread_end = _slope(swell, (after.spread - other.spread) * past, past)
            else:
                self.spread_end = _slope(swell, -other.spread * 2 * past, 2 * past)

    def at(self, t: float) -> tuple[Numbers, Numbers]:
        """Return center and spread at share t of the gap."""
        one, other = self._parts
        center = _cubic(t, one.center, other.center, self.center_start, self.center_end)
        spread = _cubic(t, one.spread, other.spread, self.spread_start, self.spread_end)
        values, axes = np.linalg.eigh(spread)
        least = _LEAST * np.linalg.eigvalsh((1 - t) * one.spread + t * other.spread)[0]
        return center, np.asarray((axes * np.maximum(values, least)) @ axes.T)


def _slope(inside: Numbers, outside: Numbers, ratio: float) -> Numbers:
    """Return the slope at the middle one of three points: between the parabola's and the line's.

    Args:
        inside, outside: slopes toward the other end of the gap, and toward the point beyond.
        ratio: width of the gap to the distance of that point.
    """
    return inside + _BEND * ratio / (1 + ratio) * (outside - inside)


def _cubic(t: float, start: Numbers, end: Numbers, rise: Numbers, fall: Numbers) -> Numbers:
    """Return Hermite's cubic from `start` to `end` with these slopes there."""
    square, cube = t * t, t * t * t
    return (
        (2 * cube - 3 * square + 1) * start
        + (cube - 2 * square + t) * rise
        + (3 * square - 2 * cube) * end
        + (cube - square) * fall
    )
