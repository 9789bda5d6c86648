"""Labels from DICOM objects: named segments on a grid, and that grid placed on an image's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.grids import Grid, placement

Layer = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DicomSegment:
    """One structure.

    Attributes:
        name: as the file calls it.
        code: coding scheme and value of its type, such as ("SCT", "10200004"), or None.
        layer: index of the layer that holds it.
        value: its number in that layer.
    """

    name: str
    code: tuple[str, str] | None
    layer: int
    value: int


@dataclass(frozen=True)
class DicomLabels:
    """Segments of a SEG or RTSTRUCT object.

    Segments that overlap are in different layers. No attribute of a patient or a study is kept.

    Attributes:
        grid: where the voxels lie.
        segments: in the order of the file; a segment without a voxel is among them.
        layers: arrays (k, j, i) of the numbers that the segments have in them, 0 elsewhere.
        referenced_series_uid: the series that was labeled; may be empty.
        referenced_instance_uids: its images, as far as the object names them.
        frame_of_reference_uid: of the coordinates; may be empty.
        notes: what was passed over, in words for a person.
    """

    grid: Grid
    segments: tuple[DicomSegment, ...]
    layers: tuple[Layer, ...]
    referenced_series_uid: str
    referenced_instance_uids: tuple[str, ...]
    frame_of_reference_uid: str = ""
    notes: tuple[str, ...] = ()

    def mask(self, segment: DicomSegment) -> Mask:
        """Return the voxels of a segment, array (k, j, i)."""
        return np.asarray(self.layers[segment.layer] == segment.value)

    @property
    def overlapping(self) -> bool:
        """Whether some voxel belongs to several segments."""
        return len(self.layers) > 1


class LayerStack:
    """Collects masks in as few layers as their overlaps allow."""

    def __init__(self, shape: tuple[int, int, int], segments: int) -> None:
        self._shape = shape
        self._kind: type[np.uint8] | type[np.uint16] = np.uint8 if segments <= 255 else np.uint16
        self.layers: list[Any] = []

    def add(self, mask: Mask, value: int, first: int = 0) -> int:
        """Write a mask into the first layer where it covers nothing; return that layer's index.

        Args:
            mask: of some or all slices.
            value: the number to write.
            first: slice (k) of the mask's first one.
        """
        place = slice(first, first + len(mask))
        for index, layer in enumerate(self.layers):
            if not layer[place][mask].any():
                layer[place][mask] = value
                return index
        self.layers.append(np.zeros(self._shape, self._kind))
        self.layers[-1][place][mask] = value
        return len(self.layers) - 1


def place_on(labels: DicomLabels, grid: Grid, name: str = "The label file") -> DicomLabels:
    """Place labels on the grid of an image: crops are padded, flipped and swapped axes reordered.

    Raises:
        InputError: the grids do not agree voxel for voxel (see `placement`), or labels are outside
            of the image.
    """
    place = placement(grid, labels.grid)
    if place is None:
        raise InputError(
            f"{name} is not on the voxels of its image: {grid.difference(labels.grid)}.",
            "Export it on the image's own grid, or resample it there.",
        )
    try:
        layers = tuple(place.place(layer, grid) for layer in labels.layers)
    except InputError as error:
        raise InputError(
            f"{name} is outside of its image: {error.message}", "Give the image it was made on."
        ) from error
    return replace(labels, grid=grid, layers=layers)


def checked_shape(size: tuple[int, int, int], name: str, limit: int) -> tuple[int, int, int]:
    """Return the shape (k, j, i); raise InputError where it has more voxels than `limit`."""
    voxels = size[0] * size[1] * size[2]
    if voxels > limit:
        raise InputError(f"{name} spans {voxels} voxels, more than {limit}.", "Crop or split it.")
    return size[2], size[1], size[0]
