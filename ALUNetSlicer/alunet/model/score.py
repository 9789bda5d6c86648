"""How unsure the model is of each sample (docs/method.md, 2.2): a number for each sample and
class.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from alunet.errors import InputError
from alunet.model.dropout import MonteCarloDropout
from alunet.model.interface import MonteCarloMoments
from alunet.model.network import Model
from alunet.model.reader import TileReader
from alunet.model.settings import ScoringSettings
from alunet.schema import Emit, Event


class TimedProgress:
    """Progress events with the time left.

    Args:
        total: units of the phase, of which `begun` were done before.
        rest: seconds between two events.
    """

    def __init__(
        self,
        phase: str,
        total: int,
        emit: Emit,
        unit: str = "slices",
        begun: int = 0,
        rest: float = 0.3,
    ) -> None:
        self._phase, self._total, self._emit, self._unit, self._begun = (
            phase,
            total,
            emit,
            unit,
            begun,
        )
        self._rest = rest
        self._start = self._last = time.monotonic()

    def report(self, done: int) -> None:
        """Say how many of `total` are done."""
        now = time.monotonic()
        if done < self._total and now - self._last < self._rest:
            return
        self._last = now
        left = (now - self._start) / max(done - self._begun, 1) * (self._total - done)
        data = {"phase": self._phase, "done": done, "total": self._total, "unit": self._unit}
        self._emit(Event("progress", {**data, "seconds_left": round(left, 1)}))


def entropy_bits(probabilities: torch.Tensor) -> torch.Tensor:
    """H = -sum_c p log2 p over axis 1, p clamped at 1e-12."""
    clamped = probabilities.clamp_min(1e-12)
    return -(clamped * clamped.log2()).sum(1)


def _mean_over(valid: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Mean of (b, ..., H, W) over the valid pixels of each sample."""
    weights = valid / valid.sum((1, 2), keepdim=True)
    return (values * (weights if values.ndim == 3 else weights[:, None])).sum((-2, -1))


Pass = Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]
"""Rows of the samples, their probabilities (b, K, H, W), and which pixels are in the image, float
(b, H, W).
"""


@torch.inference_mode()
def _one_pass(
    model: Model,
    reader: TileReader,
    ids: np.ndarray,
    settings: ScoringSettings,
    phase: str,
    emit: Emit,
) -> Pass:
    """Go over the samples once, without dropout."""
    network = model.deterministic(settings)
    pace = TimedProgress(f"score: {phase}", len(ids), emit)
    for tiles in reader.batches(ids):
        probabilities = network(torch.from_numpy(tiles.images).to(model.device)).softmax(1)
        yield tiles.rows, probabilities, torch.from_numpy(tiles.valid).to(model.device).float()
        pace.report(int(tiles.rows[-1]) + 1)


def entropy(
    model: Model, reader: TileReader, ids: np.ndarray, settings: ScoringSettings, emit: Emit
) -> np.ndarray:
    """Mean entropy of one deterministic pass, in bits: (n,) float32."""
    result = np.empty(len(ids), np.float32)
    for rows, found, valid in _one_pass(model, reader, ids, settings, "entropy", emit):
        result[rows] = _mean_over(valid, entropy_bits(found)).cpu().numpy()
    return result


def class_entropy(
    model: Model, reader: TileReader, ids: np.ndarray, settings: ScoringSettings, emit: Emit
) -> np.ndarray:
    """Mean over the pixels of each class's probability times their entropy, in bits: (n, K)
    float32, whose rows add up to the entropy.
    """
    result = np.empty((len(ids), model.classes), np.float32)
    for rows, found, valid in _one_pass(model, reader, ids, settings, "entropy", emit):
        result[rows] = _mean_over(valid, found * entropy_bits(found)[:, None]).cpu().numpy()
    return result


def one_pass_variance(
    model: Model, reader: TileReader, ids: np.ndarray, settings: ScoringSettings, emit: Emit
) -> np.ndarray:
    """Mean over the pixels of p (1 - p) of each class, from one deterministic pass: (n, K)
    float32.
    """
    result = np.empty((len(ids), model.classes), np.float32)
    for rows, found, valid in _one_pass(model, reader, ids, settings, "variance", emit):
        result[rows] = _mean_over(valid, found * (1 - found)).cpu().numpy()
    return result


def predicted_pixels(
    model: Model, reader: TileReader, ids: np.ndarray, settings: ScoringSettings, emit: Emit
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each class that one deterministic pass predicts, and those of them on its border:
    two (n, K) int64.

    The border of a class is the class minus its erosion by a cross of radius 1 within the tile;
    what is outside the image belongs to no class.

    Raises:
        InputError: a probability is not finite.
    """
    pixels = np.zeros((len(ids), model.classes), np.int64)
    border = np.zeros_like(pixels)
    for rows, found, valid in _one_pass(model, reader, ids, settings, "prediction", emit):
        if not bool(torch.isfinite(found).all()):
            raise InputError(
                "The prediction is not a finite number.",
                "The network has probably diverged: train the round again, with a lower learning "
                "rate.",
            )
        one_hot = functional.one_hot(found.argmax(1), found.shape[1]).movedim(-1, 1)
        masks = one_hot.bool() & valid.bool()[:, None]
        around = functional.pad(masks, (1, 1, 1, 1))
        vertical = around[..., :-2, 1:-1] & around[..., 2:, 1:-1]
        horizontal = around[..., 1:-1, :-2] & around[..., 1:-1, 2:]
        pixels[rows] = masks.sum((-2, -1)).cpu().numpy()
        border[rows] = (masks & ~(vertical & horizontal)).sum((-2, -1)).cpu().numpy()
    return pixels, border


@torch.inference_mode()
def monte_carlo(
    model: Model,
    reader: TileReader,
    ids: np.ndarray,
    settings: ScoringSettings,
    seed: tuple[int, ...],
    emit: Emit,
) -> MonteCarloMoments:
    """Streaming moments of T dropout passes (Welford): no stack of passes is ever kept."""
    network = model.full_resolution(settings)
    moments = MonteCarloMoments(
        np.empty((len(ids), model.classes), np.float32),
        np.empty((len(ids), model.classes), np.float32),
        np.empty(len(ids), np.float32),
    )
    pace = TimedProgress("score: dropout passes", len(ids), emit)
    with MonteCarloDropout(network, settings.dropout, seed).active() as dropout:
        for tiles in reader.batches(ids):
            images = torch.from_numpy(tiles.images).to(model.device)
            valid = torch.from_numpy(tiles.valid).to(model.device).float()
            variance, bald = pixel_moments(network, dropout, images, settings.passes)
            moments.var[tiles.rows] = _mean_over(valid, variance).cpu().numpy()
            moments.std[tiles.rows] = _mean_over(valid, variance.sqrt()).cpu().numpy()
            moments.bald[tiles.rows] = _mean_over(valid, bald).cpu().numpy()
            pace.report(int(tiles.rows[-1]) + 1)
    return moments


def pixel_moments(
    network: torch.nn.Module, dropout: MonteCarloDropout, images: torch.Tensor, passes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel-wise unbiased variance (b, K, H, W) and BALD (b, H, W) of `passes` thinned forwards."""
    for number in range(passes):
        dropout.select(number)
        probabilities = network(images).softmax(1)
        if number == 0:
            mean, squares = probabilities.clone(), torch.zeros_like(probabilities)
            entropies = entropy_bits(probabilities)
            continue
        difference = probabilities - mean
        mean += difference / (number + 1)
        squares += difference * (probabilities - mean)
        entropies += entropy_bits(probabilities)
    return squares.clamp_min_(0) / (passes - 1), entropy_bits(mean) - entropies / passes
