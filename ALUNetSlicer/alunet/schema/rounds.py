"""What the service says of rounds and strategies.

The addresses named here are below `alunet.schema.PREFIX`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StrategyInfo:
    """One of GET /strategies: a way to choose slices that a round can be asked for.

    Attributes:
        name: as a job's option.
        title: for people.
        summary: one sentence.
        first: it needs no model, so it can choose the first slices.
        simulation: it looks at hidden labels, or takes everything: for experiments alone.
    """

    name: str
    title: str
    summary: str
    first: bool
    simulation: bool


@dataclass(frozen=True)
class RoundInfo:
    """One of GET .../rounds; `record` is null until the round is finished.

    Attributes:
        state: "open", "training" or "finished".
        budget: samples of its batch, without those ahead.
        record: ``metrics`` (see `CurvePoint`), and ``dice``, which is one of them.
        train_seconds: how long the training really took; null until the round is finished.
        steps: of that training.
    """

    number: int
    strategy: str
    state: str
    budget: int
    record: dict[str, Any] | None
    train_seconds: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class CurvePoint:
    """One finished round of GET .../curve.

    Attributes:
        dice: by structure and "mean", null where there is no test case.
        training: the same on the annotated slices that the model learned from, which flatters it.
        metrics: of each metric by structure and "mean", as `dice`, which is one of them.
        training_metrics: as `metrics`, what was measured on the annotated slices.
        note: why it cannot be compared with the round before; empty where it can.
    """

    round: int
    strategy: str
    labelled_samples: int
    labelled_slices: int
    fraction: float
    dice: dict[str, float | None]
    training: dict[str, float | None]
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    training_metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    note: str = ""
