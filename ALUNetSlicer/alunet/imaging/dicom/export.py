"""Labels as a DICOM SEG object on the grid of the series that they were drawn on.

Attributes of patient and study are copied from the person's own files into the object. They are
read here alone, and neither kept nor logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.dicom.codes import SCHEME, code_for
from alunet.imaging.dicom.elements import guarded
from alunet.imaging.dicom.labels import DicomLabels, place_on
from alunet.imaging.dicom.series import DicomFolder, DicomSeries, SeriesIdentity
from alunet.imaging.grids import Grid
from alunet.schema import NOT_ANNOTATED
from alunet.storage.files import atomic_path

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.dataset import Dataset

Labels = npt.NDArray[Any]

_MANUFACTURER = "ALUNet"
_LONGEST = 64  # characters of a DICOM "long string"
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)


@dataclass(frozen=True)
class Algorithm:
    """Who drew the labels.

    Attributes:
        kind: a model alone, a person with a model, or a person alone.
        name: of the program.
        version: of the program.
        model_sha256: of the model's weights; empty without a model.
    """

    kind: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
    name: str
    version: str
    model_sha256: str = ""


def write_segmentation(
    labels: Labels,
    grid: Grid,
    structures: Mapping[str, int],
    source: DicomFolder,
    identity: SeriesIdentity,
    path: Path,
    algorithm: Algorithm,
    *,
    leave_out_open: bool = False,
    colors: Mapping[str, str] | None = None,
) -> int:
    """Write labels as a binary DICOM SEG object, whole or not at all.

    Args:
        labels: integers, array (k, j, i), on `grid`.
        grid: of the case; it must agree with the series, flipped or swapped axes included.
        structures: name and value of each structure, without the background, which is 0.
        source: what `find_series` found in the folder of the series.
        identity: of the series that the case was made from.
        path: the file to write.
        algorithm: who drew the labels.
        leave_out_open: whether voxels that are not annotated (255) belong to no structure in the
            object, as the background does; else labels with such voxels are refused.
        colors: #rrggbb that viewers should show structures in, by name.

    Returns:
        How many voxels were not annotated, and left out.

    Raises:
        InputError: the folder does not hold the series, the grids do not agree, a value has no
            structure, a name does not fit, voxels are not annotated, or the disk is full.
    """
    names = _checked(structures)
    series = source_series(source, identity)
    if series.grid is None:
        raise series.problem or InputError(
            f"{series.label} is no volume.", "Choose another folder."
        )
    numbered, left_out = _numbered(labels, grid, names, leave_out_open)
    placed = place_on(DicomLabels(grid, (), (numbered,), "", ()), series.grid, "The case").layers[0]
    with guarded(series.files[0]):
        try:
            segmentation = _segmentation(placed, series, list(names), algorithm)
            _color(segmentation, colors or {})
        except KeyError as error:  # highdicom looks the kind of image up
            raise InputError(
                f"{series.files[0]} is of a kind of image (SOP class) that is not known.",
                "Export the series again as standard DICOM.",
            ) from error
    with atomic_path(Path(path)) as part, guarded(Path(path)):
        segmentation.save_as(part)
    return left_out


def _color(segmentation: Segmentation, colors: Mapping[str, str]) -> None:
    """Say in which color viewers should show a structure."""
    from highdicom.color import CIELabColor

    for description in segmentation.SegmentSequence:
        if description.SegmentLabel in colors:
            color = CIELabColor.from_string(colors[description.SegmentLabel])
            description.RecommendedDisplayCIELabValue = list(color.value)


def source_series(source: DicomFolder, identity: SeriesIdentity) -> DicomSeries:
    """The series in a folder that a case was made from.

    Raises:
        InputError: the folder does not hold it, or not all of its images.
    """
    wanted = set(identity.instance_uids)
    same = [
        series
        for series in source.series
        if series.uid == identity.series_uid
        or (not identity.series_uid and wanted & set(series.instance_uids))
    ]
    if not same:
        held = "; ".join(series.label for series in source.series[:5]) or "no DICOM image"
        raise InputError(
            f"{source.path} does not hold the series of this case "
            f"(UID {identity.series_uid or 'of an image ' + identity.instance_uids[0]}): "
            f"it holds {held}.",
            "Give the folder that the case was imported from.",
        )
    match = next((series for series in same if set(series.instance_uids) == wanted), None)
    if match is None:
        present = {name for series in same for name in series.instance_uids}
        raise InputError(
            f"{source.path} holds {len(wanted & present)} of the {len(wanted)} images of this "
            f"case, and {len(present - wanted)} others.",
            "Give the folder that the case was imported from.",
        )
    return match


def _checked(structures: Mapping[str, int]) -> dict[str, int]:
    for name, value in structures.items():
        if not name.strip() or len(name) > _LONGEST or "\\" in name or not name.isprintable():
            raise InputError(
                f"'{name:.80}' cannot be the name of a DICOM segment.",
                f"Use 1 to {_LONGEST} printable characters without a backslash.",
            )
        if not 0 < value < 65536 or value == NOT_ANNOTATED:
            raise InputError(
                f"The structure '{name}' has the value {value}.", "Use 1 to 65535 without 255."
            )
    if not structures or len(set(structures.values())) < len(structures):
        raise InputError(
            "The structures have no values of their own.", "Give each structure its own value."
        )
    return dict(structures)


def _numbered(
    labels: Labels, grid: Grid, names: dict[str, int], leave_out: bool
) -> tuple[Labels, int]:
    """Return labels as segment numbers 1, 2, …, and how many voxels were left out."""
    if labels.shape != grid.shape or labels.dtype.kind not in "iub":
        raise InputError(
            f"Labels of the type {labels.dtype} and shape {labels.shape} do not fit {grid.shape}."
        )
    values = np.array([0, *names.values()])
    open_voxels = int(np.count_nonzero(labels == NOT_ANNOTATED)) if labels.dtype.kind != "b" else 0
    if open_voxels and not leave_out:
        raise InputError(
            f"{open_voxels} voxels are not annotated, which DICOM SEG cannot say.",
            "Annotate them, export a prediction, or ask for them to be left out.",
        )
    unknown = np.setdiff1d(np.unique(labels), [*values, *([NOT_ANNOTATED] if leave_out else [])])
    if unknown.size:
        raise InputError(
            f"The labels hold {unknown[0]}, which is no structure.", "Name the structure."
        )
    numbered = np.zeros(labels.shape, np.uint8 if len(names) <= 255 else np.uint16)
    for number, value in enumerate(names.values(), start=1):
        numbered[labels == value] = number
    return numbered, open_voxels


def _segmentation(
    labels: Labels, series: DicomSeries, names: Sequence[str], algorithm: Algorithm
) -> Segmentation:
    import highdicom as hd

    frames, grid = series.frames, series.grid
    if grid is None:
        raise InputError(f"{series.label} is no volume.", "Choose another folder.")
    headers = [_header(file, series.uid) for file in series.files]
    # highdicom takes several files only where each holds one frame.
    several = len(headers) > 1 and any("NumberOfFrames" in header for header in headers)
    first = frames[0]
    return hd.seg.Segmentation(
        source_images=headers[:1] if several else headers,
        further_source_images=headers[1:] if several else None,
        pixel_array=labels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(names, algorithm),
        series_instance_uid=hd.UID(),
        series_number=((series.number or 0) % 10_000) + 1000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_MANUFACTURER,
        manufacturer_model_name=algorithm.name[:_LONGEST],
        software_versions=algorithm.version[:_LONGEST],
        device_serial_number=algorithm.model_sha256[:16] or "none",
        series_description="Segmentation by ALUNet",
        specific_character_set="ISO_IR 192",
        plane_positions=[hd.PlanePositionSequence("PATIENT", frame.position) for frame in frames],
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", first.orientation),
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=(grid.spacing[1], grid.spacing[0]),
            slice_thickness=first.thickness or grid.spacing[2],
            spacing_between_slices=grid.spacing[2],
        ),
    )


def _header(file: Path, series_uid: str) -> Dataset:
    """Read all of a file but its voxels; empty is what a SEG object needs and the file lacks."""
    from pydicom import dcmread
    from pydicom.uid import generate_uid

    dataset = dcmread(file, stop_before_pixels=True, force=True)
    dataset.decode()
    for keyword in _MAY_BE_EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if not dataset.get("StudyInstanceUID"):
        raise InputError(
            f"{file} does not say to which study it belongs.", "Export the series again."
        )
    if not dataset.get("FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[series_uid])
    return dataset


def _descriptions(names: Sequence[str], algorithm: Algorithm) -> list[SegmentDescription]:
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    identification = None
    if algorithm.kind != "MANUAL":
        parameters = {"model_sha256": algorithm.model_sha256} if algorithm.model_sha256 else None
        identification = hd.AlgorithmIdentificationSequence(
            name=algorithm.name[:_LONGEST],
            version=algorithm.version[:_LONGEST],
            family=codes.DCM.ArtificialIntelligence,
            parameters=parameters,
        )
    made = []
    for number, name in enumerate(names, start=1):
        code = code_for(name)
        description = hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=Code(code.category[0], SCHEME, code.category[1]),
            segmented_property_type=Code(code.type[0], SCHEME, code.type[1]),
            algorithm_type=algorithm.kind,
            algorithm_identification=identification,
        )
        if code.side is not None:
            kind = description.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [
                hd.sr.CodedConcept(code.side[0], SCHEME, code.side[1])
            ]
        made.append(description)
    return made
