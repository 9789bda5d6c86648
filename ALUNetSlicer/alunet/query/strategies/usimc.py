"""USIMC: submodular mutual information over the cosine of bottleneck gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from alunet.query.model_outputs import Factors, Need
from alunet.query.problem import Query
from alunet.query.random_streams import Streams
from alunet.query.registry import register
from alunet.query.usim import (
    PUBLISHED,
    THRIFTY,
    Clock,
    Ints,
    QuerySet,
    Similarity,
    UsimOptions,
    similarity_matrix,
)

COORDINATES = 10_000


@register(
    "usimc",
    title="USIMC",
    needs=[Need.MC, Need.BOTTLENECK],
    source="Föllmer et al., MIDL 2024",
    summary="Covers a query set of uncertain samples; similar = the same direction of the "
    "bottleneck gradient.",
    published={**PUBLISHED, "embedding": "first-10k"},
    thrifty=THRIFTY,
)
@dataclass(frozen=True)
class Usimc(UsimOptions):
    """Options of USIMC.

    Attributes:
        embedding: "exact", the whole layer's gradient; "coordinates", 10,000 random entries of it;
            "first-10k", its first 10,000 entries, as in the published experiments (two to four
            filters of the layer).
        precision: of the matrix products of "exact"; "bf16" is faster where the processor has it.
    """

    embedding_need: ClassVar[Need] = Need.BOTTLENECK

    embedding: Literal["exact", "coordinates", "first-10k"] = "exact"
    precision: Literal["fp32", "bf16"] = "fp32"

    def similarity(self, query: Query, target: QuerySet, clock: Clock) -> Similarity:
        """See `UsimOptions.similarity`; there are no notes."""
        # torch is slow; listing strategies needs none
        from alunet.query.similarity import CosineKernel, DotKernel

        if self.embedding == "exact":
            exact = similarity_matrix(
                query,
                target,
                lambda rows: query.outputs.bottleneck(rows, self.heads),
                lambda factors: CosineKernel(
                    factors, precision=self.precision, device=query.device
                ),
                clock,
                self,
            )
            return exact, {}
        truncated = similarity_matrix(
            query,
            target,
            self._truncated(query),
            lambda embedded: DotKernel(embedded, cosine=True, device=query.device),
            clock,
            self,
        )
        return truncated, {}

    def _truncated(self, query: Query) -> Callable[[Ints], npt.NDArray[np.floating[Any]]]:
        """Embeds rows by their gradient at the same few entries; the entries hold for all rounds
        of a seed.
        """
        from alunet.query.similarity import gather

        rng = Streams(query.streams.seed, 0)["projection"]
        chosen: list[npt.NDArray[np.int64]] = []

        def embed(rows: Ints) -> npt.NDArray[np.floating[Any]]:
            factors: Factors = query.outputs.bottleneck(rows, self.heads)
            if not chosen:
                size = 9 * factors.delta.shape[1] * factors.inputs.shape[1]
                count = min(COORDINATES, size)
                first = self.embedding == "first-10k"
                chosen.append(
                    np.arange(count) if first else np.sort(rng.choice(size, count, replace=False))
                )
            return gather(factors, chosen[0])

        return embed
