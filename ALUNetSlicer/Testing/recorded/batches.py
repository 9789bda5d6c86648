"""What each strategy chooses from stored model outputs.

The numbers in ``batches.npz`` are what a model could say of 60 samples. Everything that is random
comes from the round's own streams (`alunet.query.random_streams`), so the batches must be the same
on every machine. Before they are recorded, `record` chooses from the same numbers with a relative
error of 1e-6 added, more than any order of additions makes, and refuses a recording whose batches
are not all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alunet.query import Batch, Factors, McScores, Query, Streams, Truth, infos, names, parse

HERE = Path(__file__).resolve().parent
OUTPUTS, CHOSEN = HERE / "batches.npz", HERE / "batches.json"
SAMPLES, CASES, CLASSES, BUDGET, PARAMETERS = 60, 5, 3, 6, 300
SEED, ROUND = 11, 2
ERROR = 1e-6
VARIANTS = (
    "entropy:cap=2",
    "clasp-pe:beta=10,steps=1",
    "mean-std:measure=var",
    "stochastic-batches:measure=variance,groups=ceil",
    "usimc:eta=10,elbow=kneedle",
    "usimc:embedding=coordinates,optimizer=stochastic",
    "usimc:weights=per-case,smoothing=0,prefilter=30",
    "usimf:fisher_set=query-set,draw=max,query_size=20",
    "usimf:coordinates=100,draw=uniform,measure=std",
)
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class StoredOutputs:
    """Answers a strategy's questions about the model from stored arrays."""

    arrays: Arrays

    def entropy(self) -> np.ndarray:
        return self.arrays["entropy"]

    def class_entropy(self) -> np.ndarray:
        share = self.arrays["var"] / self.arrays["var"].sum(axis=1, keepdims=True)
        return share * self.arrays["entropy"][:, None]

    def predicted(self) -> Truth:
        """Other labels than the hidden ones."""
        return Truth(self.arrays["truth_voxels"][::-1], self.arrays["truth_border"][::-1])

    def one_pass_variance(self) -> np.ndarray:
        return np.sqrt(self.arrays["var"])

    def mc(self, dropout: float | None = None, passes: int | None = None) -> McScores:
        return McScores(self.arrays["var"], self.arrays["std"], self.arrays["bald"])

    def features(self, rows: np.ndarray | None = None) -> np.ndarray:
        return self._of("features", rows)

    def labelled_features(self) -> np.ndarray:
        return self.arrays["labeled_features"]

    def bottleneck(self, rows: np.ndarray, heads: str = "training") -> Factors:
        return Factors(self.arrays["delta"][rows], self.arrays["inputs"][rows])

    def fisher(self, rows: np.ndarray, heads: str = "training") -> np.ndarray:
        return np.square(self.arrays["gradients"][rows], dtype=np.float64).mean(axis=0)

    def decoder_gradients(
        self, rows: np.ndarray, coordinates: np.ndarray, heads: str = "training"
    ) -> np.ndarray:
        return self.arrays["gradients"][rows][:, coordinates]

    def last_layer_gradients(self, rows: np.ndarray | None = None) -> np.ndarray:
        return self._of("last_layer", rows)

    def _of(self, name: str, rows: np.ndarray | None) -> np.ndarray:
        return self.arrays[name] if rows is None else self.arrays[name][rows]


def forms() -> list[str]:
    """Every strategy of the registry, the published form of those that have one, and a few with
    other options.
    """
    return [
        *names(),
        *(f"{info.name}:{word}" for info in infos() for word in info.words),
        *VARIANTS,
    ]


def question(arrays: Arrays) -> Query:
    """The question that the stored numbers belong to."""
    return Query(
        ids=arrays["ids"],
        budget=BUDGET,
        case=arrays["case"],
        class_voxels=arrays["class_voxels"],
        outputs=StoredOutputs(arrays),
        streams=Streams(SEED, ROUND),
        truth=Truth(arrays["truth_voxels"], arrays["truth_border"]),
        labels=("background", "organ", "lesion"),
        case_voxels=arrays["case_voxels"],
        case_sizes=arrays["case_sizes"],
    )


def chosen(strategy: str, arrays: Arrays) -> dict[str, list[Any]]:
    """Samples in the order of the picks, each with its reason and its rank in uncertainty."""
    batch: Batch = parse(strategy).select(question(arrays))
    shares = (
        None
        if batch.uncertainty is None
        else [round(float(share), 6) for share in batch.uncertainty]
    )
    return {
        "ids": [int(i) for i in batch.ids],
        "reasons": list(batch.reasons),
        "uncertainty": shares,
    }


def load() -> dict[str, np.ndarray]:
    """The stored numbers."""
    with np.load(OUTPUTS, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def recorded() -> dict[str, dict[str, list[Any]]]:
    """The recorded batches by strategy."""
    return json.loads(CHOSEN.read_text(encoding="utf-8"))


def record() -> None:
    """Choose with every strategy, and write the batches; the stored numbers are made where there
    are none.

    Raises:
        SystemExit: a batch depends on the last digits of a number.
    """
    if not OUTPUTS.is_file():
        np.savez_compressed(OUTPUTS, **_made())
    arrays = load()
    found = {name: chosen(name, arrays) for name in forms()}
    for attempt in range(5):
        near = disturbed(arrays, attempt)
        moved = [name for name in forms() if chosen(name, near) != found[name]]
        if moved:
            raise SystemExit(
                f"Not recorded: an error of {ERROR:g} changes what {', '.join(moved)} chooses."
            )
    lines = [
        f'"{name}": {json.dumps(batch, ensure_ascii=False)}'
        for name, batch in sorted(found.items())
    ]
    CHOSEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", newline="\n")


def _made(seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    # samples of a group look alike, as the slices of a patient do
    groups = rng.integers(0, 12, SAMPLES)

    def alike(*shape: int) -> np.ndarray:
        return (
            rng.normal(size=(12, *shape))[groups] + 0.5 * rng.normal(size=(SAMPLES, *shape))
        ).astype(np.float32)

    var = rng.gamma(0.5, 0.05, (SAMPLES, CLASSES)).astype(np.float32)
    voxels = rng.integers(0, 50, (SAMPLES, CLASSES)) * (rng.random((SAMPLES, CLASSES)) < 0.5)
    return {
        "ids": 100 + 3 * np.arange(SAMPLES),
        "case": np.sort(rng.integers(0, CASES, SAMPLES)),
        "class_voxels": np.array([9000, 900, 40]),
        "case_voxels": np.array([[6000, 900, 0], [3000, 0, 40]]),
        "case_sizes": np.array([90_000, 20_000]),
        "truth_voxels": voxels,
        "truth_border": voxels // 2,
        "var": var,
        "std": np.sqrt(var) * rng.uniform(0.8, 1.0, var.shape).astype(np.float32),
        "bald": rng.gamma(1.0, 0.1, SAMPLES).astype(np.float32),
        "entropy": rng.gamma(1.0, 0.2, SAMPLES).astype(np.float32),
        "features": alike(16),
        "labeled_features": rng.normal(size=(4, 16)).astype(np.float32),
        "delta": alike(6, 4, 3),
        "inputs": alike(5, 4, 3),
        "gradients": alike(PARAMETERS),
        "last_layer": alike(24),
    }


def disturbed(arrays: Arrays, seed: int) -> dict[str, np.ndarray]:
    """The same numbers, each with an error of its own."""
    rng = np.random.default_rng(seed)
    near = {}
    for name, array in arrays.items():
        off = (
            array * (1 + ERROR * rng.uniform(-1, 1, array.shape))
            if array.dtype.kind == "f"
            else array
        )
        near[name] = off.astype(array.dtype)
    return near
