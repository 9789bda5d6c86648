"""The source "neighbors": interpolation from the drawn slices of the same case."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping

import numpy as np
from scipy import ndimage

from alunet.errors import InputError
from alunet.proposals.gap import CERTAIN, Gap, Patch, fading
from alunet.proposals.parts import Box, Field, Mask, Piece, enclosed, matched
from alunet.proposals.proposal import LabelMap

_EDGE = np.float32(0.1)  # pixels outside the blended border that still count as inside
_DECIMALS = 3  # decimals of a pixel to which signed distances are compared


class Neighbors:
    """The drawn slices of a case, and what is between them.

    Nothing is computed before it is asked for, and little of it again after a slice was drawn.

    Args:
        drawn: slice number -> its labels (h, w), all of one shape; a slice that was drawn empty
            counts as one.
        spacing: mm between slices, rows and columns.
        count: slices of the case.

    Raises:
        InputError: the slices have several shapes.
    """

    def __init__(
        self, drawn: Mapping[int, LabelMap], spacing: tuple[float, float, float], count: int
    ) -> None:
        self._drawn = {int(number): drawn[number] for number in sorted(drawn)}
        shapes = {labels.shape for labels in self._drawn.values()}
        if len(shapes) > 1:
            raise InputError(f"Drawn slices have the shapes {sorted(shapes)}.", "Give one shape.")
        self.count = count
        self._thickness, self._pixel = float(spacing[0]), (float(spacing[1]), float(spacing[2]))
        self._slices: dict[int, _Slice] = {}
        self._gaps: dict[tuple[int, int], dict[int, Gap]] = {}
        self._latest: dict[int, Gap] = {}

    @property
    def drawn(self) -> list[int]:
        """Numbers of the drawn slices, ascending."""
        return list(self._drawn)

    def draw(self, number: int, labels: LabelMap) -> range:
        """Take the labels of a slice, and return the slices whose proposals follow from it.

        Raises:
            InputError: its shape is not that of the others.
        """
        for own in self._drawn.values():
            if own.shape != labels.shape:
                raise InputError(
                    f"A slice has the shape {labels.shape}, not {own.shape}.", "Give one shape."
                )
        self._slices.pop(number, None)
        self._drawn = dict(sorted({**self._drawn, number: labels}.items()))
        numbers = self.drawn
        known = set(zip(numbers[:-1], numbers[1:], strict=True))
        self._gaps = {
            ends: gap for ends, gap in self._gaps.items() if ends in known and number not in ends
        }
        place = numbers.index(number)
        # two on each side, because the curves go through four drawn slices
        first = numbers[place - 2] + 1 if place > 1 else 0
        last = numbers[place + 2] if place + 2 < len(numbers) else self.count
        return range(first, last)

    def beside(self, number: int) -> tuple[int | None, int | None]:
        """The nearest drawn slices before and behind a slice; of a drawn one, itself."""
        numbers = self.drawn
        behind, before = bisect_left(numbers, number), bisect_right(numbers, number) - 1
        return (
            numbers[before] if before >= 0 else None,
            numbers[behind] if behind < len(numbers) else None,
        )

    def at(self, number: int) -> LabelMap:
        """Return the labels of a slice: as drawn, or what its neighbors say.

        Beyond the outermost drawn slice structures shrink, and end as far away as the next drawn
        slice is; where one slice alone is drawn, as a ball would.

        Raises:
            InputError: nothing is drawn.
        """
        if number in self._drawn:
            return self._drawn[number]
        before, behind = self.beside(number)
        if before is None and behind is None:
            raise InputError("No slice of the case is drawn.", "Draw one first.")
        if before is not None and behind is not None:
            return self._between(before, number, behind)
        return self._beyond(number, before if before is not None else behind or 0)

    def without(self, number: int) -> Neighbors:
        """Return the same case with one slice not drawn."""
        drawn = {own: labels for own, labels in self._drawn.items() if own != number}
        rest = Neighbors(drawn, (self._thickness, *self._pixel), self.count)
        rest._slices = {own: known for own, known in self._slices.items() if own != number}
        return rest

    def separation(self, number: int) -> float | None:
        """Return how far the drawn slices beside a slice are, by the size of what they hold.

        Twice the product of both distances by their sum, where one side is not drawn twice the
        distance; by the mean radius of the structures there, or in the whole case where they hold
        none. 0 for a drawn slice, None where nothing is drawn that has a size.
        """
        if number in self._drawn:
            return 0.0
        beside = [own for own in self.beside(number) if own is not None]
        radii = self._radii(beside) or self._radii(self.drawn)
        if not radii:
            return None
        apart = sum(1 / abs(own - number) for own in beside)
        return float(2 * self._thickness / apart / np.mean(radii))

    # --- inside -----------------------------------------------------------------------------------

    def _slice(self, number: int) -> _Slice:
        if number not in self._slices:
            self._slices[number] = _Slice(self._drawn[number], self._pixel)
        return self._slices[number]

    def _radii(self, numbers: list[int]) -> list[float]:
        """Radii of circles as large as the structures in some drawn slices, mm."""
        pixel = self._pixel[0] * self._pixel[1]
        areas = [area for number in numbers for area in self._slice(number).areas.values()]
        return [float(np.sqrt(area * pixel / np.pi)) for area in areas]

    def _between(self, before: int, number: int, behind: int) -> LabelMap:
        numbers = self.drawn
        place = numbers.index(before)
        gaps = self._gap(before, behind)
        if gaps is not self._latest:  # slices are asked for gap by gap
            for gap in self._latest.values():
                gap.forget()
            self._latest = gaps
        earlier = self._gap(numbers[place - 1], before) if place else None
        later = self._gap(behind, numbers[place + 2]) if place + 2 < len(numbers) else None
        first, last = self._slice(before), self._slice(behind)
        merged = _Merged(self._drawn[before])
        for structure, gap in gaps.items():
            patch = gap.field(
                number * self._thickness,
                earlier.get(structure) if earlier is not None else None,
                later.get(structure) if later is not None else None,
            )
            area = first.areas.get(structure, 0) + last.areas.get(structure, 0)
            inner = first.inner.get(structure, set()) | last.inner.get(structure, set())
            merged.add(structure, patch, area, inner)
        return merged.labels()

    def _beyond(self, number: int, nearest: int) -> LabelMap:
        numbers, own = self.drawn, self._slice(nearest)
        away = abs(number - nearest) * self._thickness
        merged = _Merged(self._drawn[nearest])
        for structure, part in own.parts.items():
            reach = part.depth * min(self._pixel)
            if len(numbers) > 1:
                outer = numbers[:2] if nearest == numbers[0] else numbers[-2:]
                reach = (outer[1] - outer[0]) * self._thickness
            if away < reach:
                patch = fading(part, away, reach, own.shape)
                merged.add(structure, patch, own.areas[structure], own.inner[structure])
        return merged.labels()

    def _gap(self, before: int, behind: int) -> dict[int, Gap]:
        """Each structure between two drawn slices."""
        if (before, behind) not in self._gaps:
            first, last = self._slice(before), self._slice(behind)
            self._gaps[before, behind] = {
                structure: Gap(
                    before * self._thickness,
                    behind * self._thickness,
                    list(_pairs(first, last, structure)),
                    first.shape,
                )
                for structure in sorted(first.parts.keys() | last.parts.keys())
            }
        return self._gaps[before, behind]


class _Slice:
    """The structures of a drawn slice."""

    def __init__(self, labels: LabelMap, spacing: tuple[float, float]) -> None:
        self.shape: tuple[int, int] = (labels.shape[0], labels.shape[1])
        self.parts: dict[int, Piece] = {}
        self.inner: dict[int, set[int]] = {}
        self._labels, self._spacing = labels, spacing
        self._known: dict[tuple[int, int, int, bytes], Piece] = {}
        for place, box in enumerate(ndimage.find_objects(labels)):
            if box is not None:
                mask, self.inner[place + 1] = enclosed(labels[box], place + 1)
                self.parts[place + 1] = self.part(place + 1, mask, box)
        self.areas = {structure: part.area for structure, part in self.parts.items()}

    def part(self, structure: int, mask: Mask, box: Box) -> Piece:
        """The part of these pixels; the same object for the same pixels.

        Args:
            box: place of the mask in the slice; every side of the mask holds a pixel.
        """
        low = np.array([side.start for side in box])
        key = (structure, int(low[0]), int(low[1]), np.packbits(mask).tobytes())
        if key not in self._known:
            own = mask & (self._labels[box] == structure)
            self._known[key] = Piece(mask, own, low, self._spacing)
        return self._known[key]


def _pairs(
    first: _Slice, last: _Slice, structure: int
) -> Iterator[tuple[Piece | None, Piece | None]]:
    """The parts of a structure in two drawn slices that belong together."""
    wholes = [own.parts.get(structure) for own in (first, last)]
    present = [part for part in wholes if part is not None]
    low = np.min([part.low for part in present], axis=0)
    high = np.max([part.high for part in present], axis=0)
    empty = np.zeros(tuple(int(side) for side in high - low), bool)
    masks = [empty if part is None else part.placed(low, high, part.mask) for part in wholes]

    def cut(own: _Slice, mask: Mask | None) -> Piece | None:
        if mask is None:
            return None
        rows, columns = ndimage.find_objects(mask.view(np.uint8))[0]
        top, left = int(low[0]), int(low[1])
        box = (
            slice(rows.start + top, rows.stop + top),
            slice(columns.start + left, columns.stop + left),
        )
        return own.part(structure, mask[rows, columns], box)

    for one, other in matched(*masks):
        yield cut(first, one), cut(last, other)


class _Merged:
    """One label map out of the signed distances of structures: the deepest inside wins."""

    def __init__(self, like: LabelMap) -> None:
        self._like = like
        self._fields: dict[int, tuple[Patch, int, set[int]]] = {}

    def add(self, structure: int, patch: Patch, area: int, inner: set[int]) -> None:
        """Take the signed distances of a structure.

        Args:
            area: pixels in the neighbors; at the same depth the larger structure wins.
            inner: structures that it encloses, whose place is theirs.
        """
        self._fields[structure] = (patch, area, inner)

    def labels(self) -> LabelMap:
        """Return the labels, of the neighbors' type."""
        best = np.full(self._like.shape, -_EDGE, np.float32)
        areas = np.zeros(self._like.shape, np.int64)
        out = np.zeros_like(self._like)
        ordered = sorted(self._fields.items(), key=lambda item: -item[1][1])
        for structure, (patch, area, inner) in ordered:
            own = np.round(self._without(structure, patch, inner), _DECIMALS)
            depth, sizes, labels = best[patch.box], areas[patch.box], out[patch.box]
            labels[(own == depth) & (sizes == area)] = 0  # neither side nor number decides
            deeper = own > depth
            depth[deeper], sizes[deeper], labels[deeper] = own[deeper], area, structure
        return out

    def _without(self, structure: int, patch: Patch, inner: set[int]) -> Field:
        field: Field = patch.field.copy()
        for other in inner:
            held = self._fields.get(other)
            if held is not None and structure not in held[2]:
                here, there = Patch(patch.low, field).shared(held[0])
                np.minimum(here, -there, out=here, where=here < CERTAIN)
        return field
