"""How unsure the model is of each voxel of a case: the measures of the scores, before they are
averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from alunet.errors import InputError
from alunet.model.dropout import MonteCarloDropout
from alunet.model.environment import Folders
from alunet.model.network import Model
from alunet.model.prepared import read_properties
from alunet.model.reader import TileReader
from alunet.model.score import TimedProgress, entropy_bits, pixel_moments
from alunet.model.settings import MEASURES, ScoringSettings
from alunet.pool import CaseGeometry, Pool
from alunet.schema import Emit

_RESAMPLED = 1 << 24  # pixels that are resampled at a time, in double precision

Pixels = Callable[[torch.Tensor], torch.Tensor]
"""Tiles (b, C, H, W) to a measure of their pixels (b, H, W), both float32 on the model's device."""


@torch.inference_mode()
def uncertainty_map(
    nnunet: Path,
    model: Model,
    geometry: CaseGeometry,
    measure: str,
    weights: np.ndarray,
    settings: ScoringSettings,
    seed: tuple[int, ...],
    emit: Emit,
    slices: Sequence[int] | None = None,
) -> np.ndarray:
    """A measure of every voxel of a preprocessed case, on the grid of its image file: (k, j, i)
    float32.

    The tiles are those of the pool and the dropout masks those of the scores, so that a sample's
    score is the mean of its pixels here. Pixels in several tiles get their mean; what nnU-Net
    resampled is brought back as it brings back probabilities; voxels outside its crop are 0.

    Args:
        measure: one of `MEASURES` (docs/method.md, 2.2): "variance", the sum over classes of
            `weights` times the variance over the dropout passes; "std", the mean over classes of
            its square root; "bald", the mutual information, bits; "entropy", of one pass without
            dropout, bits.
        weights: (K,), of the classes for "variance".
        seed: of the dropout masks.
        slices: of the preprocessed image that are wanted, ascending; the result has these alone,
            across its sliced axis. Without: all, with those outside of the crop.

    Raises:
        InputError: there is no such measure.
    """
    pool = Pool.build([geometry], model.patch)
    about = settings.batch_size, model.device.type, settings.memory_share
    reader = TileReader(Folders(nnunet), pool, *about)
    wanted = np.arange(geometry.grid_shape[0]) if slices is None else np.asarray(slices)
    ids = np.flatnonzero(np.isin(pool.slice, wanted))
    total = np.zeros((len(wanted), *geometry.grid_shape[1:]), np.float32)
    tiles_of = np.zeros(total.shape[1:], np.uint16)  # the same in all slices
    for top, bottom, left, right in pool.box[pool.slice == wanted[0]]:
        tiles_of[top:bottom, left:right] += 1
    pace = TimedProgress(f"map: {measure}", len(ids), emit)
    with _pixels(model, measure, weights, settings, seed) as pixels:
        for tiles in reader.batches(ids):
            values = pixels(torch.from_numpy(tiles.images).to(model.device)).cpu().numpy()
            for row, value, valid in zip(tiles.rows, values, tiles.valid, strict=True):
                sample = ids[row]
                top, bottom, left, right = pool.box[sample]
                number = np.searchsorted(wanted, pool.slice[sample])
                place = number, slice(top, bottom), slice(left, right)
                total[place] += value[valid].reshape(bottom - top, right - left)
            pace.report(int(tiles.rows[-1]) + 1)
    total /= tiles_of
    return _on_raw_grid(total, nnunet, model, geometry, slices is None)


@contextmanager
def _pixels(
    model: Model,
    measure: str,
    weights: np.ndarray,
    settings: ScoringSettings,
    seed: tuple[int, ...],
) -> Iterator[Pixels]:
    network = model.full_resolution(settings)
    if measure == "entropy":
        yield lambda images: entropy_bits(network(images).softmax(1))
        return
    of_classes = torch.from_numpy(weights).to(model.device, torch.float32)[:, None, None]
    reductions: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "variance": lambda variance, bald: (variance * of_classes).sum(1),
        "std": lambda variance, bald: variance.sqrt().mean(1),
        "bald": lambda variance, bald: bald,
    }
    if measure not in reductions:
        raise InputError(
            f"There is no measure '{measure}'.", f"Choose one of: {', '.join(MEASURES)}."
        )
    with MonteCarloDropout(network, settings.dropout, seed).active() as dropout:
        yield lambda images: reductions[measure](
            *pixel_moments(network, dropout, images, settings.passes)
        )


def _on_raw_grid(
    grid: np.ndarray, nnunet: Path, model: Model, geometry: CaseGeometry, whole_case: bool
) -> np.ndarray:
    """Resampling, crop and transpose undone; of some slices the crop of the slices stays."""
    properties = read_properties(Folders(nnunet), geometry.case)
    spacing = [properties["spacing"][axis] for axis in geometry.transpose]
    crop = [geometry.crop[0] if whole_case else (0, len(grid)), *geometry.crop[1:]]
    resample = model.configuration.resampling_fn_probabilities
    spacings = [spacing[0], *model.configuration.spacing], spacing
    shape = [geometry.raw_shape[axis] for axis in geometry.transpose]
    whole = np.zeros([shape[0] if whole_case else len(grid), *shape[1:]], np.float32)
    kept = whole[tuple(slice(low, high) for low, high in crop)]
    step = max(1, _RESAMPLED // max(grid[0].size, kept[0].size))
    for start in range(0, len(grid), step):  # slices are never resampled: each is its own
        part = kept[start : start + step]
        part[:] = resample(grid[None, start : start + step], part.shape, *spacings)[0]
    return np.ascontiguousarray(whole.transpose(np.argsort(geometry.transpose)))
