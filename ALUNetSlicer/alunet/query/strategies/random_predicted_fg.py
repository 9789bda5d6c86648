"""Random on the foreground that the model predicts: what `random-fg66` is without hidden labels."""

from __future__ import annotations

from dataclasses import dataclass

from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.registry import register
from alunet.query.strategies.random_fg import AREAS_66, draw


@register(
    "random-predicted-fg66",
    title="Random, 66 % predicted foreground",
    needs=[Need.PREDICTION],
    source="after nnActive (MIC-DKFZ)",
    summary="Random; two thirds of the batch are drawn on structures that the model predicts, or "
    "on their borders.",
)
@dataclass(frozen=True)
class RandomPredictedFg66:
    """No options."""

    def select(self, query: Query) -> Batch:
        """Draw the batch."""
        return draw(query, query.outputs.predicted(), AREAS_66)
