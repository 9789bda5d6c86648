"""Tiles of preprocessed slices, in the order of the pool (docs/method.md, 1.3): knows nothing
about labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from alunet.model.environment import Folders
from alunet.model.prepared import open_image
from alunet.pool import Pool

_WHOLE_CASE_BYTES = 256 << 20  # a case up to this size is read at once, a larger one slice by slice
# Tiles a batch, where nobody says: as many as make up about this many pixels. A CPU's cache wants
# few, a GPU many.
_BATCH_PIXELS = {"cpu": 72_000, "mps": 500_000, "cuda": 2_000_000}


@dataclass(frozen=True)
class Tiles:
    """A batch: `rows` into the asked ids, images (b, C, H, W) float32, `valid` (b, H, W) true
    off the padding.
    """

    rows: np.ndarray
    images: np.ndarray
    valid: np.ndarray


class TileReader:
    """Reads tiles of `pool` from the preprocessed images in `folders`.

    Args:
        batch_size: tiles a batch; None: what suits `device` ("cpu", "cuda" or "mps").
        share: of that, where memory is short.
    """

    def __init__(
        self,
        folders: Folders,
        pool: Pool,
        batch_size: int | None = None,
        device: str = "cpu",
        share: float = 1.0,
    ) -> None:
        self.folders = folders
        self.pool = pool
        usual = batch_size or _BATCH_PIXELS[device] // (pool.patch[0] * pool.patch[1])
        self.batch_size = max(1, int(usual * share))
        self._case = -1
        self._image: Any = None

    def batches(self, ids: np.ndarray) -> Iterator[Tiles]:
        """Yield the tiles of `ids` in the given order, which should be the pool's: each case is
        opened once then.
        """
        for start in range(0, len(ids), self.batch_size):
            chosen = ids[start : start + self.batch_size]
            tiles = [self._tile(int(sample)) for sample in chosen]
            rows = np.arange(start, start + len(chosen))
            yield Tiles(
                rows,
                np.stack([image for image, _ in tiles]),
                np.stack([valid for _, valid in tiles]),
            )

    def _tile(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        pool = self.pool
        image = self._open(int(pool.case[sample]))
        row_low, row_high, column_low, column_high = (int(edge) for edge in pool.box[sample])
        content = np.asarray(
            image[:, int(pool.slice[sample]), row_low:row_high, column_low:column_high]
        )
        top, left = row_low - int(pool.start[sample, 0]), column_low - int(pool.start[sample, 1])
        inside = (slice(top, top + content.shape[1]), slice(left, left + content.shape[2]))
        tile = np.zeros((content.shape[0], *pool.patch), np.float32)
        valid = np.zeros(pool.patch, bool)
        tile[(slice(None), *inside)] = content
        valid[inside] = True
        return tile, valid

    def _open(self, case: int) -> Any:
        if case != self._case:
            image = open_image(self.folders, self.pool.cases[case])
            small = int(np.prod(image.shape)) * 4 <= _WHOLE_CASE_BYTES
            self._case, self._image = case, image[:] if small else image
        return self._image
