"""Random: the bar that every strategy must clear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.registry import register


@register(
    "random",
    title="Random",
    needs=[Need.NOTHING],
    source="baseline",
    summary="Uniformly among all unlabelled samples, without replacement.",
)
@dataclass(frozen=True)
class Random:
    """No options."""

    def select(self, query: Query) -> Batch:
        """Draw the batch."""
        rows = query.streams["random-strategy"].choice(len(query), query.budget, replace=False)
        return query.batch(rows, np.zeros(len(rows)), ["drawn at random"] * len(rows))
