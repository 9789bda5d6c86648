"""Full-volume segmentation with nnU-Net's own predictor (docs/method.md, 1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alunet.model.classes import to_numbers
from alunet.model.environment import Folders
from alunet.model.hardware import memory_free
from alunet.model.network import Model
from alunet.model.plan import preprocess_image
from alunet.model.prepared import open_image, read_properties
from alunet.model.settings import ScoringSettings
from alunet.schema import Emit, Event, ignore_events

_LOGITS = 1 << 24  # values of all classes that are in memory at a time
# Bytes of such a value: its logit in half precision before and after resampling, in double while it
# is resampled, its probability.
_VALUE_BYTES = 2 + 2 + 8 + 4 + 4
_MAPS_OF_TILE = 8  # activations of the first stage's size that a pass holds at a time, about
_COPIES = 3  # of a segmentation until it is written


class Predictor:
    """nnU-Net's sliding window (step 0.5, Gaussian) over preprocessed cases, back on the raw
    grid.
    """

    def __init__(
        self, nnunet: Path, model: Model, settings: ScoringSettings, emit: Emit = ignore_events
    ) -> None:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        self.folders = Folders(nnunet)
        self.model, self._emit = model, emit
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

    def segment(self, case: str, slices: Sequence[int] | None = None) -> np.ndarray:
        """Segmentation of a preprocessed case on its raw grid (k, j, i), uint8 or uint16.

        It holds the numbers of the project's structures.

        Args:
            slices: of the preprocessed image; the result has these alone across its sliced axis,
                and costs their passes alone.
        """
        image = open_image(self.folders, case)
        return self._segment(case, image, read_properties(self.folders, case), slices)

    def segment_files(self, images: Sequence[Path]) -> np.ndarray:
        """Segmentation of an image that is no case, one file a channel, as `segment` gives it.

        Raises:
            InputError: the image cannot be normalized.
        """
        model = self.model
        data, _, properties = preprocess_image(
            images[0].name, images, model.plans, model.configuration, model.dataset
        )
        return self._segment(images[0].name, data, properties)

    def _segment(
        self,
        name: str,
        image: Any,
        properties: dict[str, Any],
        slices: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Segment preprocessed slices, some at a time.

        Slices do not know each other in a 2D network, and are never resampled, so that this gives
        what nnU-Net gives for all at once, without the logits of all classes and voxels.
        """
        numbers = self.model.numbers
        kind = np.uint8 if max(numbers) <= 255 else np.uint16
        depth, *plane = properties["shape_before_cropping"]
        across, *box = (slice(*edges) for edges in properties["bbox_used_for_cropping"])
        wanted = range(image.shape[1]) if slices is None else slices
        whole = np.zeros([depth if slices is None else len(wanted), *plane], kind)
        rows = across if slices is None else slice(None)
        kept = whole[(rows, box[0], box[1])]
        step = self._slices_at_a_time(name, whole, max(kept[0].size, image[0, 0].size))
        for start in range(0, len(wanted), step):
            some = wanted[start : start + step]
            part = kept[start : start + step]
            classes = self._classes(_read(image, some), part.shape, properties["spacing"])
            part[:] = to_numbers(classes, numbers)
        back: np.ndarray = whole.transpose(self.model.plans.transpose_backward)
        return back

    def _slices_at_a_time(self, name: str, result: np.ndarray, pixels: int) -> int:
        """How many slices are segmented at a time; says so where even one does not fit into the
        memory that is free.
        """
        model, free = self.model, memory_free()
        features = model.configuration.network_arch_init_kwargs["features_per_stage"][0]
        tile = 4 * (_MAPS_OF_TILE * features + model.classes) * int(np.prod(model.patch))
        fixed = tile + _COPIES * result.nbytes
        values = model.classes * pixels
        room = max(0, free - fixed) // _VALUE_BYTES
        need = fixed + _VALUE_BYTES * values
        if need > free:
            text = f"Segmenting {name} takes about {need >> 20} MiB; {free >> 20} MiB are free."
            self._emit(Event("message", {"text": text}))
        return int(max(1, min(self._values, room) // values))

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


def _read(image: Any, slices: Sequence[int]) -> np.ndarray:
    """Some slices of a preprocessed image on disk or in memory, (C, slice, row, column)."""
    first, last = slices[0], slices[-1]
    if last - first == len(slices) - 1:
        return np.asarray(image[:, first : last + 1])
    return np.concatenate([np.asarray(image[:, one : one + 1]) for one in slices], axis=1)
