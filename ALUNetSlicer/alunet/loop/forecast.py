"""What the next round will take: from the seconds of earlier rounds, else from a timed pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alunet.loop.choice import LATER_STRATEGY, usual_choice
from alunet.loop.proposals import WHOLE_VOXELS
from alunet.loop.recipe import Recipe
from alunet.loop.round_record import RoundRecord
from alunet.model.settings import ScoringSettings, TrainingSettings
from alunet.project import Project
from alunet.project.rounds import CHOSEN, UNASKED
from alunet.query import Need, parse
from alunet.schema.durations import duration, shared

QUICK = "entropy"
"""Chooses with one pass."""

_PASSES = {  # plain passes for what strategies ask: docs/performance.md
    Need.ENTROPY: 1.1,
    Need.CLASS_ENTROPY: 1.1,
    Need.PREDICTION: 1.1,
    Need.ONE_PASS: 1.1,
    Need.FEATURES: 0.5,
}
_GRADIENTS = {
    Need.BOTTLENECK: 1.6,
    Need.DECODER: 2.8,
    Need.LAST_LAYER: 1.1,
}
_DROPOUT = 1.1  # a pass with dropout
_WORTH_SAYING = 60.0  # seconds of choosing, from which on a quicker way is offered


@dataclass(frozen=True)
class Forecast:
    """Seconds of the parts of the next round.

    Attributes:
        testing: of the model on the test cases.
        proposals: segmenting the cases of the new batch.
        strategy: that chooses.
        quicker: a strategy that takes less than half as long to choose; empty where there is none.
        quicker_seconds: that it takes to choose.
        recorded: whether an earlier round was chosen so, else a timed pass says how long it takes.
    """

    training: float
    testing: float
    choosing: float
    proposals: float
    strategy: str
    quicker: str = ""
    quicker_seconds: float = 0.0
    recorded: bool = False

    @property
    def total(self) -> float:
        """Seconds of the whole round."""
        return self.training + self.testing + self.choosing + self.proposals

    def words(self) -> str:
        """Say it in a few words: "about 12 min: 5 training, 6 choosing, 1 proposals"."""
        parts = ("training", "testing", "choosing", "proposals")
        return f"about {shared({part: getattr(self, part) for part in parts})}"

    def shorter(self) -> str:
        """Say what would make it shorter; empty where nothing would by much."""
        if not self.quicker:
            return ""
        return (
            f"'{self.quicker}' chooses in about {duration(self.quicker_seconds)}, "
            f"'{self.strategy}' in {duration(self.choosing)}"
        )


def forecast(
    project: Project,
    recipe: Recipe,
    records: Sequence[RoundRecord],
    threads: int,
    strategy: str | None = None,
    budget: int | None = None,
) -> Forecast | None:
    """Return what the next round will take on the computer that the project was used on last.

    Args:
        records: of the finished rounds.
        threads: that the round may use.
        strategy, budget: of the next batch; None: what is usual.

    Returns:
        None where the project is not planned, or nothing was recorded or timed.
    """
    patch, here = project.settings.patch, project.settings.arithmetic
    if patch is None or here is None:
        return None
    known = [record for record in records if record.arithmetic.get("machine") == here["machine"]]
    chooses, size = _coming(project, strategy, budget)
    timed = {work: seconds / threads for work, seconds in here.get("pixel_seconds", {}).items()}
    return _Estimate(project, recipe, known, timed, patch[0] * patch[1]).of(chooses, size)


def _coming(project: Project, strategy: str | None, budget: int | None) -> tuple[str, int]:
    """Strategy and size of the batch that follows the training of the open round."""
    begun, (name, size) = project.rounds.begun(), usual_choice(project, strategy, budget)
    if strategy is None and project.rounds.current() == 0:
        name = LATER_STRATEGY
    elif strategy is None and begun is not None and begun.strategy not in (CHOSEN, UNASKED):
        name = begun.strategy
    if budget is None and begun is not None and begun.budget:
        size = begun.budget
    return name, size


class _Estimate:
    """See `forecast`.

    Args:
        timed: seconds of a pixel of a "scoring" pass and of a "training" step.
        pixels: of a sample.
    """

    def __init__(
        self,
        project: Project,
        recipe: Recipe,
        records: Sequence[RoundRecord],
        timed: Mapping[str, float],
        pixels: int,
    ) -> None:
        self._recipe, self._records, self._timed, self._pixels = recipe, records, timed, pixels
        self._number = project.rounds.current()
        standings = [case for case in project.cases.standings() if case.state == "present"]
        self._cases = sum(case.role == "pool" for case in standings)
        self._tests = sum(case.role == "test" and case.has_label for case in standings)
        counts = project.samples.counts()
        self._pool, self._left = counts.pool, counts.pool - counts.labelled - counts.skipped

    def of(self, strategy: str, budget: int) -> Forecast | None:
        choosing, recorded = self._choosing(strategy)
        parts = self._training(), self._testing(), choosing, self._proposals(budget)
        if None in parts:
            return None
        found = Forecast(*parts, strategy=strategy, recorded=recorded)  # type: ignore[arg-type]
        return self._with_quicker(found)

    def _last(self, step: str) -> RoundRecord | None:
        """The last round whose record has the seconds of a step."""
        return next((found for found in reversed(self._records) if step in found.seconds), None)

    def _pass(self, samples: float, passes: float = 1.0) -> float | None:
        """Seconds of passes over samples by a timed pass."""
        scoring = self._timed.get("scoring")
        return None if scoring is None else scoring * self._pixels * samples * passes

    def _training(self) -> float | None:
        settings, last = self._recipe.training(self._number), self._last("train")
        if settings.seconds is not None:
            return settings.seconds + (last.seconds.get("time a step", 0.0) if last else 0.0)
        steps = settings.epochs * settings.iterations
        if last is not None and last.steps:
            return last.seconds["train"] / last.steps * steps
        timed = self._timed.get("training")
        if timed is None:
            return None
        small = settings.growth * 3 / 4  # pixels saved by patches of half the sides
        return timed * self._pixels * _batch(settings, self._pixels) * (1 - small) * steps

    def _testing(self) -> float | None:
        last = self._last("evaluate")
        if not self._tests:
            return 0.0
        if last is not None and last.tests:
            return last.seconds["evaluate"] / len(last.tests) * self._tests
        return self._pass(self._tests * self._pool / max(self._cases, 1))

    def _choosing(self, strategy: str) -> tuple[float | None, bool]:
        for record in reversed(self._records):
            if record.strategy == strategy and "query" in record.seconds:
                then = max(record.pool_samples - record.labelled_samples, 1)
                return record.seconds["query"] / then * self._left, True
        return self._pass(self._left, _passes(strategy, self._recipe.scoring)), False

    def _proposals(self, budget: int) -> float | None:
        last, most = self._last("predict"), min(budget, self._cases)
        if last is not None:
            return last.seconds["predict"]
        in_case = self._pool / max(self._cases, 1)
        if in_case * self._pixels > WHOLE_VOXELS:  # slices alone are segmented
            return self._pass(budget)
        if self._tests and (testing := self._testing()):
            return testing / self._tests * most
        return self._pass(most * in_case)

    def _with_quicker(self, found: Forecast) -> Forecast:
        if found.choosing < _WORTH_SAYING:
            return found
        scoring = self._recipe.scoring
        share = _passes(QUICK, scoring) / max(_passes(found.strategy, scoring), 0.1)
        if share > 1 / 2:
            return found
        return replace(found, quicker=QUICK, quicker_seconds=share * found.choosing)


def _batch(settings: TrainingSettings, pixels: int) -> int:
    """Slices of a training's batch, as far as the settings say."""
    batch = settings.batch_size or 12
    limit = settings.batch_pixels
    return batch if limit is None else max(2, min(batch, limit // pixels))


def _passes(strategy: str, scoring: ScoringSettings) -> float:
    """Plain passes that choosing costs."""
    chosen = parse(strategy)
    share = getattr(chosen.options, "gradient_share", 1.0)  # of the samples
    dropout = _DROPOUT * scoring.passes if Need.MC in chosen.needs else 0.0
    return dropout + sum(
        _PASSES.get(need, 0.0) + share * _GRADIENTS.get(need, 0.0) for need in chosen.needs
    )
