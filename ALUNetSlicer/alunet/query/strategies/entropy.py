"""Entropy: the samples on which one deterministic pass is least sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alunet.query.problem import Batch, Need, Query, checked_scores
from alunet.query.registry import register


@register("entropy", title="Entropy", needs=[Need.ENTROPY], source="Shannon 1948",
          summary="Largest mean pixel entropy of the softmax of one pass without dropout.")
@dataclass(frozen=True)
class Entropy:
    """No options."""

    def select(self, query: Query) -> Batch:
        """Take the largest entropies; among equals the smallest id."""
        scores = checked_scores(query.signals.entropy(), query.ids, "Entropy")
        rows = np.argsort(-scores, kind="stable")[: query.budget]
        reasons = [f"entropy {scores[row]:.3g} bit; rank {rank}" for rank, row in enumerate(rows, 1)]
        return query.batch(rows, scores[rows], reasons)
