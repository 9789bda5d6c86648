"""A second framework, in numpy: a pixel is of the class whose mean intensity is nearest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import InputError
from alunet.imaging.reading import read_image, read_labels
from alunet.model.arithmetic import Arithmetic
from alunet.model.interface import (
    CaseFiles,
    MonteCarloMoments,
    PoolSamples,
    Prepared,
    Trained,
    TrainingData,
)
from alunet.model.settings import ScoringSettings, TrainingSettings
from alunet.pool import CaseGeometry
from alunet.schema import NOT_ANNOTATED, Emit
from alunet.storage.files import atomic_path, sha256_file, write_json

PATCH = (16, 16)


def known_numbers(folder: Path) -> list[int]:
    found: list[int] = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    return found


def voxels(file: Path) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(read_image(file)).astype(np.float32)


class NearestMean:
    """Plans nothing but a patch; the preprocessed image is the image."""

    def resolve_device(self, device: str) -> str:
        if device not in ("auto", "cpu"):
            raise InputError(f"Device '{device}' is not available.", "Available here: cpu.")
        return "cpu"

    def variables(self, folder: Path, results: Path, threads: int) -> dict[str, str]:
        return {"OMP_NUM_THREADS": str(threads)}

    def plan_file(self, folder: Path) -> Path:
        return folder / "plan.json"

    def limit_threads(self, threads: int) -> None:
        pass

    def choose_arithmetic(
        self, folder: Path | None, device: str, machine: str, emit: Emit
    ) -> Arithmetic:
        return Arithmetic(machine, "cpu", reason="numpy computes in float32")

    def plan(
        self,
        folder: Path,
        cases: Sequence[CaseFiles],
        labels: dict[str, int],
        channels: Sequence[str],
        dropout: float,
        width: float,
        emit: Emit,
    ) -> None:
        write_json(self.plan_file(folder), {"patch": PATCH})
        self.use_structures(folder, labels)

    def use_structures(self, folder: Path, labels: Mapping[str, int]) -> None:
        write_json(folder / "numbers.json", list(labels.values()))

    def unprepared(self, folder: Path, names: Sequence[str]) -> list[str]:
        return [name for name in names if not (folder / f"{name}.npy").is_file()]

    def preprocess(self, folder: Path, cases: Sequence[CaseFiles], emit: Emit) -> Prepared:
        geometries = []
        for case in cases:
            image = voxels(case.images[0])
            np.save(folder / f"{case.name}.npy", image)
            whole = tuple((0, extent) for extent in image.shape)
            geometries.append(CaseGeometry(case.name, image.shape, (0, 1, 2), whole, image.shape))
        return Prepared(geometries, PATCH)

    def refresh_labels(self, folder: Path, labels: Path, files: Mapping[str, Path]) -> None:
        labels.mkdir(parents=True, exist_ok=True)
        for case, file in files.items():
            np.save(labels / f"{case}.npy", read_labels(file))

    def seconds_per_step(
        self, data: TrainingData, settings: TrainingSettings, device: str
    ) -> float:
        return 0.1

    def train(
        self,
        data: TrainingData,
        settings: TrainingSettings,
        weights_in: Path | None,
        weights_out: Path,
        seed: int,
        device: str,
        emit: Emit,
    ) -> Trained:
        image = np.concatenate(
            [np.load(data.folder / f"{case}.npy").ravel() for case in data.samples]
        )
        label = np.concatenate(
            [np.load(data.labels / f"{case}.npy").ravel() for case in data.samples]
        )
        numbers = known_numbers(data.folder)
        label = np.array([*numbers, NOT_ANNOTATED]).searchsorted(label)
        classes = len(numbers)
        far = image.max() + 1000  # of a class that was never seen
        means = [image[label == c].mean() if (label == c).any() else far for c in range(classes)]
        with atomic_path(weights_out) as part, part.open("wb") as stream:
            np.savez(stream, means=np.array(means, np.float32), numbers=numbers)
        known = label != classes
        wrong = np.abs(image[known, None] - means).argmin(1) != label[known]
        loss, nothing = float(wrong.mean()), [None] * (classes - 1)
        return Trained(loss, None, nothing, classes, len(image), sha256_file(weights_out))

    def open(
        self, folder: Path, weights: Path, device: str, settings: ScoringSettings, emit: Emit
    ) -> NearestMeanModel:
        with np.load(weights) as stored:
            means = dict(zip(stored["numbers"].tolist(), stored["means"], strict=True))
        numbers = known_numbers(folder)
        own = np.array([means.get(number, 1e9) for number in numbers], np.float32)
        return NearestMeanModel(folder, own, settings, np.array(numbers, np.uint8))

    def export(
        self,
        folder: Path,
        weights: Path,
        file: Path,
        ending: str,
        mirroring: bool,
        about: dict[str, Any],
    ) -> None:
        with atomic_path(file) as part, part.open("wb") as stream:
            np.savez(stream, means=np.load(weights)["means"], name=about["name"])


@dataclass(frozen=True)
class NearestMeanModel:
    folder: Path
    means: np.ndarray
    settings: ScoringSettings
    numbers: np.ndarray

    def probabilities(self, pixels: np.ndarray, means: np.ndarray | None = None) -> np.ndarray:
        """(..., K)"""
        logits = -np.abs(pixels[..., None] - (self.means if means is None else means)) / 10
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        return odds / odds.sum(-1, keepdims=True)

    def thinned(self, dropout: float, passes: int, seed: tuple[int, ...]) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal((passes, len(self.means)))
        return (self.means * (1 + dropout * noise)).astype(np.float32)

    def pixels(self, samples: PoolSamples) -> list[np.ndarray]:
        """Of each sample, flat: what is inside the image."""
        pool, found = samples.pool, []
        for sample in samples.ids:
            image = np.load(self.folder / f"{pool.case_name(sample)}.npy")
            top, bottom, left, right = pool.box[sample]
            found.append(image[pool.slice[sample], top:bottom, left:right].ravel())
        return found

    def entropy(self, samples: PoolSamples) -> np.ndarray:
        return np.array(
            [bits(self.probabilities(part)).mean() for part in self.pixels(samples)], np.float32
        )

    def class_entropy(self, samples: PoolSamples) -> np.ndarray:
        found = []
        for part in self.pixels(samples):
            chances = self.probabilities(part)
            found.append((chances * bits(chances)[:, None]).mean(0))
        return np.array(found, np.float32)

    def one_pass_variance(self, samples: PoolSamples) -> np.ndarray:
        found = []
        for part in self.pixels(samples):
            chances = self.probabilities(part)
            found.append((chances * (1 - chances)).mean(0))
        return np.array(found, np.float32)

    def predicted_pixels(self, samples: PoolSamples) -> tuple[np.ndarray, np.ndarray]:
        classes = len(self.means)
        pixels = np.array(
            [
                np.bincount(self.probabilities(part).argmax(-1), minlength=classes)
                for part in self.pixels(samples)
            ]
        )
        return pixels, pixels // 2

    def monte_carlo(
        self, samples: PoolSamples, dropout: float, passes: int, seed: tuple[int, ...]
    ) -> MonteCarloMoments:
        moments = [self.moments(part, dropout, passes, seed) for part in self.pixels(samples)]
        var = np.array([variance.mean(0) for variance, _ in moments], np.float32)
        std = np.array([np.sqrt(variance).mean(0) for variance, _ in moments], np.float32)
        return MonteCarloMoments(
            var, std, np.array([bald.mean() for _, bald in moments], np.float32)
        )

    def moments(
        self, pixels: np.ndarray, dropout: float, passes: int, seed: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Variance (..., K) and mutual information (...) of each pixel."""
        each = np.stack(
            [self.probabilities(pixels, means) for means in self.thinned(dropout, passes, seed)]
        )
        return each.var(0, ddof=1), bits(each.mean(0)) - bits(each).mean(0)

    def features(self, samples: PoolSamples) -> np.ndarray:
        found = [(part.mean(), part.std(), part.min(), part.max()) for part in self.pixels(samples)]
        return np.array(found, np.float32).reshape(len(samples.ids), -1)

    def bottleneck(self, samples: PoolSamples, heads: str) -> tuple[np.ndarray, np.ndarray]:
        raise InputError(
            "A nearest-mean classifier has no convolution.", "Choose another strategy."
        )

    def fisher(self, samples: PoolSamples, heads: str) -> np.ndarray:
        return np.square(self.last_layer_gradients(samples), dtype=np.float64).mean(0)

    def decoder_gradients(
        self, samples: PoolSamples, coordinates: np.ndarray, heads: str
    ) -> np.ndarray:
        return self.last_layer_gradients(samples)[:, coordinates]

    def last_layer_gradients(self, samples: PoolSamples) -> np.ndarray:
        """Of the means: (n, K)."""
        found = []
        for part in self.pixels(samples):
            chosen = self.probabilities(part)
            target = np.eye(len(self.means))[chosen.argmax(-1)]
            found.append(((target - chosen) * np.sign(part[:, None] - self.means)).mean(0))
        return np.array(found, np.float32)

    def segment(self, case: str, slices: Sequence[int] | None = None) -> np.ndarray:
        image = np.load(self.folder / f"{case}.npy")
        some = image if slices is None else image[list(slices)]
        return self.numbers[self.probabilities(some).argmax(-1)]

    def segment_files(self, images: Sequence[Path]) -> np.ndarray:
        return self.probabilities(voxels(images[0])).argmax(-1).astype(np.uint8)

    def uncertainty(
        self,
        geometry: CaseGeometry,
        measure: str,
        class_weights: np.ndarray,
        seed: tuple[int, ...],
        slices: Sequence[int] | None = None,
    ) -> np.ndarray:
        image = np.load(self.folder / f"{geometry.case}.npy")
        variance, bald = self.moments(image, self.settings.dropout, self.settings.passes, seed)
        found = {
            "variance": (variance * class_weights).sum(-1),
            "std": np.sqrt(variance).mean(-1),
            "bald": bald,
            "entropy": bits(self.probabilities(image)),
        }
        values = found[measure].astype(np.float32)
        return values if slices is None else values[list(slices)]


def bits(probabilities: np.ndarray) -> np.ndarray:
    """Entropy over the last axis."""
    clamped = np.maximum(probabilities, 1e-12)
    return -(clamped * np.log2(clamped)).sum(-1)
