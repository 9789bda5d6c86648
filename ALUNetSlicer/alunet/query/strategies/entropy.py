"""Entropy: the samples on which one deterministic pass is least sure."""

from __future__ import annotations

from dataclasses import dataclass

from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.ranking import take_largest
from alunet.query.registry import register


@register(
    "entropy",
    title="Entropy",
    needs=[Need.ENTROPY],
    source="Shannon 1948",
    summary="Largest mean pixel entropy of the softmax of one pass without dropout.",
)
@dataclass(frozen=True)
class Entropy:
    """No options."""

    def select(self, query: Query) -> Batch:
        """Take the largest entropies."""
        return take_largest(query, query.outputs.entropy(), "entropy", " bit")
