"""At most so many samples of one case in a batch, whatever the strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from alunet.query.problem import Batch, Query

Rows = npt.NDArray[np.int64]


def capped(picks: Callable[[Query], Batch], query: Query, cap: int) -> Batch:
    """Return the first `budget` picks of which no case has more than `cap`.

    The strategy is asked for further picks behind its batch until there are enough. Where the
    candidates do not suffice, picks beyond the cap fill the batch up, in their order, and the
    diagnostics say how many (``above_cap``).

    Args:
        picks: gives a batch and what is ahead of it; see `Options.select`.
    """
    further = query.budget
    while True:
        asked = replace(query, ahead=min(further, len(query) - query.budget))
        batch = picks(asked)
        while len(batch.ids) < asked.total:  # strategies that choose a whole batch at once
            batch = batch.followed_by(picks(asked.behind(batch)))
        kept = _within(query, batch, cap)
        if len(kept) >= query.budget or asked.total == len(query):
            break
        further *= 2
    above = max(0, query.budget - len(kept))
    others = np.setdiff1d(np.arange(len(batch.ids)), kept)[:above]
    places = np.concatenate([kept[: query.budget], others])
    return replace(batch.only(places), diagnostics={**batch.diagnostics, "above_cap": above})


def _within(query: Query, batch: Batch, cap: int) -> Rows:
    """Places of the picks that are among the first `cap` of their case, ascending."""
    case = query.case[np.searchsorted(query.ids, batch.ids)]
    order = np.argsort(case, kind="stable")
    _, first, counts = np.unique(case[order], return_index=True, return_counts=True)
    number = np.empty(len(case), np.int64)
    number[order] = np.arange(len(case)) - np.repeat(first, counts)
    return np.flatnonzero(number < cap)
