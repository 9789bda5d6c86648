"""Scores with noise, so that a batch is not the same thing ten times (docs/method.md, 2.4).

Kirsch et al. 2023, "Stochastic Batch Acquisition": the largest sums of log score and Gumbel noise
are a sample without replacement, in proportion to a power of the score.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.query.model_outputs import Floats
from alunet.query.problem import Batch, Query, checked_scores

Doubles = npt.NDArray[np.float64]
STREAM = "power-noise"


def check_beta(beta: float, name: str = "beta") -> None:
    """Raise InputError unless an inverse noise scale is positive and finite."""
    if not (np.isfinite(beta) and beta > 0):
        raise InputError(f"{name} is {beta}.", "Give a positive number; 1 is the published one.")


def with_power_noise(scores: Floats, beta: float, rng: np.random.Generator) -> Doubles:
    """Return log s + Gumbel(0, 1/beta) of scores s (n,); -inf for a score of 0 or less."""
    values = np.maximum(np.asarray(scores, np.float64), 0.0)
    with np.errstate(divide="ignore"):
        found: Doubles = np.log(values) + rng.gumbel(0.0, 1.0 / beta, len(values))
    return found


def with_rank_noise(scores: Floats, beta: float, rng: np.random.Generator) -> Doubles:
    """Return -log r + Gumbel(0, 1/beta) of the ranks r of scores (n,), the largest has rank 1."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(-np.asarray(scores, np.float64), kind="stable")] = np.arange(len(scores)) + 1
    found: Doubles = -np.log(ranks) + rng.gumbel(0.0, 1.0 / beta, len(scores))
    return found


def scheduled(first: float, last: float, steps: int, step: int) -> float:
    """Return first (last/first)^(step/(steps-1)), the last from the last step on."""
    if steps < 2:
        return last
    return float(first * (last / first) ** (min(step, steps - 1) / (steps - 1)))


def take_largest_noised(
    query: Query, scores: Floats, noised: Doubles, what: str, unit: str = ""
) -> Batch:
    """Take the largest noised scores (n,), as many as are asked for; among equals the smallest id.

    The gain of a sample is its score without the noise.

    Raises:
        InputError: a score is not finite.
    """
    values = checked_scores(scores, query.ids, what[:1].upper() + what[1:])
    rows = np.argsort(-noised, kind="stable")[: query.total]
    reasons = [
        f"{what} {values[row]:.3g}{unit}, drawn as number {n}" for n, row in enumerate(rows, 1)
    ]
    return query.batch(rows, values[rows], reasons, values)
