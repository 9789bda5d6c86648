"""USIMF: submodular mutual information over Fisher-whitened decoder gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.query.model_outputs import Need
from alunet.query.problem import Query
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
from alunet.query.weights import draw_without_replacement

FLOOR = 1e-20  # Fisher values up to this one belong to parameters that no sample moves


@register(
    "usimf",
    title="USIMF",
    needs=[Need.MC, Need.DECODER],
    source="Föllmer et al., MIDL 2024",
    summary="Covers a query set of uncertain samples; similar = the same decoder gradient, "
    "Fisher-whitened.",
    published={**PUBLISHED, "fisher": "first-sample", "damping": 0.0, "prefilter": 30_000},
    thrifty={**THRIFTY, "fisher_samples": 50},
)
@dataclass(frozen=True)
class Usimf(UsimOptions):
    """Options of USIMF.

    Attributes:
        fisher: "mean", the diagonal over all Fisher samples; "first-sample", that of the first one
            drawn alone, as in the published experiments' code, whose loop adds this one again and
            again.
        fisher_set: where its samples come from: the "pool", in proportion to their uncertainty, or
            the "query-set", uniformly, as in the paper.
        fisher_samples: how many samples the Fisher diagonal is the mean of.
        coordinates: how many decoder parameters represent a gradient.
        damping: added to the Fisher values, relative to their mean; 0 as in the published
            experiments.
    """

    embedding_need: ClassVar[Need] = Need.DECODER

    fisher: Literal["mean", "first-sample"] = "mean"
    fisher_set: Literal["pool", "query-set"] = "pool"
    fisher_samples: int = 200
    coordinates: int = 10_000
    damping: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fisher_samples < 1 or self.coordinates < 1:
            raise InputError("fisher_samples and coordinates must be at least 1.")
        if not (math.isfinite(self.damping) and self.damping >= 0):
            raise InputError(
                f"damping is {self.damping}.", "Give a finite number that is not negative."
            )

    def similarity(self, query: Query, target: QuerySet, clock: Clock) -> Similarity:
        """See `UsimOptions.similarity`; the notes name the number of coordinates."""
        # torch is slow; listing strategies needs none
        from alunet.query.similarity import DotKernel, fisher_scale

        with clock("fisher"):
            chosen, fisher = self._parameters(query, target)
        scale = fisher_scale(fisher, self.damping)
        matrix = similarity_matrix(
            query,
            target,
            lambda rows: query.outputs.decoder_gradients(rows, chosen, self.heads),
            lambda embedded: DotKernel(embedded, scale=scale, device=query.device),
            clock,
            self,
        )
        return matrix, {"coordinates": len(chosen)}

    def _parameters(self, query: Query, target: QuerySet) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Parameters drawn in proportion to their Fisher value, and these values
        (docs/method.md, 2.6).
        """
        # The subset grows with its size, one sample at a time: the only one of 1 is the first one
        # of 200.
        count = 1 if self.fisher == "first-sample" else self.fisher_samples
        rng = query.streams["fisher-subset"]
        if self.fisher_set == "query-set":
            rows = np.sort(rng.permutation(np.repeat(target.rows, target.multiplicity))[:count])
        else:
            rows = draw_without_replacement(target.uncertainty, count, rng)
        fisher = np.asarray(query.outputs.fisher(rows, self.heads), np.float64)
        usable = np.where(fisher > FLOOR, fisher, 0.0)
        if not np.isfinite(fisher).all() or not usable.any():
            raise InputError(
                "The decoder gradients are all zero or not finite.",
                "The network has probably diverged: train the round again, with a "
                "lower learning rate.",
            )
        chosen = draw_without_replacement(usable, self.coordinates, query.streams["fisher-params"])
        return chosen, fisher[chosen]
