"""Stochastic batches: the pool is cut into random batches, and the most uncertain of them is
taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from alunet.query.dropout_passes import PUBLISHED_PASSES, PassOptions
from alunet.query.model_outputs import Floats, Need
from alunet.query.problem import Batch, Query, checked_scores
from alunet.query.registry import register


@register(
    "stochastic-batches",
    title="Stochastic batches",
    needs=[Need.ENTROPY],
    source="Gaillochet et al. 2023",
    summary="The random batch with the largest sum of entropies: uncertain, and varied by chance.",
    published={**PUBLISHED_PASSES, "measure": "variance", "groups": "ceil"},
)
@dataclass(frozen=True)
class StochasticBatches(PassOptions):
    """Options of stochastic batches (docs/method.md, 2.4).

    Attributes:
        measure: "entropy" of one pass, as published; "variance" of the softmax over dropout passes,
            mean over all classes, as in the code of the published experiments; `dropout` and
            `passes` are of the latter.
        groups: "floor", the rest that fills no batch is left out, as published; "ceil", it competes
            as one more, short batch, as in the code. Should that one win, the best of the others
            fill it up.
    """

    measure: Literal["entropy", "variance"] = "entropy"
    groups: Literal["floor", "ceil"] = "floor"

    @property
    def needs(self) -> frozenset[Need]:
        """What the chosen measure asks of the model."""
        return frozenset([Need.ENTROPY if self.measure == "entropy" else Need.MC])

    def select(self, query: Query) -> Batch:
        """Cut a random permutation into batches of `budget` and take the one of the largest sum."""
        scores, budget = self._scores(query), query.budget
        order = query.streams["stb-groups"].permutation(len(query))
        full = len(query) // budget * budget
        groups = [order[start : start + budget] for start in range(0, full, budget)]
        if self.groups == "ceil" and full < len(query):
            groups.append(order[full:])
        sums = np.array([scores[group].sum() for group in groups])
        rows = np.concatenate([groups[place] for place in np.argsort(-sums, kind="stable")[:2]])[
            :budget
        ]
        unit = " bit" if self.measure == "entropy" else ""
        reasons = [
            f"in the best of {len(groups)} random batches; {self.measure} {scores[row]:.3g}{unit}"
            for row in rows
        ]
        return query.batch(
            rows,
            scores[rows],
            reasons,
            scores,
            groups=len(groups),
            leftover=len(query) - sum(len(group) for group in groups),
            group_score=float(sums.max()),
            mean_group_score=float(sums.mean()),
        )

    def _scores(self, query: Query) -> Floats:
        if self.measure == "entropy":
            return checked_scores(query.outputs.entropy(), query.ids, "Entropy")
        variance = checked_scores(self.scores(query).var, query.ids, "The Monte-Carlo variance")
        mean: Floats = variance.mean(axis=1)
        return mean
