"""Samples that lie far from each other: k-centre greedy and k-means++ seeding (docs/method.md,
2.4).

Memory: the embeddings of the candidates, 4 n d bytes, are held once; everything else is a block or
a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.query import _distances
from alunet.query.model_outputs import Floats, Ints
from alunet.query.problem import checked_scores

Rows = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Centres:
    """Rows in pick order.

    Attributes:
        rows: (b,) positions.
        squares: (b,) squared distance to the nearest centre when picked; of the first pick without
            any centre before it, the squared length of its embedding.
        left: largest squared distance of a row that was not picked to its nearest centre; 0 where
            all were picked.
        arbitrary: the first pick had nothing to be far from.
        filled: how many of the last picks were drawn uniformly, since every row equalled a centre.
    """

    rows: Rows
    squares: Doubles
    left: float
    arbitrary: bool = False
    filled: int = 0


def farthest_first(
    values: Floats, labelled: Floats, budget: int, ids: Ints, ahead: int = 0
) -> Centres:
    """k-centre greedy: again and again the row farthest from `labelled` and from the rows picked
    before.

    Sener and Savarese 2018, algorithm 1. Among equals the smallest row; without labelled samples
    row 0 comes first.

    Args:
        values: (n, d) embeddings of the candidates.
        labelled: (l, d) embeddings of the labelled samples; l may be 0.
        budget: rows to pick, at most n.
        ids: (n,) sample ids, for messages.
        ahead: rows to pick after them; `left` is what the first `budget` leave.

    Raises:
        InputError: an embedding is not finite.
    """
    values, lengths = _checked(values, ids)
    nearest = _to_labelled(values, np.asarray(labelled))
    rows, squares, left = np.empty(budget + ahead, np.int64), np.empty(budget + ahead), 0.0
    for step in range(budget + ahead):
        row = int(np.argmax(nearest))
        rows[step] = row
        squares[step] = nearest[row] if np.isfinite(nearest[row]) else lengths[row]
        nearest[row] = 0.0
        _distances.shorten(values, values[row], nearest)
        nearest[row] = -1.0  # never again, not even where all others are at distance 0
        if step == budget - 1:
            left = float(max(nearest.max(), 0.0))
    return Centres(rows, squares, left, arbitrary=len(labelled) == 0)


def kmeans_plus_plus(
    values: Floats, budget: int, rng: np.random.Generator, ids: Ints, ahead: int = 0
) -> Centres:
    """Seeding of k-means++ with the longest row as first centre, as in BADGE (Ash et al. 2020,
    algorithm 1).

    Each next row is drawn with probability ``d_i^2 / sum d^2``, d the distance to the nearest
    centre, so that no row is drawn twice. Where all distances are 0 the rest is drawn uniformly
    among the rows that are left.

    Args:
        values: (n, d) embeddings.
        budget: rows to pick, at most n.
        rng: the random stream.
        ids: (n,) sample ids, for messages.
        ahead: rows to pick after them.

    Raises:
        InputError: an embedding is not finite.
    """
    values, lengths = _checked(values, ids)
    row = int(np.argmax(lengths))
    rows, squares = [row], [float(lengths[row])]
    nearest = _distances.squares_to(values, values[row])
    while len(rows) < budget + ahead and nearest.any():
        row = draw(nearest, rng)
        rows.append(row)
        squares.append(float(nearest[row]))
        _distances.shorten(values, values[row], nearest)
    filled = budget + ahead - len(rows)
    for size in (budget, budget + ahead):
        # one after the other, so that what is ahead does not change the batch
        if len(rows) < size:
            others = np.setdiff1d(np.arange(len(values)), rows)
            rows.extend(rng.choice(others, size - len(rows), replace=False).tolist())
    squares.extend([0.0] * filled)
    return Centres(np.array(rows, np.int64), np.array(squares), float(nearest.max()), filled=filled)


def draw(weights: Doubles, rng: np.random.Generator) -> int:
    """One position in proportion to `weights` (n,), which are not negative and not all 0; never
    one of weight 0.
    """
    ends = np.cumsum(weights)
    # The first end beyond the number drawn is never that of a weight 0, which ends where the one
    # before it does.
    place = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
    return place if place < len(weights) else int(np.flatnonzero(weights)[-1])


def _checked(values: Floats, ids: Ints, which: str = "") -> tuple[Floats, Doubles]:
    """The embeddings as a plain array, and their squared lengths, which are finite only where
    every number is.
    """
    values = np.ascontiguousarray(values)
    lengths = _distances.squares_to(values, np.zeros(values.shape[1], values.dtype))
    return values, checked_scores(lengths, ids, f"The {which}embedding")


def _to_labelled(values: Floats, labelled: npt.NDArray[np.floating[Any]]) -> Doubles:
    """(n,) squared distance to the nearest labelled sample; infinite where there is none.

    ``|a - b|^2 = |a|^2 + |b|^2 - 2 a.b`` is one matrix product a block, but loses the digits of
    small distances. So it is taken about the labelled samples' mean, and only points at the nearest
    of them; the distance to that one is then added up from differences, in double.
    """
    if len(labelled) == 0:
        return np.full(len(values), np.inf)
    labelled, _ = _checked(
        labelled.astype(values.dtype, copy=False), np.arange(len(labelled)), "labelled "
    )
    mean = labelled.mean(axis=0, dtype=np.float64).astype(values.dtype)
    shifted = labelled - mean
    own = np.square(shifted, dtype=np.float64).sum(axis=1)
    nearest = np.empty(len(values))
    step = max(1, BLOCK_BYTES // (8 * len(labelled) + values[0].nbytes))
    for start in range(0, len(values), step):
        part = slice(start, start + step)
        # |a|^2 is the same for all
        which = np.argmin(own - 2.0 * ((values[part] - mean) @ shifted.T), axis=1)
        nearest[part] = _distances.squares_between(values[part], labelled, which)
    return nearest
