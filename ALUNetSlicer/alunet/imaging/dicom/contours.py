"""RTSTRUCT objects: contours as voxels on the grid of the series that they were drawn on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.dicom.elements import (
    COPY_AGAIN,
    any_uid,
    guarded,
    item,
    items,
    numbers,
    read_whole,
    whole,
    word,
)
from alunet.imaging.dicom.frames import referenced_series
from alunet.imaging.dicom.labels import DicomLabels, DicomSegment, LayerStack, Mask, checked_shape
from alunet.imaging.dicom.pixels import MOST_VOXELS
from alunet.imaging.dicom.segmentation import code_of
from alunet.imaging.dicom.series import SeriesIdentity
from alunet.imaging.grids import Grid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEYWORDS = (
    "Modality",
    "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceSequence",
    "StructureSetROISequence",
    "ROIContourSequence",
    "RTROIObservationsSequence",
)
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_ONE_PLANE = 0.1  # slices: points of one contour, and contours of one plane, agree this well
_ROUNDING = 1e-6  # voxels
_EDGES = 4096  # of a contour at once, which bounds the memory

Points = npt.NDArray[np.float64]


def read_contours(path: Path, grid: Grid, identity: SeriesIdentity | None = None) -> DicomLabels:
    """Read an RTSTRUCT object as voxels.

    A voxel belongs to a structure where its center is inside of an odd number of the structure's
    contours in its
    slice: an inner contour is a hole, however it was drawn (a keyhole, or a contour of its own). A
    contour belongs to the nearest slice; where contours of several planes are nearest to one slice,
    the plane closest to it counts, and the others are named in `DicomLabels.notes`. Points and open
    contours are passed over and named.

    Args:
        path: the file.
        grid: of the series that was contoured.
        identity: of that series; None where it is not known.

    Raises:
        InputError: it is no RTSTRUCT object, damaged, of another series, a contour is not parallel
            to the slices, or one is outside of the volume by more than half a slice.
    """
    path = Path(path)
    dataset = read_whole(path, _KEYWORDS)
    with guarded(path):
        regions = items(dataset, "StructureSetROISequence")
        if word(dataset, "Modality") != "RTSTRUCT" or not regions:
            raise InputError(
                f"{path} is no RTSTRUCT object with structures.", "Give one, or a SEG object."
            )
        _check_series(dataset, identity, path)
        shape = checked_shape(grid.size, str(path), MOST_VOXELS)
        contours = {
            whole(e, "ReferencedROINumber", 0, path): e
            for e in items(dataset, "ROIContourSequence")
        }
        codes = {
            whole(e, "ReferencedROINumber", 0, path): code_of(
                item(e, "RTROIIdentificationCodeSequence")
            )
            for e in items(dataset, "RTROIObservationsSequence")
        }
        stack, notes, segments, instances = LayerStack(shape, len(regions)), [], [], []
        for value, region in enumerate(regions, start=1):
            count = whole(region, "ROINumber", 0, path)
            name = word(region, "ROIName")[:64] or f"Structure {count}"
            entry = contours.get(count)
            mask, said = _mask(entry, grid, name, path)
            notes += said
            instances += _images(entry)
            segments.append(DicomSegment(name, codes.get(count), stack.add(mask, value), value))
        return DicomLabels(
            grid,
            tuple(segments),
            tuple(stack.layers),
            referenced_series(dataset),
            tuple(dict.fromkeys(instances)),
            _frame_of_reference(dataset),
            tuple(notes),
        )


def _frame_of_reference(dataset: Dataset) -> str:
    entry = item(dataset, "ReferencedFrameOfReferenceSequence")
    return any_uid(dataset if entry is None else entry, "FrameOfReferenceUID")


def _check_series(dataset: Dataset, identity: SeriesIdentity | None, path: Path) -> None:
    if identity is None:
        return
    pairs = (
        ("series", referenced_series(dataset), identity.series_uid),
        ("frame of reference", _frame_of_reference(dataset), identity.frame_of_reference_uid),
    )
    for what, named, given in pairs:
        if named and given and named != given:
            raise InputError(
                f"{path} was drawn on another {what} ({named}, not {given}).",
                "Give the image that it belongs to.",
            )


def _images(entry: Dataset | None) -> list[str]:
    named = (
        any_uid(image, "ReferencedSOPInstanceUID")
        for contour in items(entry, "ContourSequence")
        for image in items(contour, "ContourImageSequence")
    )
    return [name for name in named if name]


def _mask(entry: Dataset | None, grid: Grid, name: str, path: Path) -> tuple[Mask, list[str]]:
    """Return the voxels of one structure, and what was passed over."""
    planes: dict[int, list[tuple[float, Points]]] = defaultdict(list)
    passed_over: dict[str, int] = defaultdict(int)
    for contour in items(entry, "ContourSequence"):
        kind = word(contour, "ContourGeometricType").upper()[:20]
        if kind not in _CLOSED:
            passed_over[kind or "no kind"] += 1
            continue
        if 0 < len(contour.get("ContourData") or ()) < 9:
            passed_over[f"{kind} with fewer than 3 points"] += 1
            continue
        points = _points(contour, grid, name, path)
        height = float(points[:, 2].mean())
        planes[_slice_of(height, grid, name, path)].append((height, points))
    mask = np.zeros(grid.shape, bool)
    notes = [
        f"'{name}': {count} contour(s) of the kind {kind} passed over."
        for kind, count in passed_over.items()
    ]
    for k, drawn in planes.items():
        nearest = min((height for height, _ in drawn), key=lambda height: abs(height - k))
        chosen = [points for height, points in drawn if abs(height - nearest) <= _ONE_PLANE]
        if len(chosen) < len(drawn):
            left = len(drawn) - len(chosen)
            notes.append(f"'{name}': {left} contour(s) between slices passed over at slice {k}.")
        mask[k] = fill_polygons([points[:, :2] for points in chosen], grid.shape[1:])
    return mask, notes


def _points(contour: Dataset, grid: Grid, name: str, path: Path) -> Points:
    """Return the points of a closed contour as indices (x, y, z) of voxels."""
    count = len(contour.get("ContourData") or ())
    found = numbers(contour, "ContourData", count - count % 3, path) if count else None
    if found is None or count < 9:
        raise InputError(
            f"{path}: a contour of '{name}' has {count} numbers, less than 3 points.", COPY_AGAIN
        )
    axes = np.array(grid.direction).reshape(3, 3) * grid.spacing
    places = np.array(found).reshape(-1, 3) - grid.origin
    points: Points = np.linalg.solve(axes, places.T).T
    if grid.size[2] > 1 and np.ptp(points[:, 2]) > _ONE_PLANE:
        raise InputError(
            f"{path}: a contour of '{name}' is not parallel to the slices: "
            f"it spans {np.ptp(points[:, 2]):.2f} of them.",
            "Give the series that it was drawn on.",
        )
    if np.abs(points[:, :2]).max() > 100 * max(grid.size):
        raise InputError(
            f"{path}: a contour of '{name}' is far outside of the image.", "Give its own series."
        )
    return points


def _slice_of(height: float, grid: Grid, name: str, path: Path) -> int:
    k = int(np.floor(height + 0.5))
    if not -0.5 - _ROUNDING <= height <= grid.size[2] - 0.5 + _ROUNDING:
        raise InputError(
            f"{path}: a contour of '{name}' is at slice {height:.2f}, "
            f"the image has the slices 0 to {grid.size[2] - 1}.",
            "Give the whole series that it was drawn on.",
        )
    return min(max(k, 0), grid.size[2] - 1)


def fill_polygons(polygons: Iterable[Points], shape: Sequence[int]) -> Mask:
    """Return the pixels (j, i) with centers inside of an odd number of polygons (x, y).

    A center on an edge is inside where the polygon continues towards larger x or y, so that
    polygons that share an edge share no pixel.
    """
    rows, columns = shape
    toggles = np.zeros(rows * (columns + 1), np.int64)
    for points in polygons:
        ends = np.roll(points, -1, axis=0)
        for first in range(0, len(points), _EDGES):
            part = slice(first, first + _EDGES)
            found = _crossings(points[part], ends[part], rows, columns)
            toggles += np.bincount(found, minlength=toggles.size)
    crossed = toggles.reshape(rows, columns + 1)[:, :columns]
    inside: Mask = np.cumsum(crossed, axis=1) % 2 == 1
    return inside


def _crossings(starts: Points, ends: Points, rows: int, columns: int) -> npt.NDArray[np.int64]:
    """Return the flat index of the first pixel at or behind each crossing of edge and row."""
    (x0, y0), (x1, y1) = starts.T, ends.T
    first = np.clip(np.ceil(np.minimum(y0, y1) - _ROUNDING), 0, rows).astype(int)
    last = np.clip(np.ceil(np.maximum(y0, y1) - _ROUNDING), 0, rows).astype(int)
    counts = np.maximum(0, last - first)
    edge = np.repeat(np.arange(len(starts)), counts)
    j = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    part = np.clip((j - y0[edge]) / (y1 - y0)[edge], 0, 1)
    crossing = x0[edge] + (x1 - x0)[edge] * part
    i = np.clip(np.ceil(crossing - _ROUNDING), 0, columns).astype(int)
    found: npt.NDArray[np.int64] = j * (columns + 1) + i
    return found
