"""BADGE-LL: samples that would move the last layer much, and each in another direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.registry import register


@register(
    "badge-ll",
    title="BADGE-LL",
    needs=[Need.LAST_LAYER],
    source="Ash et al. 2020, for images as ALGES-img",
    summary="k-means++ over last-layer gradients of the training loss with predictions as labels.",
)
@dataclass(frozen=True)
class BadgeLl:
    """No options.

    The layer is the last 3x3 convolution of the decoder; its bias is left out, because the instance
    norm behind it makes the bias gradient 0.
    """

    def select(self, query: Query) -> Batch:
        """Largest gradient first, then draws in proportion to the squared distance
        (docs/method.md, 2.4).
        """
        # numba is slow to import; listing strategies needs none
        from alunet.query.centres import kmeans_plus_plus

        gradients = query.outputs.last_layer_gradients()
        found = kmeans_plus_plus(
            gradients,
            query.budget,
            query.streams["kmeans++"],
            query.ids,
            query.total - query.budget,
        )
        distances = np.sqrt(found.squares)
        reasons = [
            f"gradient {distance:.3g} away from the nearest pick; drawn as number {rank}"
            for rank, distance in enumerate(distances, 1)
        ]
        reasons[0] = f"largest gradient, length {distances[0]:.3g}; number 1"
        for rank in range(query.total - found.filled, query.total):
            reasons[rank] = "all gradients are picked already: drawn at random"
        filled = max(0, found.filled - (query.total - query.budget))
        return query.batch(found.rows, distances, reasons, filled_at_random=filled)
