"""What the encoder makes of each sample (docs/method.md, 2.4, Core-Set)."""

from __future__ import annotations

import numpy as np
import torch

from alunet.model.network import Model
from alunet.model.reader import TileReader
from alunet.model.score import TimedProgress
from alunet.schema import Emit


@torch.inference_mode()
def encoder_features(model: Model, reader: TileReader, ids: np.ndarray, emit: Emit) -> np.ndarray:
    """Output of the encoder's last activation, flattened without pooling: (n, C * h * w) float32; n
    may be 0.

    Dropout is off; the decoder is not run.
    """
    rows: np.ndarray | None = None
    pace = TimedProgress("embed: encoder", len(ids), emit)
    for tiles in reader.batches(ids):
        images = torch.from_numpy(tiles.images).to(model.device, model.dtype)
        flat = model.network.encoder(images)[-1].flatten(1).float().cpu().numpy()
        if rows is None:
            rows = np.empty((len(ids), flat.shape[1]), np.float32)
        rows[tiles.rows] = flat
        pace.report(int(tiles.rows[-1]) + 1)
    return np.empty((0, 0), np.float32) if rows is None else rows
