"""PowerBALD and SoftrankBALD: the mutual information with noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alunet.query.dropout_passes import PassOptions
from alunet.query.model_outputs import Floats, Need
from alunet.query.noise import (
    STREAM,
    Doubles,
    check_beta,
    take_largest_noised,
    with_power_noise,
    with_rank_noise,
)
from alunet.query.problem import Batch, Query, checked_scores
from alunet.query.registry import register

WHAT = "mutual information"


@register(
    "power-bald",
    title="PowerBALD",
    needs=[Need.MC],
    source="Kirsch et al. 2023",
    summary="Drawn in proportion to a power of the mutual information between prediction and "
    "weights.",
)
@dataclass(frozen=True)
class PowerBald(PassOptions):
    """Options of PowerBALD.

    Attributes:
        beta: power of the mutual information.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_beta(self.beta)

    def select(self, query: Query) -> Batch:
        """Draw without replacement."""
        scores = checked_scores(self.scores(query).bald, query.ids, WHAT.capitalize())
        noised = self._noised(scores, query.streams[STREAM])
        return take_largest_noised(query, scores, noised, WHAT, " bit")

    def _noised(self, scores: Floats, rng: np.random.Generator) -> Doubles:
        return with_power_noise(scores, self.beta, rng)


@register(
    "softrank-bald",
    title="SoftrankBALD",
    needs=[Need.MC],
    source="Kirsch et al. 2023",
    summary="Drawn by the rank of the mutual information, whatever its amount.",
)
@dataclass(frozen=True)
class SoftrankBald(PowerBald):
    """Options of SoftrankBALD; `beta` is the power of the inverse rank."""

    def _noised(self, scores: Floats, rng: np.random.Generator) -> Doubles:
        return with_rank_noise(scores, self.beta, rng)
