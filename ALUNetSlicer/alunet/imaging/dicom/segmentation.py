"""DICOM SEG objects: binary, fractional and label maps, on the grid that they describe."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.dicom.decoding import PixelReader
from alunet.imaging.dicom.elements import (
    COPY_AGAIN,
    any_uid,
    guarded,
    item,
    items,
    number,
    read_header,
    whole,
    word,
)
from alunet.imaging.dicom.frames import (
    Groups,
    functional_groups,
    orientation_of,
    position_of,
    referenced_series,
    spacing_of,
)
from alunet.imaging.dicom.geometry import MOST_OFF, make_grid, normal_of
from alunet.imaging.dicom.labels import DicomLabels, DicomSegment, LayerStack, checked_shape
from alunet.imaging.dicom.pixels import (
    FORMAT_KEYWORDS,
    MOST_VOXELS,
    PixelFormat,
    check_length,
    pixel_format,
)
from alunet.imaging.grids import Grid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEYWORDS = (
    "Modality",
    "FrameOfReferenceUID",
    *FORMAT_KEYWORDS,
    "SegmentationType",
    "MaximumFractionalValue",
    "SegmentSequence",
    "ReferencedSeriesSequence",
    "TotalPixelMatrixColumns",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
Vector = npt.NDArray[np.float64]
_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")


@dataclass(frozen=True)
class _Plane:
    """A frame: its number in the file, the slice (k) that it fills, its segment (0: label map)."""

    index: int
    k: int
    segment: int


def read_segmentation(
    path: Path, threshold: float | None = None, image: Grid | None = None
) -> DicomLabels:
    """Read a DICOM SEG object.

    Slices that the object leaves out because they are empty are empty. Segments that overlap are
    kept apart in layers.

    Args:
        path: the file.
        threshold: for fractional objects, the least part of the maximum (above 0, at most 1) that
            counts as inside; None where only objects with 0 and the maximum are taken.
        image: grid of the labeled image, where it is known: it says how far slices are apart, which
            an object with few slices leaves open.

    Raises:
        InputError: it is no SEG object, damaged, of slide microscopy, fractional without a
            threshold, its slices do not form a grid, or two frames of a segment lie at one place.
    """
    path = Path(path)
    header = read_header(path, _KEYWORDS)
    with guarded(path):
        dataset = header.dataset
        kind = word(dataset, "SegmentationType").upper()
        if kind not in _KINDS:
            what = f"of the type '{kind:.20}'" if kind else "no DICOM SEG object"
            raise InputError(
                f"{path} is {what}.", "Give a SEG object: binary, fractional or a label map."
            )
        if "TotalPixelMatrixColumns" in dataset:
            raise InputError(
                f"{path} labels a slide image in tiles.", "Only volumes can be labeled here."
            )
        form = pixel_format(dataset, path)
        check_length(form, header)
        segments = _segments(dataset, path)
        grid, planes = _planes(dataset, form, kind, image, path)
        _check_planes(planes, segments, path)
        fill = _fill_label_map if kind == "LABELMAP" else _fill_masks
        limit = _limit(dataset, kind, threshold, path)
        found, layers = fill(
            PixelReader(path),
            planes,
            segments,
            checked_shape(grid.size, str(path), MOST_VOXELS),
            limit,
        )
        return DicomLabels(
            grid,
            found,
            layers,
            referenced_series(dataset),
            _instances(dataset),
            any_uid(dataset, "FrameOfReferenceUID"),
        )


_Description = dict[int, tuple[str, tuple[str, str] | None]]
_Filled = tuple[tuple[DicomSegment, ...], tuple[Any, ...]]


def _segments(dataset: Dataset, path: Path) -> _Description:
    """Return the number of each segment, with its name and code."""
    found: _Description = {}
    for entry in items(dataset, "SegmentSequence"):
        count = whole(entry, "SegmentNumber", 0, path)
        if count in found:
            raise InputError(f"{path} describes the segment {count} twice.", COPY_AGAIN)
        code = code_of(item(entry, "SegmentedPropertyTypeCodeSequence"))
        found[count] = (word(entry, "SegmentLabel")[:64] or f"Segment {count}", code)
    if not found:
        raise InputError(f"{path} describes no segment.", COPY_AGAIN)
    return found


def code_of(entry: Dataset | None) -> tuple[str, str] | None:
    """Return coding scheme and value of a coded entry, or None."""
    if entry is None:
        return None
    scheme = word(entry, "CodingSchemeDesignator")[:16]
    value = word(entry, "CodeValue") or word(entry, "LongCodeValue") or word(entry, "URNCodeValue")
    return (scheme, value[:64]) if value else None


def _instances(dataset: Dataset) -> tuple[str, ...]:
    named = (
        any_uid(entry, "ReferencedSOPInstanceUID")
        for series in items(dataset, "ReferencedSeriesSequence")
        for entry in items(series, "ReferencedInstanceSequence")
    )
    return tuple(dict.fromkeys(name for name in named if name))


def _planes(
    dataset: Dataset, form: PixelFormat, kind: str, image: Grid | None, path: Path
) -> tuple[Grid, list[_Plane]]:
    positions, numbers_, geometry = [], [], None
    for groups in functional_groups(dataset, form.frames, path):
        own = (orientation_of(groups, path), spacing_of(groups, path), _distances(groups, path))
        geometry = geometry or own
        position = position_of(groups, path)
        if position is None or own[0] is None or own[1] is None:
            raise InputError(
                f"{path} does not say where its frames lie in the patient.", "Export it again."
            )
        if (
            geometry[0] is None
            or not np.allclose(own[0], geometry[0], rtol=0, atol=1e-3)
            or own[1] != geometry[1]
        ):
            raise InputError(
                f"{path} has frames of several directions or spacings.",
                "Export one object for each.",
            )
        positions.append(position)
        numbers_.append(0 if kind == "LABELMAP" else _segment_number(groups, path))
    if geometry is None or geometry[0] is None or geometry[1] is None:
        raise InputError(f"{path} has no frame.", COPY_AGAIN)
    normal = normal_of(geometry[0], path)
    distances = (*_image_step(image, normal), *geometry[2])
    axes = (np.array(geometry[0][:3]), np.array(geometry[0][3:]), normal)
    grid, slices = _grid(np.array(positions), axes, geometry[1], distances, form, path)
    planes = [
        _Plane(index, k, segment)
        for index, (k, segment) in enumerate(zip(slices, numbers_, strict=True))
    ]
    return grid, planes


def _segment_number(groups: Groups, path: Path) -> int:
    entry = groups.find("SegmentIdentificationSequence", "ReferencedSegmentNumber")
    return 0 if entry is None else whole(entry, "ReferencedSegmentNumber", 0, path)


def _distances(groups: Groups, path: Path) -> tuple[float, float]:
    """Return the distance of slices as declared, and their thickness; 0 for what is not said."""
    found = [
        abs(number(groups.find("PixelMeasuresSequence", keyword), keyword, 0, path))
        for keyword in ("SpacingBetweenSlices", "SliceThickness")
    ]
    return found[0], found[1]


def _image_step(image: Grid | None, normal: Vector) -> tuple[float, ...]:
    """Return the spacing of the image along the axis that is closest to the normal."""
    if image is None:
        return ()
    axis = int(np.argmax(np.abs(np.array(image.direction).reshape(3, 3).T @ normal)))
    return (image.spacing[axis],)


def _grid(
    positions: Vector,
    axes: tuple[Vector, Vector, Vector],
    spacing: tuple[float, float],
    distances: Sequence[float],
    form: PixelFormat,
    path: Path,
) -> tuple[Grid, list[int]]:
    """Return the grid from the first to the last frame, and the slice of each frame."""
    along = positions @ axes[2]
    first = int(np.argmin(along))
    shifts = positions - positions[first] - np.outer(along - along[first], axes[2])
    if np.linalg.norm(shifts, axis=1).max() > MOST_OFF * min(spacing):
        raise InputError(
            f"{path} has frames that do not follow each other straight.", "Export it again."
        )
    step = _step(along - along[first], distances, min(spacing), path)
    slices = np.round((along - along[first]) / step).astype(int)
    size = (form.columns, form.rows, int(slices.max()) + 1)
    return make_grid(size, (*spacing, step), positions[first], axes), [int(k) for k in slices]


def _step(along: Vector, distances: Sequence[float], pixel: float, path: Path) -> float:
    """Find the mm between slices: the image's, the declared, or the least, whatever fits first.

    It is fitted to the frames, so that a declared distance with few digits does not add up.
    """
    places = np.unique(along)
    steps = np.diff(places)
    steps = steps[steps > 0.01 * pixel]
    if not steps.size:
        return next((step for step in distances if step > 0), pixel)
    # The thickness comes last: slices may overlap, or leave gaps.
    for step in (*distances[:-1], float(steps.min()), distances[-1]):
        if step <= 0 or places[-1] / step > 1e6:
            continue
        slices = np.round(places / step)
        if slices[-1] > 0:
            fitted = float(places @ slices / (slices @ slices))
            if np.abs(places - slices * fitted).max() <= MOST_OFF * fitted:
                return fitted
    raise InputError(
        f"{path} has frames at distances that are no multiples of one ({steps.min():.4g} mm).",
        "Export it on the grid of its image.",
    )


def _check_planes(planes: Sequence[_Plane], segments: _Description, path: Path) -> None:
    seen: set[tuple[int, int]] = set()
    for plane in planes:
        if plane.segment and plane.segment not in segments:
            raise InputError(
                f"{path} has a frame of the segment {plane.segment}, which it lacks.", COPY_AGAIN
            )
        if (plane.k, plane.segment) in seen:
            raise InputError(
                f"{path} has two frames of the segment {plane.segment} in slice {plane.k}.",
                "Export one object for each time point.",
            )
        seen.add((plane.k, plane.segment))


def _limit(dataset: Dataset, kind: str, threshold: float | None, path: Path) -> tuple[int, int]:
    """Return the least stored number that counts as inside, and the largest one."""
    if kind != "FRACTIONAL":
        return 1, 1
    most = max(1, int(number(dataset, "MaximumFractionalValue", 255, path)))
    if threshold is None:
        return most, most
    if not 0 < threshold <= 1:
        raise InputError(f"The threshold is {threshold:g}.", "Give one above 0 and at most 1.")
    return max(1, int(np.ceil(threshold * most))), most


def _fill_masks(
    reader: PixelReader,
    planes: Sequence[_Plane],
    segments: _Description,
    shape: tuple[int, int, int],
    limit: tuple[int, int],
) -> _Filled:
    by_segment: dict[int, list[_Plane]] = defaultdict(list)
    for plane in planes:
        by_segment[plane.segment].append(plane)
    if 0 in by_segment and len(segments) == 1:  # one segment need not be named in each frame
        by_segment[next(iter(segments))] += by_segment.pop(0)
    elif 0 in by_segment:
        raise InputError(
            "A frame of the SEG object does not say which segment it shows.", COPY_AGAIN
        )
    stack, made = LayerStack(shape, len(segments)), []
    for value, (count, (name, code)) in enumerate(segments.items(), start=1):
        own = by_segment[count]
        first = min((plane.k for plane in own), default=0)
        last = max((plane.k for plane in own), default=-1)
        mask = np.zeros((last - first + 1, *shape[1:]), bool)
        for plane in own:
            mask[plane.k - first] = _inside(reader.frame(plane.index), limit, name)
        made.append(DicomSegment(name, code, stack.add(mask, value, first), value))
    return tuple(made), tuple(stack.layers)


def _inside(frame: npt.NDArray[Any], limit: tuple[int, int], name: str) -> npt.NDArray[np.bool_]:
    least, most = limit
    if least == most and bool(((frame != 0) & (frame != most)).any()):
        raise InputError(
            f"The segment '{name}' is fractional: it holds values between 0 and {most}.",
            "Give a threshold, or export a binary object.",
        )
    inside: npt.NDArray[np.bool_] = frame >= least
    return inside


def _fill_label_map(
    reader: PixelReader,
    planes: Sequence[_Plane],
    segments: _Description,
    shape: tuple[int, int, int],
    limit: tuple[int, int],
) -> _Filled:
    """Fill from a label map: the stored numbers are the segments', 0 is the background."""
    del limit
    named = [count for count in segments if count != 0]
    if not named or max(named) > 65535:
        raise InputError("The label map describes no segment from 1 to 65535.", COPY_AGAIN)
    table = np.zeros(65536, np.uint16)
    table[named] = np.arange(1, len(named) + 1)
    layer = np.zeros(shape, np.uint8 if len(named) <= 255 else np.uint16)
    for plane in planes:
        frame = reader.frame(plane.index)
        unknown = np.setdiff1d(np.unique(frame), [0, *named])
        if unknown.size:
            raise InputError(
                f"The label map holds {unknown[0]}, which it does not describe.", COPY_AGAIN
            )
        layer[plane.k] = table[frame.astype(np.uint16)]
    made = [DicomSegment(*segments[count], 0, value) for value, count in enumerate(named, start=1)]
    return tuple(made), (layer,)
