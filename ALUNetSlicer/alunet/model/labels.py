"""Annotations on nnU-Net's grid: only the label files of touched cases are ever rewritten
(docs/method.md, 1.6).

Values of a refreshed label map: classes 0..K-1, nnU-Net's ignore label K where nothing is
annotated, and, only where the plan masks images for normalisation, two codes outside the image's
non-zero mask: `OUTSIDE` (annotated, hence background) and `OUTSIDE_IGNORED`. nnU-Net writes -1
there, the very value its loader pads with, and turns both into background; told apart, padding can
be ignored and the outside of an annotated slice can still be learned as background.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from alunet.model.classes import numbers_of, to_classes
from alunet.model.environment import Folders
from alunet.model.plan import load_plans
from alunet.model.prepared import open_array, open_mask, read_properties, write_array
from alunet.storage.files import atomic_path, sha256_file, write_json

_HASH = "sha256"  # of the label map, beside the locations
_ABOUT = "structures.json"
"""Number of each class in the files beside it."""
PADDING = -1
OUTSIDE = -2
OUTSIDE_IGNORED = -3


class LabelFolder:
    """The refreshed label maps of one line of annotation: ``<case>_seg.b2nd`` and ``<case>.npz``
    (class locations).
    """

    def __init__(self, folder: Path, nnunet: Path) -> None:
        self.folder = folder
        self.folders = Folders(nnunet)
        self.plans, self.configuration, self.dataset = load_plans(self.folders)
        self.manager: Any = self.plans.get_label_manager(self.dataset)
        self.numbers = numbers_of(self.dataset)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._forget_other_structures()

    def _forget_other_structures(self) -> None:
        """Empty the folder where its files were made for other structures than those of now."""
        about = self.folder / _ABOUT
        known = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else None
        if known != self.numbers:
            for file in self.folder.iterdir():
                file.unlink()
            write_json(about, self.numbers)

    def refresh(self, case: str, annotation: np.ndarray) -> None:
        """Bring an annotation of `case` onto the grid and write its two files.

        Args:
            annotation: (k, j, i) of the image file, uint8; numbers of structures, and
                `alunet.schema.NOT_ANNOTATED`, which becomes nnU-Net's ignore label, the highest
                class + 1.
        """
        properties = read_properties(self.folders, case)
        labels = self._on_grid(annotation, properties)
        locations = self._locations(labels)
        if any(self.configuration.use_mask_for_norm):
            mask = open_mask(self.folders, case)[:]
            labels = _mark_outside(labels, mask, self.manager.ignore_label)
        array = self.folder / f"{case}_seg.b2nd"
        write_array(labels, array, self.configuration.patch_size)
        content: dict[str, Any] = {_key(name): places for name, places in locations.items()}
        content[_HASH] = np.array(sha256_file(array))
        with atomic_path(self.folder / f"{case}.npz") as part:
            np.savez(part, **content)

    def _on_grid(self, annotation: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
        plans, configuration = self.plans, self.configuration
        labels = to_classes(annotation, self.numbers)
        labels = labels.transpose(plans.transpose_forward)[None]
        crop = tuple(slice(low, high) for low, high in properties["bbox_used_for_cropping"])
        labels = labels[(slice(None), *crop)].astype(np.int16)
        spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
        target = [spacing[0], *configuration.spacing]
        return configuration.resampling_fn_seg(
            labels, properties["grid_shape"], spacing, target
        ).astype(np.int16)

    def _locations(self, labels: np.ndarray) -> dict[Any, Any]:
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

        wanted = [*self.manager.foreground_labels, [-1, *self.manager.all_labels]]
        return DefaultPreprocessor._sample_foreground_locations(labels, wanted)

    def load(self, case: str) -> tuple[Any, dict[Any, np.ndarray]]:
        """The label map (a Blosc2 array, (1, slice, row, column)) and nnU-Net's class locations."""
        labels = open_array(self.folder / f"{case}_seg.b2nd")
        with np.load(self.folder / f"{case}.npz", allow_pickle=False) as content:
            names = [name for name in content.files if name != _HASH]
            return labels, {_unkey(name): content[name] for name in names}

    def is_sound(self, case: str) -> bool:
        """Return whether the two files of a case are there as they were written."""
        try:
            with np.load(self.folder / f"{case}.npz", allow_pickle=False) as content:
                kept = {name: content[name] for name in content.files}  # compares their checksums
            return sha256_file(self.folder / f"{case}_seg.b2nd") == str(kept[_HASH])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
            return False


def _mark_outside(labels: np.ndarray, mask: np.ndarray, ignore: int) -> np.ndarray:
    outside = mask < 0
    marked = labels.copy()
    marked[outside & (labels == 0)] = OUTSIDE
    marked[outside & (labels == ignore)] = OUTSIDE_IGNORED
    return marked


def _key(name: int | tuple[int, ...]) -> str:
    return ",".join(str(value) for value in name) + "," if isinstance(name, tuple) else str(name)


def _unkey(name: str) -> int | tuple[int, ...]:
    return tuple(int(value) for value in name.split(",") if value) if "," in name else int(name)
