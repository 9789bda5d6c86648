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
from alunet.model.prepared import open_image, read_properties
from alunet.model.settings import ScoringSettings

_LOGITS = 1 << 24  # values of all classes that are in memory at a time


class Predictor:
    """nnU-Net's sliding window (step 0.5, Gaussian) over preprocessed cases, back on the raw
    grid.
    """

    def __init__(self, nnunet: Path, model: Model, settings: ScoringSettings) -> None:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        self.folders = Folders(nnunet)
        self.model = model
        self._values = int(_LOGITS * settings.memory_share)
        self._predictor = nnUNetPredictor(
            use_mirroring=settings.mirroring,
            perform_everything_on_device=model.device.type == "cuda",
            device=model.device,
            allow_tqdm=False,
        )
        network = model.deterministic(settings)
        self._predictor.manual_initialization(
            network, model.plans, model.configuration, None, model.dataset, "SparseTrainer", (0, 1)
        )

    def segment(self, case: str) -> np.ndarray:
        """Segmentation of a preprocessed case on its raw grid (k, j, i), uint8 or uint16.

        It holds the numbers of the project's structures.
        """
        image = open_image(self.folders, case)
        return self._segment(image, read_properties(self.folders, case))

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

    def _segment(self, image: Any, properties: dict[str, Any]) -> np.ndarray:
        """Segment preprocessed slices, some at a time.

        Slices do not know each other in a 2D network, and are never resampled, so that this gives
        what nnU-Net gives for all at once, without the logits of all classes and voxels.
        """
        numbers = self.model.numbers
        kind = np.uint8 if max(numbers) <= 255 else np.uint16
        whole = np.zeros(properties["shape_before_cropping"], kind)
        kept = whole[tuple(slice(*edges) for edges in properties["bbox_used_for_cropping"])]
        step = max(1, self._values // (self.model.classes * max(kept[0].size, image[0, 0].size)))
        for start in range(0, len(kept), step):
            some = slice(start, start + step)
            classes = self._classes(image[:, some], kept[some].shape, properties["spacing"])
            kept[some] = to_numbers(classes, numbers)
        return whole.transpose(self.model.plans.transpose_backward)

    def _classes(
        self, image: np.ndarray, shape: tuple[int, ...], spacing: Sequence[float]
    ) -> np.ndarray:
        """Classes of some preprocessed slices (C, slice, row, column), in voxels of the image file,
        as nnU-Net's `convert_predicted_logits_to_segmentation_with_correct_shape` has them.
        """
        model = self.model
        with torch.inference_mode():
            logits = self._predictor.predict_sliding_window_return_logits(
                torch.from_numpy(np.ascontiguousarray(image))
            ).cpu()
        own = [spacing[axis] for axis in model.plans.transpose_forward]
        logits = model.configuration.resampling_fn_probabilities(
            logits, shape, [own[0], *model.configuration.spacing], own
        )
        return np.asarray(model.labels.convert_logits_to_segmentation(logits))
