"""DICOM SEG written: equal voxel for voxel when read back, here and by other libraries."""

from __future__ import annotations

from pathlib import Path

import dicom_files as files
import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr._concepts_dict import concepts

from alunet.errors import InputError
from alunet.imaging.dicom import codes
from alunet.imaging.dicom.export import Algorithm, write_segmentation
from alunet.imaging.dicom.reading import read_dicom_labels
from alunet.imaging.dicom.series import DicomSeries, SeriesIdentity, find_series, pick_series
from alunet.imaging.grids import Grid

MODEL = Algorithm("SEMIAUTOMATIC", "ALUNet", "1.2", "0123456789abcdef" * 4)
STRUCTURES = {"Left kidney": 1, "liver tumor": 2, "Größe 腎": 5}


def random_labels(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Labels with empty slices, and with voxels at both corners of the volume."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 5], shape, p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    labels[1:2] = 0
    labels[0, 0, 0], labels[-1, -1, -1] = 2, 1
    return labels


def write(labels: np.ndarray, series: DicomSeries, folder: Path, path: Path, **options) -> int:
    return write_segmentation(
        labels,
        series.grid,
        STRUCTURES,
        find_series(folder),
        series.identity,
        path,
        MODEL,
        **options,
    )


def assert_equal_when_read(path: Path, labels: np.ndarray, series: DicomSeries) -> None:
    """Compare with this engine's reader, with highdicom, and with pydicom alone."""
    found = read_dicom_labels(path, series.grid, series.identity)
    assert [segment.name for segment in found.segments] == list(STRUCTURES)
    assert not found.overlapping
    assert found.referenced_series_uid == series.uid
    assert set(found.referenced_instance_uids) == set(series.instance_uids)
    for segment, value in zip(found.segments, STRUCTURES.values(), strict=True):
        assert np.array_equal(found.mask(segment), labels == value)
    expected = np.zeros_like(labels)
    for number, value in enumerate(STRUCTURES.values(), start=1):
        expected[labels == value] = number
    assert np.array_equal(by_pydicom(path, series), expected)
    with_highdicom = hd.seg.segread(path)
    if len(series.instance_uids) == len(series.frames) > 1:
        pixels = with_highdicom.get_pixels_by_source_instance(
            list(series.instance_uids), combine_segments=True, assert_missing_frames_are_empty=True
        )
        assert np.array_equal(pixels, expected)
    identification = with_highdicom.get_segment_description(1).algorithm_identification
    assert identification.parameters == {"model_sha256": MODEL.model_sha256}
    assert (identification.name, identification.version) == ("ALUNet", "1.2")


def by_pydicom(path: Path, series: DicomSeries) -> np.ndarray:
    """Frames placed by their positions alone."""
    dataset = pydicom.dcmread(path)
    pixels = np.atleast_3d(dataset.pixel_array).reshape(-1, dataset.Rows, dataset.Columns)
    places = np.array([frame.position for frame in series.frames])
    array = np.zeros(series.shape, np.uint8)
    for frame, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        k = int(np.argmin(np.linalg.norm(places - position, axis=1)))
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        array[k][frame > 0] = number
        if len(series.instance_uids) == len(series.frames):
            source = groups.DerivationImageSequence[0].SourceImageSequence[0]
            assert source.ReferencedSOPInstanceUID == series.frames[k].instance_uid
    return array


# --- equal voxel for voxel --------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder",
    [
        "ProstateX_one/dicom_t2_tra",
        "ProstateX_one/dicom_adc",
        "DICOM_hippocrop/Study1/13_HCropVolume",
        "DICOM_hippocrop/Study3/11-T1post-18670",
        "DICOM_ct3slice_seg",
    ],
)
def test_labels_on_a_real_series_are_equal_when_read_back(real_data, tmp_path, folder):
    series = pick_series(find_series(real_data / folder))
    labels = random_labels(series.shape)
    assert write(labels, series, real_data / folder, tmp_path / "out.dcm") == 0
    assert_equal_when_read(tmp_path / "out.dcm", labels, series)
    written = pydicom.dcmread(tmp_path / "out.dcm")
    source = pydicom.dcmread(series.files[0])
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert written[name].value == source[name].value


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    flipped=st.booleans(),
    spacing=st.tuples(*[st.floats(0.1, 6)] * 3),
    count=st.integers(1, 5),
    in_one_file=st.booleans(),
)
def test_any_orientation_and_order_of_slices_is_equal_when_read_back(
    tmp_path_factory, seed, flipped, spacing, count, in_one_file
):
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    orientation = [*axes[:, 0], *axes[:, 1]] if not flipped else [*axes[:, 1], *axes[:, 0]]
    voxels = np.zeros((count, 6, 9), np.int16)
    order = [int(k) for k in rng.permutation(count)]
    place = {"orientation": orientation, "spacing": spacing, "origin": rng.uniform(-400, 400, 3)}
    folder = tmp_path_factory.mktemp("export")
    if in_one_file:
        files.write(folder / "in", [files.enhanced(voxels, order=order, **place)])
    else:
        made = files.slices(voxels, **place)
        files.write(folder / "in", [made[k] for k in order])
    series = find_series(folder / "in").series[0]
    labels = random_labels(series.shape, seed)
    write(labels, series, folder / "in", folder / "out.dcm")
    assert_equal_when_read(folder / "out.dcm", labels, series)


def test_a_structure_has_the_color_of_the_project(tmp_path):
    files.write(tmp_path / "in", files.slices(np.zeros((3, 6, 9), np.int16)))
    series = find_series(tmp_path / "in").series[0]
    colors = {"liver tumor": "#ff0000"}
    labels = random_labels(series.shape)
    write(labels, series, tmp_path / "in", tmp_path / "out.dcm", colors=colors)
    segments = pydicom.dcmread(tmp_path / "out.dcm").SegmentSequence
    shown = [segment.get("RecommendedDisplayCIELabValue") for segment in segments]
    assert shown[0] is None and shown[2] is None
    light, green_red, blue_yellow = np.array(shown[1]) / 65535
    assert (light * 100, green_red * 255 - 128, blue_yellow * 255 - 128) == pytest.approx(
        (53.2, 80.1, 67.2), abs=0.2
    )


def test_one_part_of_a_series_with_several_echoes_is_labeled(tmp_path):
    both = np.zeros((8, 6, 9), np.int16)
    files.write(tmp_path / "in", [files.enhanced(both, echoes=(5.0, 9.0))])
    series = find_series(tmp_path / "in").series[1]
    labels = random_labels(series.shape)
    write(labels, series, tmp_path / "in", tmp_path / "out.dcm")
    assert_equal_when_read(tmp_path / "out.dcm", labels, series)


def test_a_series_of_several_enhanced_files_is_labeled(tmp_path):
    voxels = np.zeros((3, 6, 9), np.int16)
    parts = [files.enhanced(voxels), files.enhanced(voxels, origin=(-10, -20, 36))]
    for dataset in parts:
        for name in ("SeriesInstanceUID", "FrameOfReferenceUID", "StudyInstanceUID"):
            setattr(dataset, name, parts[0][name].value)
    files.write(tmp_path / "in", parts)
    series = find_series(tmp_path / "in").series[0]
    labels = random_labels(series.shape)
    write(labels, series, tmp_path / "in", tmp_path / "out.dcm")
    assert_equal_when_read(tmp_path / "out.dcm", labels, series)


def test_a_case_whose_axes_were_turned_is_written_on_the_grid_of_the_series(tmp_path):
    files.write(tmp_path / "in", files.slices(np.zeros((4, 6, 9), np.int16)))
    series = find_series(tmp_path / "in").series[0]
    labels, grid = random_labels(series.shape), series.grid
    direction = (*grid.direction[:8], -grid.direction[8])
    last = grid.origin[2] + 3 * grid.spacing[2]
    turned = Grid(grid.size, grid.spacing, (*grid.origin[:2], last), direction)
    out = tmp_path / "out.dcm"
    write_segmentation(
        labels[::-1], turned, STRUCTURES, find_series(tmp_path / "in"), series.identity, out, MODEL
    )
    assert_equal_when_read(out, labels, series)


def test_labels_without_any_voxel_are_written_and_read_as_nothing(tmp_path):
    files.write(tmp_path / "in", files.slices(np.zeros((4, 6, 9), np.int16)))
    series = find_series(tmp_path / "in").series[0]
    labels = np.zeros(series.shape, np.uint8)
    write(labels, series, tmp_path / "in", tmp_path / "out.dcm")
    found = read_dicom_labels(tmp_path / "out.dcm", series.grid)
    assert [found.mask(segment).sum() for segment in found.segments] == [0, 0, 0]


# --- what is said in the object ---------------------------------------------------------------


@pytest.fixture
def source(tmp_path) -> Path:
    files.write(tmp_path / "in", files.slices(np.zeros((4, 6, 9), np.int16)))
    return tmp_path / "in"


@pytest.fixture
def series(source) -> DicomSeries:
    return find_series(source).series[0]


def test_patient_and_study_are_those_of_the_source_files_and_codes_are_snomed(
    source, series, tmp_path
):
    for path in series.files:
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "Müller^Jürg"
        dataset.save_as(path)
    write(random_labels(series.shape), series, source, tmp_path / "out.dcm")
    written = pydicom.dcmread(tmp_path / "out.dcm")
    assert written.PatientName == "Müller^Jürg"
    assert (written.PatientID, written.StudyID) == ("secret-id", "secret-study")
    assert written.Modality == "SEG"
    kinds = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in written.SegmentSequence]
    assert [kind.CodeMeaning for kind in kinds] == ["Kidney", "Tumor", "Tissue"]
    side = kinds[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (side.CodingSchemeDesignator, side.CodeMeaning) == ("SCT", "Left")
    assert {segment.SegmentAlgorithmType for segment in written.SegmentSequence} == {
        "SEMIAUTOMATIC"
    }


def test_source_files_without_patient_attributes_will_do(source, series, tmp_path):
    for path in series.files:
        dataset = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "AccessionNumber", "StudyDate", "StudyID"):
            delattr(dataset, name)
        dataset.save_as(path)
    labels = random_labels(series.shape)
    write(labels, series, source, tmp_path / "out.dcm")
    assert_equal_when_read(tmp_path / "out.dcm", labels, series)


def test_labels_drawn_by_hand_name_no_algorithm(source, series, tmp_path):
    write_segmentation(
        random_labels(series.shape),
        series.grid,
        STRUCTURES,
        find_series(source),
        series.identity,
        tmp_path / "out.dcm",
        Algorithm("MANUAL", "ALUNet", "1.2"),
    )
    segment = pydicom.dcmread(tmp_path / "out.dcm").SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "MANUAL"
    assert "SegmentationAlgorithmIdentificationSequence" not in segment


def known_codes() -> list[tuple[str, str]]:
    named = [(value, name.capitalize()) for name, value in codes._ORGANS.items()]
    pairs = [*named, *codes._TISSUES.values(), *codes._CHANGES.values(), *codes.SIDES.values()]
    return [*pairs, codes.TISSUE, codes.ORGAN, codes.CHANGED]


@pytest.mark.parametrize("code", known_codes(), ids=lambda code: code[1])
def test_each_code_is_in_the_dicom_standard_with_its_meaning(code):
    meanings = [
        meaning.casefold()
        for entry in concepts["SCT"].values()
        for value, (meaning, _) in entry.items()
        if value == code[0]
    ]
    assert any(meaning.startswith(code[1].casefold()) for meaning in meanings)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("Liver", "Liver"),
        ("kidney_right", "Kidney"),
        ("LIVER TUMOUR", "Tumor"),
        ("Anterior", "Tissue"),
        ("left", "Tissue"),
        ("oesophagus", "Esophagus"),
        ("", "Tissue"),
    ],
)
def test_a_name_gets_the_code_that_it_plainly_means(name, meaning):
    assert codes.code_for(name).type[1] == meaning


# --- what is refused --------------------------------------------------------------------------


def test_open_voxels_are_refused_or_left_out_and_counted(source, series, tmp_path):
    labels = random_labels(series.shape)
    labels[2, :2] = 255
    with pytest.raises(InputError, match="18 voxels are not annotated"):
        write(labels, series, source, tmp_path / "out.dcm")
    assert not (tmp_path / "out.dcm").exists()
    assert write(labels, series, source, tmp_path / "out.dcm", leave_out_open=True) == 18
    found = read_dicom_labels(tmp_path / "out.dcm", series.grid)
    assert np.array_equal(sum(found.mask(s) for s in found.segments) > 0, labels % 255 > 0)


def test_a_folder_without_the_series_is_one_line(source, series, tmp_path):
    files.write(tmp_path / "other", files.slices(np.zeros((4, 6, 9), np.int16)))
    with pytest.raises(InputError, match=r"does not hold the series .* it holds CT, series 3"):
        write(random_labels(series.shape), series, tmp_path / "other", tmp_path / "out.dcm")
    series.files[1].unlink()
    with pytest.raises(InputError, match="holds 3 of the 4 images of this case, and 0 others"):
        write(random_labels(series.shape), series, source, tmp_path / "out.dcm")


def test_labels_that_do_not_fit_are_refused(source, series, tmp_path):
    labels = random_labels(series.shape)
    out = tmp_path / "out.dcm"
    with pytest.raises(InputError, match="do not fit"):
        write(labels[:2], series, source, out)
    with pytest.raises(InputError, match="hold 7, which is no structure"):
        write(np.where(labels == 5, 7, labels), series, source, out)
    grid = Grid(series.grid.size, (0.6, 0.75, 2.0), series.grid.origin, series.grid.direction)
    with pytest.raises(InputError, match="voxels apart"):
        write_segmentation(
            labels, grid, STRUCTURES, find_series(source), series.identity, out, MODEL
        )
    assert not out.exists()


@pytest.mark.parametrize("name", ["", " ", "a\\b", "x" * 65, "a\nb"])
def test_names_that_dicom_cannot_hold_are_refused(source, series, tmp_path, name):
    with pytest.raises(InputError, match="cannot be the name of a DICOM segment"):
        write_segmentation(
            np.zeros(series.shape, np.uint8),
            series.grid,
            {name: 1},
            find_series(source),
            SeriesIdentity("1.2", (), ""),
            tmp_path / "out.dcm",
            MODEL,
        )
