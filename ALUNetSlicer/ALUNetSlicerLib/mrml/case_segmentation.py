"""Labels of one box of a case in a segmentation node, voxel for voxel; other voxels and segments
stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from ALUNetSlicerLib.mrml.slice_geometry import Box
from ALUNetSlicerLib.mrml.terminology import appearances_of

_PREFIX = "ALUNet_"
_LOCK = "ALUNetLock"
"""Id of a helper segment that scenes of before may hold."""
_MAP = "Binary labelmap"
_SAME = 1e-5
"""Grids that differ by less, mm, are one."""
_MOVED = 1e-2
"""Those that differ by more are of other voxels; a file may round what is between."""


class CaseSegmentation:
    """A case's segmentation node: one segment for each structure, beside whatever else is in it.

    Args:
        node: vtkMRMLSegmentationNode.
        volume: the case's volume node, on whose grid the labels are.
        labels: structure name -> value, with the background's 0.
        colors: #rrggbb of structures that have a color of their own, by name.
    """

    def __init__(
        self,
        node: Any,
        volume: Any,
        labels: Mapping[str, int],
        colors: Mapping[str, str] | None = None,
    ) -> None:
        self.node, self.volume = node, volume
        self._ids = {value: f"{_PREFIX}{value}" for value in labels.values() if value}
        self._colors = dict(colors or {})
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        self._remove_others()
        self._looks = appearances_of(labels, self._colors)
        for name, value in labels.items():
            if value and self._segments.GetSegment(self._ids[value]) is None:
                self._add(name, value)

    def _add(self, name: str, value: int) -> None:
        appearance = self._looks[name]
        self._segments.AddEmptySegment(self._ids[value], name, appearance.color)
        if appearance.entry:
            self._segments.GetSegment(self._ids[value]).SetTerminology(appearance.entry)

    def _remove_others(self) -> None:
        """Remove segments of structures that left the project; a person's own stay."""
        for name in list(self._segments.GetSegmentIDs()):
            number = name.removeprefix(_PREFIX)
            gone = name != number and number.isdigit() and int(number) not in self._ids
            if gone or name == _LOCK:
                self._segments.RemoveSegment(name)

    def use(
        self, before: Mapping[str, int], labels: Mapping[str, int], colors: Mapping[str, str]
    ) -> None:
        """Take other structures: segments come, go, and get the names and colors that changed.

        Args:
            before: structure name -> value until now.
        """
        old, earlier = {value: name for name, value in before.items()}, self._colors
        self._ids = {value: f"{_PREFIX}{value}" for value in labels.values() if value}
        self._colors, self._looks = dict(colors), appearances_of(labels, colors)
        self._remove_others()
        for name, value in labels.items():
            segment = self._segments.GetSegment(self._ids[value]) if value else None
            if value and segment is None:
                self._add(name, value)
            elif value:
                renamed, color = old.get(value, name) != name, self._colors.get(name, "")
                appearance = self._looks[name]
                if renamed:
                    segment.SetName(name)
                    segment.SetTerminology(appearance.entry)
                if color != earlier.get(old.get(value, name), ""):
                    segment.SetColor(*appearance.color)

    @property
    def segment_ids(self) -> list[str]:
        """Ids of the structures' segments, by value."""
        return [self._ids[value] for value in sorted(self._ids)]

    @property
    def _segments(self) -> Any:
        return self.node.GetSegmentation()

    @property
    def is_whole(self) -> bool:
        """Whether the node has a segment of each structure: somebody may have removed some."""
        known = self._segments
        return known is not None and all(map(known.GetSegment, self._ids.values()))

    @property
    def is_on_grid(self) -> bool:
        """Whether all that is labeled lies on the volume's grid: somebody may have moved that."""
        return all(self._on_grid(image, _MOVED) for image in self._images)

    @property
    def is_settled(self) -> bool:
        """Whether no change is under way: VTK tells of an image's new extent before it has the
        voxels.
        """
        scalars = [(image, image.GetPointData().GetScalars()) for image in self._images]
        return all(
            values is not None and values.GetNumberOfTuples() == image.GetNumberOfPoints()
            for image, values in scalars
        )

    @property
    def _images(self) -> set[Any]:
        """The label maps that hold something; several structures may share one."""
        segments = [self._segments.GetSegment(name) for name in self._ids.values()]
        images = {segment.GetRepresentation(_MAP) for segment in segments if segment is not None}
        return {image for image in images if image is not None and not image.IsEmpty()}

    def read(self, box: Box) -> np.ndarray:
        """The labels in a box, (k, j, i), uint8, or uint16 where there are more than 255
        structures.

        Where segments overlap the one with the largest value counts; a voxel in none of them is
        background, 0.
        """
        return self._read(box.bounds)

    def read_all(self) -> np.ndarray:
        """The labels of the whole volume; see `read`."""
        size = self.volume.GetImageData().GetDimensions()[::-1]
        return self._read(tuple((0, length) for length in size))

    def _read(self, bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
        shape = tuple(high - low for low, high in bounds)
        labels = np.zeros(shape, self._dtype)
        for value in sorted(self._ids):
            if self._segments.GetSegment(self._ids[value]) is None:
                continue
            image, own = self._map(self._ids[value])
            for inner, outer in _overlap(image, bounds):
                labels[inner][_array(image)[outer] == own] = value
        return labels

    @property
    def _dtype(self) -> type[np.unsignedinteger]:
        return np.uint8 if max(self._ids, default=0) < 256 else np.uint16

    def _map(self, name: str) -> tuple[Any, int]:
        """A label map with a segment in it, and its value there: the one that is shared where it
        is on the grid.
        """
        segment = self._segments.GetSegment(name)
        shared = segment.GetRepresentation(_MAP)
        if shared is not None and not shared.IsEmpty() and self._on_grid(shared):
            return shared, segment.GetLabelValue()
        image = slicer.vtkOrientedImageData()
        self.node.GetBinaryLabelmapRepresentation(name, image)
        return image, 1

    def write(self, box: Box, labels: np.ndarray) -> None:
        """Replace what is in a box; `read` gives the same labels afterwards.

        Args:
            labels: of the box's shape; values of no structure become background.

        Raises:
            ValueError: another shape.
        """
        if labels.shape != box.shape:
            raise ValueError(f"Labels of the shape {labels.shape} are not the box's, {box.shape}.")
        self._replace(box.extent, labels)

    def write_all(self, labels: np.ndarray) -> None:
        """Replace what is in the whole volume.

        Args:
            labels: (k, j, i) of the volume's size.

        Raises:
            ValueError: another size.
        """
        size = self.volume.GetImageData().GetDimensions()[::-1]
        if labels.shape != tuple(size):
            raise ValueError(
                f"Labels of the size {labels.shape} are not the volume's, {tuple(size)}."
            )
        self._replace(
            tuple(bound for extent in reversed(size) for bound in (0, extent - 1)), labels
        )

    def _replace(self, extent: tuple[int, ...], labels: np.ndarray) -> None:
        if not self._replace_in_place(extent, labels):
            self._merge(extent, labels)

    def _replace_in_place(self, extent: tuple[int, ...], labels: np.ndarray) -> bool:
        """Replace voxels in the segments' own label maps: a merge copies a whole map for each
        structure.

        Returns:
            False where that is not possible: a map is still empty, is on another grid, or
            another's segment is in the way in the same map. A merge sees to all of these.
        """
        parts = []
        for value, name in self._ids.items():
            segment = self._segments.GetSegment(name)
            image = segment.GetRepresentation(_MAP)
            if image is None or image.IsEmpty() or not self._on_grid(image):
                return False
            _reach(image, extent)
            parts.append((value, segment.GetLabelValue(), image))
        for _, own, image in parts:
            view = _array(image)[_inside(image, extent)]
            view[view == own] = 0
        for value, own, image in parts:
            view, mask = _array(image)[_inside(image, extent)], labels == value
            if view[mask].any():
                return False
            view[mask] = own
        for image in {id(image): image for _, _, image in parts}.values():
            image.Modified()
        return True

    def _on_grid(self, image: Any, within: float = _SAME) -> bool:
        """Whether an image counts voxels as the volume does."""
        own, other = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
        self.volume.GetIJKToRASMatrix(own)
        image.GetImageToWorldMatrix(other)
        places = [(row, column) for row in range(3) for column in range(4)]
        return all(
            abs(own.GetElement(*place) - other.GetElement(*place)) < within for place in places
        )

    def _merge(self, extent: tuple[int, ...], labels: np.ndarray) -> None:
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        nothing = self._image(extent, np.zeros(labels.shape, np.uint8))
        for segment in self._ids.values():
            logic.SetBinaryLabelmapToSegment(nothing, self.node, segment, logic.MODE_MERGE_MIN)
        for value, segment in self._ids.items():
            mask = labels == value
            if mask.any():
                image = self._image(extent, mask)
                logic.SetBinaryLabelmapToSegment(image, self.node, segment, logic.MODE_MERGE_MASK)

    def confine(self, box: Box, labels: np.ndarray) -> None:
        """Make a box all that there is: nothing can be painted beyond it, and of what was here
        nothing is left.

        Args:
            labels: what is in the box now.
        """
        image = self._image(box.extent, labels, self._dtype)
        for value, name in self._ids.items():
            segment = self._segments.GetSegment(name)
            segment.SetLabelValue(value)
            segment.AddRepresentation(_MAP, image)  # one map for all
        self._segments.SetConversionParameter(
            slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(),
            slicer.vtkSegmentationConverter.SerializeImageGeometry(image),
        )

    def look_like(self, other: CaseSegmentation) -> None:
        """Take names, colors and what is hidden from another node with the same structures."""
        ours, theirs = self.node.GetDisplayNode(), other.node.GetDisplayNode()
        for name in self._ids.values():
            segment, model = (each._segments.GetSegment(name) for each in (self, other))
            if segment is None or model is None:
                continue
            if segment.GetName() != model.GetName():
                segment.SetName(model.GetName())
            if segment.GetColor() != model.GetColor():
                segment.SetColor(*model.GetColor())
            if ours is not None and theirs is not None:
                ours.SetSegmentVisibility(name, theirs.GetSegmentVisibility(name))

    def _image(self, extent: tuple[int, ...], values: np.ndarray, dtype: Any = np.uint8) -> Any:
        matrix = vtk.vtkMatrix4x4()
        self.volume.GetIJKToRASMatrix(matrix)
        image = slicer.vtkOrientedImageData()
        image.SetGeometryFromImageToWorldMatrix(matrix)
        image.SetExtent(*extent)
        image.AllocateScalars(get_vtk_array_type(dtype), 1)
        vtk_to_numpy(image.GetPointData().GetScalars())[:] = values.ravel()
        return image


def load_segmentation(case: str, volume: Any, labels: Mapping[str, int], file: Path) -> Any:
    """Load a label map of a whole case into a new segmentation node beside its volume.

    Args:
        case: name of it.
        volume: its volume node.
        labels: structure name -> value.

    Returns:
        vtkMRMLSegmentationNode.

    Raises:
        ValueError: the file cannot be read, or is of another size than the volume.
    """
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(file))
    try:
        if not storage.ReadData(labelmap):
            raise ValueError(f"The segmentation of {case} cannot be read.")
        return _whole(f"{case} segmented", volume, labels, labelmap)
    finally:
        slicer.mrmlScene.RemoveNode(storage)
        slicer.mrmlScene.RemoveNode(labelmap)


def _whole(name: str, volume: Any, labels: Mapping[str, int], labelmap: Any) -> Any:
    size = labelmap.GetImageData().GetDimensions()[::-1]
    if tuple(size) != tuple(volume.GetImageData().GetDimensions()[::-1]):
        raise ValueError(
            f"The segmentation of {volume.GetName()} is of another size than the volume."
        )
    values = vtk_to_numpy(labelmap.GetImageData().GetPointData().GetScalars()).reshape(size)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    CaseSegmentation(node, volume, labels).write_all(values)
    return node


def _reach(image: Any, extent: tuple[int, ...]) -> None:
    """Let a label map reach over an extent; what it holds stays."""
    old = image.GetExtent()
    new = [
        (max if bound % 2 else min)(pair)
        for bound, pair in enumerate(zip(old, extent, strict=True))
    ]
    if tuple(new) == tuple(old):
        return
    wide = slicer.vtkOrientedImageData()
    wide.ShallowCopy(image)
    wide.SetExtent(*new)
    wide.AllocateScalars(image.GetScalarType(), 1)
    values = _array(wide)
    values[:] = 0
    values[_inside(wide, old)] = _array(image)
    image.ShallowCopy(wide)


def _inside(image: Any, extent: tuple[int, ...]) -> tuple[slice, ...]:
    """An extent that lies in an image as an index of its array."""
    first = image.GetExtent()[::2]
    ranges = [
        slice(extent[2 * axis] - first[axis], extent[2 * axis + 1] - first[axis] + 1)
        for axis in range(3)
    ]
    return tuple(reversed(ranges))


def _array(image: Any) -> np.ndarray:
    """Voxels of an image over its extent, (k, j, i)."""
    i, j, k = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)


def _overlap(
    image: Any, bounds: tuple[tuple[int, int], ...]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """What an image and a box of these bounds share, as an index of the box and one of the image;
    nothing where they share nothing.
    """
    extent = image.GetExtent()
    inner, outer = [], []
    for (low, high), first, last in zip(bounds, extent[4::-2], extent[5::-2], strict=True):
        begin, end = max(low, first), min(high, last + 1)
        if begin >= end:
            return
        inner.append(slice(begin - low, end - low))
        outer.append(slice(begin - first, end - first))
    yield tuple(inner), tuple(outer)
