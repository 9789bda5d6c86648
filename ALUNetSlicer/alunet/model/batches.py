"""The batches of a training: annotated cases alone, cut and augmented by nnU-Net, padding
ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from alunet.model.labels import OUTSIDE, OUTSIDE_IGNORED, PADDING, LabelFolder
from alunet.model.prepared import open_image

_CACHE_BYTES = 1 << 30  # decompressed cases kept in memory by the loader of one training


class AnnotatedCases(nnUNetDatasetBlosc2):
    """The annotated cases: images shared with every other run, labels of this line of
    annotation.
    """

    def __init__(self, images: Path, labels: LabelFolder, cases: list[str]) -> None:
        super().__init__(str(images), list(cases))
        self._labels = labels
        self._cache: dict[str, tuple[Any, Any, None, dict[str, Any]]] = {}
        self._room = _CACHE_BYTES

    def load_case(self, identifier: str) -> tuple[Any, Any, None, dict[str, Any]]:
        """Return image, labels, no previous stage, and the class locations, as nnU-Net's loader
        wants them.
        """
        if identifier in self._cache:
            return self._cache[identifier]
        image = open_image(self._labels.folders, identifier)
        labels, locations = self._labels.load(identifier)
        size = int(np.prod(image.shape)) * 6  # float32 image and int16 labels
        if size <= self._room:
            self._room -= size
            image, labels = image[:], labels[:]
        self._cache[identifier] = (image, labels, None, {"class_locations": locations})
        return self._cache[identifier]


def loader(
    cases: AnnotatedCases,
    weights: dict[str, int],
    batch_size: int,
    cut: Sequence[int],
    patch: Sequence[int],
    labels: Any,
    foreground: float,
    transforms: ComposeTransforms,
) -> nnUNetDataLoader:
    """Return nnU-Net's loader that draws cases in proportion to `weights`.

    Args:
        cut: what is cut out before the augmentation, larger than `patch`.
        labels: nnU-Net's label manager.
        foreground: share of a batch that is centered on a structure, each of a case's structures as
            often.
    """
    counts = np.array([weights[case] for case in cases.identifiers], dtype=float)
    return nnUNetDataLoader(
        cases,
        batch_size,
        cut,
        patch,
        labels,
        oversample_foreground_percent=foreground,
        sampling_probabilities=counts / counts.sum(),
        transforms=transforms,
    )


def feed(source: nnUNetDataLoader, workers: int, pinned: bool) -> Any:
    """Return an iterator over the batches of `source`: in this process, or by `workers` processes.

    Seeded and asked in turn: unlike nnU-Net's own choice, the same seed gives the same batches.
    """
    if workers == 0:
        return SingleThreadedAugmenter(source, None)
    seeds = [int(seed) for seed in np.random.randint(2**31, size=workers)]
    return MultiThreadedAugmenter(source, None, workers, 2, seeds, pin_memory=pinned)


class InTurn:
    """The first `switch` batches of a training come from one loader, all others from another.

    Args:
        drawn: batches that were drawn before an interruption.
    """

    def __init__(self, first: Any, then: Any, switch: int, drawn: int) -> None:
        self._first, self._then, self._switch, self._drawn = first, then, switch, drawn

    def __next__(self) -> dict[str, Any]:
        source = self._first if self._drawn < self._switch else self._then
        self._drawn += 1
        return next(source)

    def finish(self) -> None:
        """End the processes that augment."""
        finish(self._first)
        finish(self._then)


def finish(source: Any) -> None:
    """End the processes that augment for a source of batches, where it has some."""
    if isinstance(source, InTurn):
        source.finish()
    elif isinstance(source, MultiThreadedAugmenter):
        source._finish()


def repeatable(transforms: ComposeTransforms) -> ComposeTransforms:
    """Without nnU-Net's stop watch: it blurs in the way that was quicker, so pixels depend on
    how busy a machine is.
    """
    for transform in transforms.transforms:
        blur = getattr(transform, "transform", transform)
        if isinstance(blur, GaussianBlurTransform):
            blur.benchmark = False
    return transforms


def keep_padding_out(transforms: ComposeTransforms, ignore: int) -> ComposeTransforms:
    """Replace nnU-Net's "-1 becomes background" by the codes of `alunet.model.labels`."""
    meaning = {PADDING: ignore, OUTSIDE: 0, OUTSIDE_IGNORED: ignore}
    codes = [RemoveLabelTansform(code, value) for code, value in meaning.items()]
    kept: list[Any] = []
    for transform in transforms.transforms:
        kept.extend(codes if isinstance(transform, RemoveLabelTansform) else [transform])
    return ComposeTransforms(kept)
