"""Full-volume segmentation with nnU-Net's own predictor (docs/method.md, 1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alunet.model.classes import to_numbers
from alunet.model.environment import Folders
from alunet.model.network import Model
from alunet.model.plan import preprocess_image
from alunet.model.settings import ScoringSettings


class Predictor:
    """nnU-Net's sliding window (step 0.5, Gaussian) over preprocessed cases, back on the raw
    grid.
    """

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
        """Segmentation of a preprocessed case on its raw grid (k, j, i), uint8 or uint16.

        It holds the numbers of the project's structures.
        """
        import blosc2
        from batchgenerators.utilities.file_and_folder_operations import load_pickle

        image = blosc2.open(str(self.folders.images / f"{case}.b2nd"), mode="r")[:]
        return self._segment(image, load_pickle(str(self.folders.images / f"{case}.pkl")))

    def segment_files(self, images: Sequence[Path]) -> np.ndarray:
        """Segmentation of an image that is no case, one file a channel, as `segment` gives it.

        Raises:
            InputError: the image cannot be normalized.
        """
        model = self.model
        data, _, properties = preprocess_image(
            images[0].name, images, model.plans, model.configuration, model.dataset
        )
        return self._segment(data, properties)

    def _segment(self, image: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
        from nnunetv2.inference.export_prediction import (
            convert_predicted_logits_to_segmentation_with_correct_shape,
        )

        with torch.inference_mode():
            logits = self._predictor.predict_sliding_window_return_logits(
                torch.from_numpy(image)
            ).cpu()
        model = self.model
        classes = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            model.plans,
            model.configuration,
            model.labels,
            properties,
            num_threads_torch=torch.get_num_threads(),
        )
        return to_numbers(classes, model.numbers)
