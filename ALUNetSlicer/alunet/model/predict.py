"""Full-volume segmentation with nnU-Net's own predictor, and the Dice of the test cases (docs/method.md, 1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alunet.model.environment import Folders
from alunet.model.network import Model
from alunet.model.settings import ScoringSettings
from alunet.schema import Emit, Event


@dataclass(frozen=True)
class LabelledCase:
    """A test case: its name and the file of its reference label."""

    name: str
    label: Path


class Predictor:
    """nnU-Net's sliding window (step 0.5, Gaussian) over preprocessed cases, back on the raw grid."""

    def __init__(self, nnunet: Path, model: Model, settings: ScoringSettings) -> None:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        self.folders = Folders(nnunet)
        self.model = model
        self._predictor = nnUNetPredictor(
            use_mirroring=settings.mirroring,
            perform_everything_on_device=model.device.type == "cuda",
            device=model.device,
            allow_tqdm=False,
        )
        network = model.full_resolution(settings)
        self._predictor.manual_initialization(
            network, model.plans, model.configuration, None, model.dataset, "SparseTrainer", (0, 1)
        )

    def segment(self, case: str) -> np.ndarray:
        """Segmentation of a preprocessed case on its raw grid (k, j, i), uint8 or uint16."""
        import blosc2
        from batchgenerators.utilities.file_and_folder_operations import load_pickle
        from nnunetv2.inference.export_prediction import (
            convert_predicted_logits_to_segmentation_with_correct_shape,
        )

        image = blosc2.open(str(self.folders.images / f"{case}.b2nd"), mode="r")[:]
        properties = load_pickle(str(self.folders.images / f"{case}.pkl"))
        with torch.inference_mode():
            logits = self._predictor.predict_sliding_window_return_logits(torch.from_numpy(image)).cpu()
        model = self.model
        return convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            model.plans,
            model.configuration,
            model.labels,
            properties,
            num_threads_torch=torch.get_num_threads(),
        )


def dice_per_class(prediction: np.ndarray, reference: np.ndarray, classes: int) -> np.ndarray:
    """Dice 2TP/(2TP+FP+FN) of classes 1..K-1 of one case: (K-1,) float64, NaN where TP+FP+FN = 0."""
    values = np.arange(1, classes).reshape(-1, *[1] * prediction.ndim)
    predicted, wanted = prediction[None] == values, reference[None] == values
    axes = tuple(range(1, predicted.ndim))
    both, total = (predicted & wanted).sum(axes), predicted.sum(axes) + wanted.sum(axes)
    return np.divide(2.0 * both, total, out=np.full(classes - 1, np.nan), where=total > 0)


def evaluate(
    nnunet: Path, model: Model, cases: Sequence[LabelledCase], settings: ScoringSettings, emit: Emit
) -> dict[str, Any]:
    """Dice of the test cases: ``{"cases": {name: [per class, or null]}, "dice": [mean per class, or null]}``.

    Per class the mean over the cases in which the class is predicted or present; the foreground mean is the caller's.
    """
    from alunet.imaging.reading import read_labels

    predictor = Predictor(nnunet, model, settings)
    table: dict[str, list[float | None]] = {}
    for index, case in enumerate(cases):
        dice = dice_per_class(predictor.segment(case.name), read_labels(case.label), model.classes)
        table[case.name] = [None if np.isnan(value) else float(value) for value in dice]
        emit(Event("progress", {"phase": "evaluate", "done": index + 1, "total": len(cases), "unit": "cases"}))
    columns = [[value for value in column if value is not None] for column in zip(*table.values(), strict=True)]
    return {"cases": table, "dice": [float(np.mean(column)) if column else None for column in columns]}
