"""DICOM files made for tests: series slice by slice, enhanced series, and contours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CT = UID("1.2.840.10008.5.1.4.1.1.2")
MR = UID("1.2.840.10008.5.1.4.1.1.4")
ENHANCED_MR = UID("1.2.840.10008.5.1.4.1.1.4.1")
RTSTRUCT = UID("1.2.840.10008.5.1.4.1.1.481.3")
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
PATIENT = "Doe^Jane"


def new_file(kind: UID, modality: str) -> Dataset:
    """A data set with the identity of a patient and a study, and new UIDs."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = modality
    dataset.PatientName, dataset.PatientID = PATIENT, "secret-id"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "F"
    dataset.StudyInstanceUID, dataset.StudyID = generate_uid(), "secret-study"
    dataset.StudyDate, dataset.StudyTime = "20200102", "101112"
    dataset.AccessionNumber, dataset.SeriesDescription = "secret-accession", "secret description"
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = generate_uid(), generate_uid()
    dataset.SeriesNumber, dataset.InstanceNumber = 3, 1
    return dataset


def describe_pixels(dataset: Dataset, array: np.ndarray, stored: int | None = None) -> None:
    """Put the voxels of one or several frames into a data set."""
    bits = 8 * array.dtype.itemsize
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = array.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored = bits, stored or bits
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    if array.ndim == 3:
        dataset.NumberOfFrames = len(array)
    content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = content + bytes(len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"


def normal(orientation: Sequence[float]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def save(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def slices(
    voxels: np.ndarray,
    *,
    kind: UID = CT,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (0.5, 0.75, 2.0),
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    stored: int | None = None,
    **attributes: object,
) -> list[Dataset]:
    """A series of single images; `spacing` is along x, y and z, `voxels` has the axes (k, j, i)."""
    common = new_file(kind, "CT" if kind == CT else "MR")
    step = normal(orientation) * spacing[2]
    made = []
    for k, plane in enumerate(voxels):
        dataset = new_file(kind, common.Modality)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(dataset, name, getattr(common, name))
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [f"{value:.10g}" for value in np.array(origin) + k * step]
        dataset.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
        dataset.PixelSpacing = [f"{spacing[1]:.10g}", f"{spacing[0]:.10g}"]
        dataset.SliceThickness = f"{spacing[2]:.10g}"
        for name, value in attributes.items():
            setattr(dataset, name, value)
        describe_pixels(dataset, plane, stored)
        made.append(dataset)
    return made


def write(
    folder: Path, datasets: Iterable[Dataset], names: Mapping[int, str] | None = None
) -> list[Path]:
    """Write data sets to a folder, which is made; files have no ending."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = names or {}
    return [save(ds, folder / chosen.get(i, f"IM{i:04}")) for i, ds in enumerate(datasets)]


def enhanced(
    voxels: np.ndarray,
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (0.5, 0.75, 2.0),
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    order: Sequence[int] | None = None,
    echoes: Sequence[float] = (),
    scale: tuple[float, float] | None = None,
) -> Dataset:
    """One enhanced MR file; frames in the order of `order`; with `echoes`, (echo, slice) frames."""
    dataset = new_file(ENHANCED_MR, "MR")
    count = len(voxels) // max(1, len(echoes))
    order = list(range(len(voxels)) if order is None else order)
    describe_pixels(dataset, voxels[order])
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [spacing[1], spacing[0]], spacing[2]
    plane.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([plane])
    if scale is not None:
        transformation = Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = scale
        transformation.RescaleType = "US"
        shared.PixelValueTransformationSequence = Items([transformation])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    step = normal(orientation) * spacing[2]
    groups = []
    for frame in order:
        group, position, content = Dataset(), Dataset(), Dataset()
        place = np.array(origin) + (frame % count) * step
        position.ImagePositionPatient = [f"{value:.10g}" for value in place]
        group.PlanePositionSequence = Items([position])
        content.DimensionIndexValues = [frame + 1]
        group.FrameContentSequence = Items([content])
        if echoes:
            echo = Dataset()
            echo.EffectiveEchoTime = echoes[frame // count]
            group.MREchoSequence = Items([echo])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Items(groups)
    return dataset


def structures(
    source: Sequence[Dataset], contours: Mapping[str, Sequence[tuple[str, np.ndarray]]]
) -> Dataset:
    """An RTSTRUCT object: for each name, contours of a kind with points (x, y, z) in mm."""
    dataset = new_file(RTSTRUCT, "RTSTRUCT")
    series, study, reference = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = Items([series])
    reference.FrameOfReferenceUID = source[0].FrameOfReferenceUID
    reference.RTReferencedStudySequence = Items([study])
    dataset.ReferencedFrameOfReferenceSequence = Items([reference])
    regions, drawn = [], []
    for number, (name, parts) in enumerate(contours.items(), start=1):
        region, entry = Dataset(), Dataset()
        region.ROINumber = entry.ReferencedROINumber = number
        region.ROIName = name
        regions.append(region)
        entry.ContourSequence = Items([_contour(kind, points) for kind, points in parts])
        drawn.append(entry)
    dataset.StructureSetROISequence = Items(regions)
    dataset.ROIContourSequence = Items(drawn)
    return dataset


def _contour(kind: str, points: np.ndarray) -> Dataset:
    contour = Dataset()
    contour.ContourGeometricType = kind
    contour.NumberOfContourPoints = len(points)
    contour.ContourData = [f"{value:.10g}" for value in np.asarray(points).ravel()]
    return contour
