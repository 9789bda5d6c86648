"""Fixed interval: every so-manieth slice, as people do without a tool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.registry import register
from alunet.query.strategies.spread import spread_over


@register(
    "fixed-interval",
    title="Fixed interval",
    needs=[Need.NOTHING],
    source="baseline; common practice",
    summary="Slices at equal distances along every case, nothing drawn.",
)
@dataclass(frozen=True)
class FixedInterval:
    """No options."""

    def select(self, query: Query) -> Batch:
        """Take the middles of equal parts of every case; the largest cases give one more."""
        cases, sizes = np.unique(query.case, return_counts=True)
        order = cases[np.argsort(-sizes, kind="stable")]
        return spread_over(query, order.tolist(), lambda: 0.5)
