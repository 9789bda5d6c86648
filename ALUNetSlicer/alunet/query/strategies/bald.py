"""BALD: the samples on which the dropout passes disagree although each of them is sure."""

from __future__ import annotations

from dataclasses import dataclass

from alunet.query.dropout_passes import PassOptions
from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.ranking import take_largest
from alunet.query.registry import register


@register(
    "bald",
    title="BALD",
    needs=[Need.MC],
    source="Houlsby et al. 2011; Gal et al. 2017",
    summary="Largest mutual information between prediction and weights, from dropout "
    "passes, mean over pixels.",
    published={"dropout": 0.01, "passes": 10},
)
@dataclass(frozen=True)
class Bald(PassOptions):
    """Options of BALD. The published code set its rate on the wrong module and kept that of the
    training, 0.01.
    """

    def select(self, query: Query) -> Batch:
        """Take the largest mutual informations."""
        return take_largest(query, self.scores(query).bald, "mutual information", " bit")
