"""Mean STD: the samples whose softmax varies most between dropout passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from alunet.query.dropout_passes import PUBLISHED_PASSES, PassOptions
from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.ranking import take_largest
from alunet.query.registry import register


@register(
    "mean-std",
    title="Mean STD",
    needs=[Need.MC],
    source="Gal and Ghahramani 2016; Kendall and Gal 2017",
    summary="Largest standard deviation of the softmax over dropout passes, mean over "
    "pixels and all classes.",
    published={**PUBLISHED_PASSES, "measure": "var"},
)
@dataclass(frozen=True)
class MeanStd(PassOptions):
    """Options of mean STD (docs/method.md, 2.2).

    Attributes:
        measure: "std", the standard deviation, as published; "var", the variance, as in the code of
            the published experiments. Both are unbiased in the variance, and the background is a
            class like the others.
    """

    measure: Literal["std", "var"] = "std"

    def select(self, query: Query) -> Batch:
        """Take the largest means."""
        scores = self.scores(query)
        if self.measure == "std":
            return take_largest(
                query, np.mean(scores.std, axis=1, dtype=np.float64), "mean standard deviation"
            )
        return take_largest(query, np.mean(scores.var, axis=1, dtype=np.float64), "mean variance")
