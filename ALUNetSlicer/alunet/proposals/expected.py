"""How good a proposal is expected to be, and which source is the best for a slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alunet.proposals.neighbors import Neighbors
from alunet.proposals.proposal import LabelMap

RATE = 1.1
"""Of the loss of Dice with the separation, where too few drawn slices say it; of public data sets
ACDC's, the others have 0.9 to 1.7.
"""
MODEL_UNMEASURED = 0.7
"""Expected Dice of a model that no test case measures."""
ENOUGH = 4
"""Drawn slices to leave out, before they say more than the default."""
MOST = 8
"""Drawn slices that are left out, the nearest ones; each costs about as much as a proposal."""
_WORST = 0.05  # least Dice that a left-out slice counts with


@dataclass(frozen=True)
class Accuracy:
    """Expected Dice of the neighbors' proposals: exp(-rate times separation).

    Attributes:
        rate: loss for each separation of 1; see `Neighbors.separation`.
        slices: drawn slices that it was fitted on; 0 for the default.
    """

    rate: float = RATE
    slices: int = 0

    def quality(self, separation: float | None) -> float | None:
        """Return the expected Dice of a slice; None where nothing says it."""
        return None if separation is None else float(np.exp(-self.rate * separation))


def fit_accuracy(source: Neighbors, number: int) -> Accuracy:
    """Fit the accuracy around a slice by leaving the drawn slices near it out, one at a time.

    Fewer than `ENOUGH` of them that hold a structure give the default. Leaving one out doubles the
    gap, so that Dice is not that of the slice asked for, but its loss with the separation is.
    """
    inner = sorted(source.drawn[1:-1], key=lambda own: abs(own - number))[:MOST]
    losses, lengths = [], []
    for own in inner:
        rest = source.without(own)
        separation, value = rest.separation(own), slice_dice(rest.at(own), source.at(own))
        if separation is not None and value is not None:
            losses.append(-np.log(max(value, _WORST)))
            lengths.append(separation)
    if len(losses) < ENOUGH:
        return Accuracy()
    rate = float(np.dot(losses, lengths) / np.dot(lengths, lengths))
    return Accuracy(rate, len(losses))


def slice_dice(proposal: LabelMap, final: LabelMap) -> float | None:
    """Return the mean Dice of the structures in either label map; None where there is none."""
    values = []
    for structure in _structures([proposal, final]):
        one, other = proposal == structure, final == structure
        values.append(2 * int((one & other).sum()) / (int(one.sum()) + int(other.sum())))
    return float(np.mean(values)) if values else None


def _structures(maps: Sequence[LabelMap]) -> Iterable[int]:
    held = np.unique(np.concatenate([np.unique(labels) for labels in maps]))
    return [int(number) for number in held if number]
