"""What is kept of a finished round: all it takes to plot it, to repeat it and to explain it (specification 1.8)."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from alunet.storage.files import write_json

_PACKAGES = ("alunet", "nnunetv2", "torch", "numpy", "numba", "SimpleITK", "scipy")


@dataclass(frozen=True)
class RoundRecord:
    """The manifest of a round.

    Attributes:
        number: 0 is the initial model.
        strategy: what chose the batch, with its options; "initial" for round 0.
        labelled_samples, labelled_slices, labelled_voxels: cost of all labels so far; `fraction` of the pool's samples.
        dice: foreground label name -> mean Dice over the test cases (None where no case has it), and "mean".
        selected: the batch: sample ids in the order of the picks, their gains and reasons; behind it what people chose
            and labelled.
        diagnostics: of the query: query_size, elbow, weights, batch_uncertainty, …
        seconds, peak_memory_mb: of each step.
        recipe, seed, budget, training, arithmetic, versions, hashes: what it takes to do it again.
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
    dice: dict[str, float | None]
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

    @property
    def training_dice(self) -> dict[str, float | None]:
        """As `dice`, but on the annotated slices that the model learned from, which flatters it; None where unknown."""
        names = [name for name in self.dice if name != "mean"]
        by_class = self.training.get("class_dice") or [None] * len(names)
        mean = self.training.get("dice")
        known = mean is not None and math.isfinite(mean)
        return {**dict(zip(names, by_class, strict=True)), "mean": mean if known else None}

    @property
    def train_seconds(self) -> float | None:
        """How long the training took, of an interrupted one its last part; None where that was not written."""
        return self.seconds.get("train")

    @property
    def steps(self) -> int | None:
        """Steps of the training; None where an earlier version did not write them."""
        epochs, iterations = self.training.get("epochs"), self.training.get("iterations")
        return None if epochs is None or iterations is None else epochs * iterations

    def save(self, file: Path) -> None:
        """Write the manifest, whole or not at all."""
        write_json(file, asdict(self))

    @classmethod
    def load(cls, file: Path) -> RoundRecord:
        """Read a manifest."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))


def selected(batch: dict[str, Any], chosen: Sequence[tuple[int, str]]) -> dict[str, list[Any]]:
    """The column of that name of a manifest.

    Args:
        batch: as `Loop.batch` gives it.
        chosen: samples that people chose and labelled in the round, each with its reason.
    """
    own = [(sample, reason) for sample, reason in chosen if sample not in set(batch["ids"])]
    return {
        "ids": [*batch["ids"], *(sample for sample, _ in own)],
        "gains": [*batch["gains"], *(0.0 for _ in own)],
        "reasons": [*batch["reasons"], *(reason for _, reason in own)],
    }


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
