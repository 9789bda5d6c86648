"""The samples with the largest scores: what entropy, mean STD and BALD have in common
(docs/method.md, 2.4).
"""

from __future__ import annotations

import numpy as np

from alunet.query.model_outputs import Floats
from alunet.query.problem import Batch, Query, checked_scores


def take_largest(query: Query, scores: Floats, what: str, unit: str = "") -> Batch:
    """Take the largest scores (n,), as many as are asked for; among equals the smallest id.

    The gain of a sample is its score.

    Args:
        what: the measure, for the reasons given to people.
        unit: of the scores, with a blank before it.

    Raises:
        InputError: a score is not finite.
    """
    values = checked_scores(scores, query.ids, what[:1].upper() + what[1:])
    rows = np.argsort(-values, kind="stable")[: query.total]
    reasons = [f"{what} {values[row]:.3g}{unit}; rank {rank}" for rank, row in enumerate(rows, 1)]
    return query.batch(rows, values[rows], reasons, values)
