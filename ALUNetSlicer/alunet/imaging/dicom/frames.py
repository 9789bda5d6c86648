"""The single images (frames) of DICOM files: where each is and what its numbers mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alunet.errors import InputError
from alunet.imaging.dicom.elements import (
    COPY_AGAIN,
    DicomHeader,
    any_uid,
    guarded,
    item,
    items,
    number,
    numbers,
    read_header,
    uid,
    word,
)
from alunet.imaging.dicom.pixels import FORMAT_KEYWORDS, check_length, pixel_format

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Point = tuple[float, float, float]

# What tells images apart that lie at one place: attribute, the item of a functional group that
# holds it in enhanced
# files, and what a person calls it.
_SEPARATING = (
    ("EchoTime", "", "echo time"),
    ("EffectiveEchoTime", "MREchoSequence", "echo time"),
    ("EchoNumbers", "", "echo"),
    ("DiffusionBValue", "", "b-value"),
    ("DiffusionBValue", "MRDiffusionSequence", "b-value"),
    ("DiffusionGradientOrientation", "", "direction"),
    ("TemporalPositionIdentifier", "", "time point"),
    ("TemporalPositionIndex", "FrameContentSequence", "time point"),
    ("TriggerTime", "", "trigger time"),
    ("NominalCardiacTriggerDelayTime", "CardiacSynchronizationSequence", "trigger time"),
    ("InversionTime", "", "inversion time"),
    ("FlipAngle", "", "flip angle"),
    ("AcquisitionNumber", "", "acquisition"),
    ("StackID", "FrameContentSequence", "stack"),
    ("ImageType", "", "image type"),
    ("FrameType", "MRImageFrameTypeSequence", "image type"),
    ("FrameType", "CTImageFrameTypeSequence", "image type"),
    ("SequenceName", "", "sequence"),
    ("AcquisitionTime", "", "acquisition time"),
    ("ContentTime", "", "content time"),
)
SPLIT_ORDER = tuple(dict.fromkeys(name for _, _, name in _SEPARATING))
"""By what a series is split where several images lie at one place, the plainest first."""

UNSPOKEN = ("direction", "image type", "sequence", "acquisition time", "content time")
"""Values that are compared and never kept or shown: the parts get numbers."""

_KEYWORDS = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "FrameOfReferenceUID",
    *FORMAT_KEYWORDS,
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
    *sorted({keyword for keyword, group, _ in _SEPARATING if not group}),
)


@dataclass(frozen=True)
class Frame:
    """One image of a series, in LPS coordinates and mm.

    Attributes:
        file: that holds it.
        index: its number in the file, from 0.
        instance_uid: SOP instance UID of the file.
        position: center of the first voxel.
        orientation: direction of increasing columns (x), then of increasing rows (y).
        spacing: between columns, between rows.
        size: columns, rows.
        thickness: between slices as declared, else the slice's own; 0 where neither is said.
        scale: slope and intercept of the stored numbers.
        separating: what may tell it from other images at the same place, as (name, value).
    """

    file: Path
    index: int
    instance_uid: str
    position: Point
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    size: tuple[int, int]
    thickness: float
    scale: tuple[float, float]
    separating: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Instance:
    """One DICOM file: identity, frames, and why it is no image of a volume, where it is none.

    Attributes:
        referenced: series that a SEG or RTSTRUCT object belongs to, else empty.
    """

    path: Path
    uid: str
    series_uid: str
    modality: str
    number: int | None
    frame_of_reference_uid: str
    referenced: str
    frames: tuple[Frame, ...]
    problem: InputError | None


def read_instance(path: Path) -> Instance:
    """Read what one file holds; a file that is no usable image says so in its `problem`.

    Raises:
        InputError: the file cannot be read at all, or does not say to which series it belongs.
    """
    header = read_header(path, _KEYWORDS)
    with guarded(path):
        dataset = header.dataset
        own, series = uid(dataset, "SOPInstanceUID", path), uid(dataset, "SeriesInstanceUID", path)
        modality = word(dataset, "Modality").upper()[:16] or "unknown modality"
        frames: tuple[Frame, ...] = ()
        problem = None
        try:
            frames = _frames(header, modality, own)
        except InputError as error:
            problem = error
        return Instance(
            path,
            own,
            series,
            modality,
            _series_number(dataset, path),
            any_uid(dataset, "FrameOfReferenceUID"),
            referenced_series(dataset),
            frames,
            problem,
        )


def _series_number(dataset: Dataset, path: Path) -> int | None:
    try:
        found = numbers(dataset, "SeriesNumber", 1, path)
    except InputError:
        return None
    return None if found is None else int(found[0])


def referenced_series(dataset: Dataset) -> str:
    """Return the UID of the series that a SEG or RTSTRUCT object names, or an empty string."""
    entry = item(dataset, "ReferencedSeriesSequence")
    if entry is None:
        study = item(
            item(dataset, "ReferencedFrameOfReferenceSequence"), "RTReferencedStudySequence"
        )
        entry = item(study, "RTReferencedSeriesSequence")
    return "" if entry is None else any_uid(entry, "SeriesInstanceUID")


def _frames(header: DicomHeader, modality: str, instance_uid: str) -> tuple[Frame, ...]:
    dataset, path = header.dataset, header.path
    if modality in ("SEG", "RTSTRUCT"):
        raise InputError(f"{path} holds labels ({modality}), no image.", "Read it as labels.")
    if "Rows" not in dataset:
        raise InputError(f"{path} holds no image ({modality}).", "Choose another series.")
    form = pixel_format(dataset, path)
    check_length(form, header)
    if form.allocated == 1 or form.palette:
        raise InputError(
            f"{path} holds no measured values: one bit or a color table.", "Choose another series."
        )
    if "MOSAIC" in word(dataset, "ImageType"):
        raise InputError(
            f"{path} shows all slices of a volume side by side (a mosaic).",
            "Convert it, for instance with dcm2niix.",
        )
    if items(dataset, "ModalityLUTSequence"):
        raise InputError(
            f"{path} gives its values by a table (Modality LUT).",
            "Export it with slope and intercept.",
        )
    made = []
    for index, groups in enumerate(functional_groups(dataset, form.frames, path)):
        place, spacing, thickness = _geometry(groups, path)
        scale = _scale(groups, path)
        separating = tuple(_separating(groups))
        size = (form.columns, form.rows)
        made.append(
            Frame(path, index, instance_uid, *place, spacing, size, thickness, scale, separating)
        )
    return tuple(made)


class Groups:
    """Functional groups of one frame: its own first, then those of all frames, then the file."""

    def __init__(self, dataset: Dataset, shared: Dataset | None, own: Dataset | None) -> None:
        self.dataset, self._shared, self._own = dataset, shared, own

    def find(self, sequence: str, keyword: str) -> Dataset | None:
        """Return the item that holds an attribute, or None."""
        for level in (self._own, self._shared):
            entry = item(level, sequence)
            if entry is not None and keyword in entry:
                return entry
        return self.dataset if keyword in self.dataset else None


def functional_groups(dataset: Dataset, frames: int, path: Path) -> Iterator[Groups]:
    """Return the functional groups of each frame of a file.

    Raises:
        InputError: there are not as many as frames.
    """
    own = items(dataset, "PerFrameFunctionalGroupsSequence")
    shared = item(dataset, "SharedFunctionalGroupsSequence")
    if own and len(own) != frames:
        raise InputError(f"{path} describes {len(own)} frames and declares {frames}.", COPY_AGAIN)
    if not own and frames > 1:
        raise InputError(
            f"{path} holds {frames} frames and does not say where each is.",
            "Export single slices or an enhanced file.",
        )
    return (Groups(dataset, shared, entry) for entry in (own or (None,)))


def orientation_of(groups: Groups, path: Path) -> tuple[float, ...] | None:
    """Return the directions of rows and columns, or None."""
    entry = groups.find("PlaneOrientationSequence", "ImageOrientationPatient")
    return numbers(entry, "ImageOrientationPatient", 6, path)


def position_of(groups: Groups, path: Path) -> Point | None:
    """Return the center of a frame's first voxel, or None."""
    entry = groups.find("PlanePositionSequence", "ImagePositionPatient")
    found = numbers(entry, "ImagePositionPatient", 3, path)
    return None if found is None else (found[0], found[1], found[2])


def spacing_of(groups: Groups, path: Path) -> tuple[float, float] | None:
    """Return the mm between columns and between rows, or None.

    Raises:
        InputError: one is zero or negative.
    """
    entry = groups.find("PixelMeasuresSequence", "PixelSpacing")
    found = numbers(entry, "PixelSpacing", 2, path)
    if found is None:
        return None
    if min(found) <= 0:
        raise InputError(
            f"{path} has the PixelSpacing {found[0]:g} x {found[1]:g} mm.",
            "Correct it at the source.",
        )
    return found[1], found[0]


def thickness_of(groups: Groups, path: Path) -> float:
    """Return the mm between slices as declared, else the thickness of a slice, else 0."""
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        entry = groups.find("PixelMeasuresSequence", keyword)
        found = abs(number(entry, keyword, 0, path))
        if found:
            return found
    return 0.0


def _geometry(
    groups: Groups, path: Path
) -> tuple[tuple[Point, tuple[float, ...]], tuple[float, float], float]:
    orientation, position = orientation_of(groups, path), position_of(groups, path)
    spacing = spacing_of(groups, path)
    named = {
        "ImagePositionPatient": position,
        "ImageOrientationPatient": orientation,
        "PixelSpacing": spacing,
    }
    missing = [name for name, value in named.items() if value is None]
    if position is None or orientation is None or spacing is None:
        raise InputError(
            f"{path} does not say where it is in the patient ({', '.join(missing)} missing).",
            "A screenshot or plain X-ray is no part of a volume: choose another series.",
        )
    return (position, orientation), spacing, thickness_of(groups, path)


def _scale(groups: Groups, path: Path) -> tuple[float, float]:
    entry = groups.find("PixelValueTransformationSequence", "RescaleSlope")
    slope = number(entry, "RescaleSlope", 1.0, path)
    intercept = number(
        groups.find("PixelValueTransformationSequence", "RescaleIntercept"),
        "RescaleIntercept",
        0.0,
        path,
    )
    if slope == 0:
        raise InputError(
            f"{path} multiplies all values by 0 (RescaleSlope).", "Correct it at the source."
        )
    return slope, intercept


def _separating(groups: Groups) -> Iterator[tuple[str, str]]:
    for keyword, sequence, name in _SEPARATING:
        entry = groups.find(sequence, keyword) if sequence else groups.dataset
        text = "" if entry is None else word(entry, keyword)
        if text:
            yield name, text
