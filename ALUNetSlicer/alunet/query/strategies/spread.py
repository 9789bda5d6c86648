"""Spread: a first batch for a pool of which nothing is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.registry import register


@register(
    "spread",
    title="Spread",
    needs=[Need.NOTHING],
    source="baseline; for a first round without labels",
    summary="As many samples of every case, at equal distances along it; where they begin "
    "is drawn.",
)
@dataclass(frozen=True)
class Spread:
    """No options."""

    def select(self, query: Query) -> Batch:
        """The same number of samples of each case, give or take one, at equal distances from a
        random start.

        The order of a case's candidates is that of their ids, which is slice after slice. The cases
        come in a random order, so that chance decides which of them give one more; a case that has
        no more passes its turn on.
        """
        rng = query.streams["random-strategy"]
        return spread_over(query, rng.permutation(np.unique(query.case)).tolist(), rng.random)


def spread_over(query: Query, cases: list[int], begin: Callable[[], float]) -> Batch:
    """Give the same number of samples of each case, give or take one, at equal distances.

    Args:
        cases: in the order in which they give one more.
        begin: where in its first part a case begins, from 0 to 1.
    """
    members = {case: np.flatnonzero(query.case == case) for case in cases}
    shares = _shares([len(rows) for rows in members.values()], query.budget)
    rows: list[int] = []
    reasons: list[str] = []
    for candidates, share in zip(members.values(), shares, strict=True):
        places = np.floor((np.arange(share) + begin()) * len(candidates) / max(share, 1)).astype(
            np.int64
        )
        rows.extend(candidates[places].tolist())
        reasons.extend(
            f"number {number} of {share} spread over its case" for number in range(1, share + 1)
        )
    return query.batch(np.array(rows, np.int64), np.zeros(len(rows)), reasons)


def _shares(sizes: list[int], budget: int) -> list[int]:
    """How many to take of each case, in turns of one, until `budget` is reached; never more than
    it has.
    """
    level = 0
    while sum(min(size, level + 1) for size in sizes) <= budget:
        level += 1
    shares = [min(size, level) for size in sizes]
    for place, size in enumerate(sizes):
        if sum(shares) < budget and size > level:
            shares[place] += 1
    return shares
