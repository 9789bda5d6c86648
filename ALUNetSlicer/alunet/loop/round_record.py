"""What is kept of a finished round: all it takes to plot it, to repeat it and to explain it
(docs/method.md, 1.8).
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from alunet.loop.worklist import RoundWorklist
from alunet.model.metrics import DICE, MEAN, Values, with_mean
from alunet.project import Suggestion
from alunet.proposals.effort import Effort, total_of
from alunet.storage.files import write_json

EFFORT_FILE = "effort.json"
"""In a round's folder: the effort of each sample that an oracle labels in it."""

_PACKAGES = ("alunet", "nnunetv2", "torch", "numpy", "numba", "SimpleITK", "scipy")


@dataclass(frozen=True)
class RoundRecord:
    """The manifest of a round.

    Attributes:
        number: 0 is the initial model.
        strategy: what chose the batch, with its options; "initial" for round 0.
        labelled_samples, labelled_slices, labelled_voxels: cost of all labels so far; `fraction` of
            the pool's samples.
        metrics: of each metric (`alunet.model.metrics`): structure -> mean over the test cases
            (None where no case has it), and "mean".
        selected: the batch: sample ids in the order of the picks, their gains and reasons; behind
            it what else was labelled: of the samples ahead, and of those that people chose.
        diagnostics: of the query: query_size, elbow, weights, batch_uncertainty, …
        seconds, peak_memory_mb: of each step.
        recipe, seed, budget, training, arithmetic, versions, hashes: what it takes to do it again.
        tests: names of the cases that it was evaluated on; None where an earlier version did not
            write them.
        anew: whether its training began without the weights of the round before.
        memory_shares: of the recipe's batches, in "training" and "scoring", where memory was short.
        effort: of the samples that an oracle labeled in it (`alunet.proposals.effort.Effort`); None
            where it was not measured.
    """

    number: int
    strategy: str
    seed: int
    budget: int
    labelled_samples: int
    labelled_slices: int
    labelled_voxels: int
    fraction: float
    pool_samples: int
    class_voxels: list[int]
    metrics: dict[str, Values]
    selected: dict[str, list[Any]]
    diagnostics: dict[str, Any]
    seconds: dict[str, float]
    peak_memory_mb: dict[str, float]
    recipe: dict[str, Any]
    training: dict[str, Any]
    hashes: dict[str, str]
    device: str = "cpu"
    threads: int = 1
    arithmetic: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: dict(versions()))
    tests: list[str] | None = None
    anew: bool = False
    memory_shares: dict[str, float] = field(default_factory=dict)
    effort: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RoundRecord:
        """Read a record of the database; those of earlier versions know Dice alone."""
        if "metrics" in stored:
            return cls(**stored)
        return cls(
            metrics={DICE: stored[DICE]},
            **{key: value for key, value in stored.items() if key != DICE},
        )

    def mean(self, metric: str = DICE) -> float | None:
        """The mean of a metric over the structures; None where it was not measured."""
        return self.metrics.get(metric, {}).get(MEAN)

    @property
    def training_metrics(self) -> dict[str, Values]:
        """As `metrics`, but on the annotated slices that the model learned from, which flatters
        it; Dice alone.
        """
        names = [name for name in self.metrics[DICE] if name != MEAN]
        by_class = self.training.get("class_dice") or [None] * len(names)
        mean = self.training.get(DICE)  # nnU-Net's own
        measured = mean is not None and math.isfinite(mean)
        return {DICE: {**dict(zip(names, by_class, strict=True)), MEAN: mean if measured else None}}

    @property
    def train_seconds(self) -> float | None:
        """How long the training took, of an interrupted one its last part; None where that was
        not written.
        """
        return self.seconds.get("train")

    @property
    def steps(self) -> int | None:
        """Steps of the training; None where an earlier version did not write them."""
        epochs, iterations = self.training.get("epochs"), self.training.get("iterations")
        return None if epochs is None or iterations is None else epochs * iterations

    def save(self, file: Path) -> None:
        """Write the manifest, whole or not at all."""
        write_json(file, asdict(self))


def notes_on(records: Sequence[RoundRecord]) -> list[str]:
    """Return for each round, by number, what keeps it from being compared with the one before;
    empty where nothing does.
    """
    notes, before = [], None
    for record in records:
        words = []
        if record.anew:
            words.append("The training started anew: earlier models learned from removed labels.")
        if before is not None and record.tests is not None and before != record.tests:
            words.append(f"The test set changed: {len(record.tests)} cases, before {len(before)}.")
        notes.append(" ".join(words))
        before = record.tests
    return notes


@dataclass(frozen=True)
class NextRound:
    """What `Loop.next_round` did.

    Attributes:
        record: of the round that was learned now; None where nothing had been annotated since the
            last one.
        released: suggested samples of that round that were not annotated; they are in the pool
            again.
        worklist: the open batch, where people annotate; None where every sample is annotated or
            skipped.
    """

    record: RoundRecord | None
    released: int
    worklist: RoundWorklist | None = None


def measured(labels: Mapping[str, int], evaluation: Mapping[str, Any]) -> dict[str, Values]:
    """Return the column `metrics` of a record; without test cases it holds Dice alone, which nobody
    measured.

    Args:
        evaluation: of the test cases, see `alunet.loop.evaluation.evaluate`; earlier versions wrote
            a list of Dice.
    """
    names = [name for name, value in labels.items() if value > 0]
    earlier = dict(zip(names, evaluation.get(DICE) or [None] * len(names), strict=True))
    found: Mapping[str, Values] = evaluation.get("metrics") or {DICE: earlier}
    return {
        metric: with_mean({name: values.get(name) for name in names})
        for metric, values in found.items()
    }


def selected(
    suggestions: Sequence[Suggestion], chosen: Sequence[tuple[int, str]]
) -> dict[str, list[Any]]:
    """Return the column of that name of a record.

    Args:
        suggestions: of the round.
        chosen: samples that people chose and labelled in the round, each with its reason.
    """
    batch = [entry for entry in suggestions if entry.in_batch]
    labelled_ahead = [entry for entry in suggestions if entry.ahead and entry.state == "labelled"]
    known = {entry.sample for entry in batch}
    own = [(entry.sample, entry.reason) for entry in labelled_ahead] + [
        row for row in chosen if row[0] not in known
    ]
    return {
        "ids": [*(entry.sample for entry in batch), *(sample for sample, _ in own)],
        "gains": [*(entry.gain or 0.0 for entry in batch), *(0.0 for _ in own)],
        "reasons": [*(entry.reason for entry in batch), *(reason for _, reason in own)],
    }


def effort_in(folder: Path) -> Effort | None:
    """Return the effort of a round by its folder; None where it was not measured."""
    file = folder / EFFORT_FILE
    if not file.is_file():
        return None
    efforts = json.loads(file.read_text(encoding="utf-8"))
    return total_of(Effort.from_json(own) for own in efforts.values())


@cache
def versions() -> dict[str, str]:
    """Versions of Python, of the system and of the packages that decide the numbers."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
