"""Stochastic batches: the pool is cut into random batches, and the most uncertain of them is taken as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from alunet.query.problem import Batch, Floats, Need, Query, checked_scores
from alunet.query.registry import register


@register("stochastic-batches", title="Stochastic batches", needs=[Need.ENTROPY], source="Gaillochet et al. 2023",
          summary="The random batch with the largest sum of entropies: uncertain, and varied by chance.")
@dataclass(frozen=True)
class StochasticBatches:
    """Options of stochastic batches (specification 2.4).

    Attributes:
        measure: "entropy" of one pass, as published; "variance" of the softmax over dropout passes, mean over all
            classes, as in the code of the published experiments.
    """

    measure: Literal["entropy", "variance"] = "entropy"

    @property
    def needs(self) -> frozenset[Need]:
        """What the chosen measure asks of the model."""
        return frozenset([Need.ENTROPY if self.measure == "entropy" else Need.MC])

    def select(self, query: Query) -> Batch:
        """Cut a random permutation into ``floor(n / budget)`` batches; the rest, fewer than a batch, is left out."""
        scores = self._scores(query)
        order = query.streams["stb-groups"].permutation(len(query))
        count = len(query) // query.budget
        groups = order[: count * query.budget].reshape(count, query.budget)
        sums = scores[groups].sum(axis=1)
        best = int(np.argmax(sums))
        rows = groups[best]
        unit = " bit" if self.measure == "entropy" else ""
        reasons = [f"in the best of {count} random batches; {self.measure} {scores[row]:.3g}{unit}" for row in rows]
        return query.batch(rows, scores[rows], reasons, groups=count, leftover=len(query) - count * query.budget,
                           group_score=float(sums[best]), mean_group_score=float(sums.mean()))

    def _scores(self, query: Query) -> Floats:
        if self.measure == "entropy":
            return checked_scores(query.signals.entropy(), query.ids, "Entropy")
        return checked_scores(query.signals.mc().var, query.ids, "The Monte-Carlo variance").mean(axis=1)
