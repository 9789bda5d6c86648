"""Core-Set: samples that leave no other sample far from a labelled one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.registry import register


@register(
    "core-set",
    title="Core-Set",
    needs=[Need.FEATURES],
    source="Sener and Savarese 2018",
    summary="Farthest first: each pick has the largest distance to the labelled samples and "
    "earlier picks.",
)
@dataclass(frozen=True)
class CoreSet:
    """No options. Distances are Euclidean, between flattened outputs of the encoder's last
    activation.
    """

    def select(self, query: Query) -> Batch:
        """k-centre greedy (docs/method.md, 2.4); among equals the smallest id."""
        # numba is slow to import; listing strategies needs none
        from alunet.query.centres import farthest_first

        found = farthest_first(
            query.outputs.features(),
            query.outputs.labelled_features(),
            query.budget,
            query.ids,
            query.total - query.budget,
        )
        distances = np.sqrt(found.squares)
        reasons = [
            f"farthest from what is labelled: distance {distance:.3g}; rank {rank}"
            for rank, distance in enumerate(distances, 1)
        ]
        if found.arbitrary:
            distances[0], reasons[0] = (
                0.0,
                "nothing is labelled yet: the first sample of the pool; rank 1",
            )
        return query.batch(found.rows, distances, reasons, radius=float(np.sqrt(found.left)))
