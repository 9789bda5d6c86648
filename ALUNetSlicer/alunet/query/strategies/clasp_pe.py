"""ClaSP PE: entropies of each predicted class in turn, with noise that fades from round to round.

Lüth et al. 2026, "Finally Outshining the Random Baseline" (nnActive, strategy
`class_power_pe66_exp`), on slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.query.model_outputs import Need
from alunet.query.noise import STREAM, check_beta, scheduled, with_power_noise
from alunet.query.problem import Batch, Query, checked_scores
from alunet.query.registry import register

Rows = npt.NDArray[np.int64]


@register(
    "clasp-pe",
    title="ClaSP PE",
    needs=[Need.CLASS_ENTROPY],
    source="Lüth et al. 2026 (nnActive, MIC-DKFZ)",
    summary="Two thirds of the batch by the entropy of one predicted class each, the rest by that "
    "of all, with noise that fades over the rounds.",
)
@dataclass(frozen=True)
class ClaspPe:
    """Options of ClaSP PE (docs/method.md, 2.4).

    Attributes:
        foreground: part of the batch that is shared among the foreground classes.
        beta: power of the scores in round 1; 1 draws in proportion to them.
        last: power in round `steps` and later.
        steps: rounds over which the power grows, each time by the same factor.
    """

    foreground: float = 0.66
    beta: float = 1.0
    last: float = 100.0
    steps: int = 5

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_beta(self.last, "last")
        if not 0 <= self.foreground <= 1:
            raise InputError(f"foreground is {self.foreground}.", "Give a part from 0 to 1.")
        if self.steps < 1:
            raise InputError(f"steps is {self.steps}.", "Give a number of rounds, at least 1.")

    def select(self, query: Query) -> Batch:
        """Fill the share of each class, then that of all; what is taken is not taken again."""
        scores = checked_scores(query.outputs.class_entropy(), query.ids, "Entropy of a class")
        rng, total = query.streams[STREAM], scores.sum(axis=1)
        beta = scheduled(self.beta, self.last, self.steps, max(0, query.streams.round - 1))
        shares = self._shares(query.budget, scores.shape[1] - 1, rng)
        rows: list[int] = []
        reasons: list[str] = []
        for place in rng.permutation(len(shares)).tolist():
            own = total if place == 0 else scores[:, place]
            what = "all structures" if place == 0 else query.label(place)
            noised = with_power_noise(own, beta, rng)
            noised[rows] = -np.inf
            free = np.setdiff1d(np.arange(len(query)), rows)
            taken = free[np.argsort(-noised[free], kind="stable")][: shares[place]]
            rows += taken.tolist()
            reasons += [
                f"entropy of {what} {own[row]:.3g} bit, drawn with beta {beta:.3g}" for row in taken
            ]
        chosen: Rows = np.array(rows, np.int64)
        return query.batch(chosen, total[chosen], reasons, total, beta=beta)

    def _shares(self, budget: int, classes: int, rng: np.random.Generator) -> list[int]:
        """How many to take for all structures together, then for each foreground class; the rest
        of a division goes to classes by chance.
        """
        if classes < 1:
            return [budget]
        foreground = int(budget * self.foreground)
        share, rest = divmod(foreground, classes)
        lucky = set(rng.permutation(classes)[:rest].tolist())
        return [budget - foreground, *(share + (number in lucky) for number in range(classes))]
