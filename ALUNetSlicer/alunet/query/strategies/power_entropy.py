"""Power entropy: drawn in proportion to the entropy instead of taking the largest."""

from __future__ import annotations

from dataclasses import dataclass

from alunet.query.model_outputs import Need
from alunet.query.noise import STREAM, check_beta, take_largest_noised, with_power_noise
from alunet.query.problem import Batch, Query, checked_scores
from alunet.query.registry import register


@register(
    "power-entropy",
    title="Power entropy",
    needs=[Need.ENTROPY],
    source="Kirsch et al. 2023; nnActive (MIC-DKFZ)",
    summary="Drawn in proportion to a power of the mean pixel entropy of one pass.",
)
@dataclass(frozen=True)
class PowerEntropy:
    """Options of power entropy.

    Attributes:
        beta: power of the entropy; the larger, the nearer to taking the largest.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def select(self, query: Query) -> Batch:
        """Draw without replacement."""
        scores = checked_scores(query.outputs.entropy(), query.ids, "Entropy")
        noised = with_power_noise(scores, self.beta, query.streams[STREAM])
        return take_largest_noised(query, scores, noised, "entropy", " bit")
