"""DICOM folders: the series in them, each as one volume, and what is wrong with the others."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import dicom_files as files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from alunet.errors import InputError
from alunet.imaging.dicom.series import find_series, pick_series
from alunet.imaging.dicom.volume import read_series

JPEG_BASELINE = UID("1.2.840.10008.1.2.4.50")
JPEG_LOSSLESS = UID("1.2.840.10008.1.2.4.70")


@pytest.fixture
def voxels() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(-1000, 3000, (6, 5, 7)).astype(np.int16)


def read(path: Path, wanted: str = "") -> sitk.Image:
    return read_series(pick_series(find_series(path), wanted))[0]


def array(path: Path, wanted: str = "") -> np.ndarray:
    return sitk.GetArrayFromImage(read(path, wanted))


def problem(path: Path) -> str:
    found = find_series(path).series
    assert len(found) == 1
    assert found[0].problem is not None
    assert found[0].grid is None
    assert found[0].problem.hint
    with pytest.raises(InputError):
        read_series(found[0])
    return found[0].problem.message


# --- real series ------------------------------------------------------------------------------


def test_a_real_series_equals_its_nifti_file_voxel_for_voxel(real_data):
    image = read(real_data / "ProstateX_one" / "dicom_t2_tra")
    nifti = sitk.ReadImage(str(real_data / "ProstateX_one" / "ProstateX-0000_T2.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(nifti))
    assert image.GetSpacing() == pytest.approx(nifti.GetSpacing(), abs=1e-5)
    assert image.GetOrigin() == pytest.approx(nifti.GetOrigin(), abs=1e-4)
    assert image.GetDirection() == pytest.approx(nifti.GetDirection(), abs=3e-4)


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
def test_a_real_series_equals_what_simpleitk_reads(real_data, folder):
    image = read(real_data / folder)
    reader = sitk.ImageSeriesReader()
    uid = find_series(real_data / folder).usable[0].uid
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(real_data / folder), uid))
    expected = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(expected))
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, name)() == pytest.approx(getattr(expected, name)(), abs=1e-9)


def test_a_study_folder_of_any_depth_lists_its_series(real_data):
    found = find_series(real_data / "DICOM_hippocrop")
    labels = [series.label for series in found.series]
    assert labels == ["MR, series 11, 280 x 320 x 22", "MR, 35 x 51 x 32", "MR, 34 x 50 x 40"]
    assert [series.instances for series in found.series] == [22, 32, 40]
    assert found.usable == found.series
    assert not found.damaged


def test_labels_are_listed_beside_the_series_and_other_files_counted(real_data):
    found = find_series(real_data / "DICOM_ct3slice_seg")
    assert [(entry.kind, entry.path.name) for entry in found.labels] == [
        ("SEG", "liver.dcm"),
        ("SEG", "partial_overlaps.dcm"),
    ]
    assert {entry.referenced_series_uid for entry in found.labels} == {found.series[0].uid}
    assert found.passed_over == 3


# --- finding ----------------------------------------------------------------------------------


def test_hidden_files_and_dicomdir_are_ignored_and_other_files_counted(tmp_path, voxels):
    paths = files.write(tmp_path / "deep" / "er", files.slices(voxels))
    shutil.copy(paths[0], tmp_path / "._IM0000")
    shutil.copy(paths[0], tmp_path / "DICOMDIR")
    (tmp_path / "notes.txt").write_text("a patient", encoding="utf-8")
    (tmp_path / "empty").touch()
    found = find_series(tmp_path)
    assert found.passed_over == 2
    assert found.series[0].instances == 6


def test_a_file_without_preamble_is_read_and_one_that_only_looks_so_passed_over(tmp_path, voxels):
    path = files.write(tmp_path, files.slices(voxels[:1]))[0]
    path.write_bytes(path.read_bytes()[132:])
    (tmp_path / "other").write_bytes(b"\x08\0\x05\0" + bytes(200))
    assert np.array_equal(array(tmp_path), voxels[:1])
    assert find_series(tmp_path).passed_over == 1


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_followed_and_circles_are_not(tmp_path, voxels):
    files.write(tmp_path / "elsewhere", files.slices(voxels))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "circle").symlink_to(tmp_path / "set")
    assert np.array_equal(array(tmp_path / "set"), voxels)


def test_the_same_file_twice_counts_once(tmp_path, voxels):
    paths = files.write(tmp_path / "a", files.slices(voxels))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert np.array_equal(array(tmp_path), voxels)
    changed = pydicom.dcmread(tmp_path / "b" / paths[2].name)
    changed.PixelData = bytes(len(changed.PixelData))
    changed.save_as(tmp_path / "b" / paths[2].name)
    assert "IM0002 and IM0002 differ but have one identity" in problem(tmp_path)


def test_one_of_several_series_is_asked_for_by_number_label_or_uid(tmp_path, voxels):
    files.write(tmp_path / "a", files.slices(voxels, SeriesNumber=4))
    files.write(tmp_path / "b", files.slices(voxels[:3] + 1, SeriesNumber=7))
    found = find_series(tmp_path)
    with pytest.raises(InputError, match=r"holds 2 series: CT, series 4, 7 x 5 x 6; CT, series 7"):
        pick_series(found)
    with pytest.raises(InputError, match="holds no series '9': CT, series 4"):
        pick_series(found, "9")
    for wanted in ("7", "CT, series 7, 7 x 5 x 3", found.series[1].uid):
        assert np.array_equal(array(tmp_path, wanted), voxels[:3] + 1)


def test_a_folder_without_dicom_says_so(tmp_path):
    with pytest.raises(InputError, match="holds no DICOM image"):
        pick_series(find_series(tmp_path))
    with pytest.raises(InputError, match="no file or folder"):
        find_series(tmp_path / "missing")


def test_no_attribute_of_the_patient_or_the_study_is_kept(tmp_path, voxels):
    files.write(tmp_path, files.slices(voxels))
    series = find_series(tmp_path).series[0]
    _, identity = read_series(series)
    kept = repr(asdict(series)) + repr(identity) + series.label
    first = pydicom.dcmread(tmp_path / "IM0000")
    # The digits of random UIDs hold any number, the year of birth too.
    for uid in (series.uid, *identity.instance_uids, str(identity.frame_of_reference_uid)):
        kept = kept.replace(uid, "")
    assert not any(frame.separating for frame in series.frames)
    for secret in ("Doe", "secret", "1970", "2020", "101112", first.StudyInstanceUID):
        assert secret not in kept
    assert set(asdict(identity)) == {"series_uid", "instance_uids", "frame_of_reference_uid"}


def test_importing_the_readers_loads_neither_pydicom_nor_highdicom():
    code = "import sys, alunet, alunet.imaging.reading as r; import alunet.imaging.dicom.export; "
    code += (
        "import alunet.imaging.dicom.reading; print({'pydicom', 'highdicom'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- geometry ---------------------------------------------------------------------------------


def rotation(seed: int) -> np.ndarray:
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix if np.linalg.det(matrix) > 0 else -matrix


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    spacing=st.tuples(*[st.floats(0.05, 8)] * 3),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5)),
    in_one_file=st.booleans(),
)
def test_any_orientation_order_and_spacing_reads_as_written(
    tmp_path_factory, seed, spacing, shape, in_one_file
):
    rng = np.random.default_rng(seed)
    axes = rotation(seed)
    orientation = (*axes[:, 0], *axes[:, 1])
    origin = rng.uniform(-500, 500, 3)
    voxels = rng.integers(0, 4000, shape).astype(np.uint16)
    order = [int(k) for k in rng.permutation(shape[0])]
    folder = tmp_path_factory.mktemp("series")
    place = {"orientation": orientation, "spacing": spacing, "origin": origin}
    if in_one_file:
        files.write(folder, [files.enhanced(voxels, order=order, **place)])
    else:
        made = files.slices(voxels, **place)
        files.write(folder, [made[k] for k in order])
    image = read(folder)
    assert np.array_equal(sitk.GetArrayFromImage(image), voxels)
    assert image.GetSpacing() == pytest.approx(spacing, rel=1e-6, abs=1e-7)
    assert image.GetOrigin() == pytest.approx(origin, abs=1e-6)
    expected = np.stack([axes[:, 0], axes[:, 1], np.cross(axes[:, 0], axes[:, 1])], axis=1)
    assert image.GetDirection() == pytest.approx(expected.ravel(), abs=1e-6)


def test_a_series_of_several_enhanced_files_is_one_volume(tmp_path, voxels):
    parts = [files.enhanced(voxels[:2]), files.enhanced(voxels[2:], origin=(-10, -20, 34))]
    for dataset in parts:
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.4"
    files.write(tmp_path, parts[::-1])
    assert np.array_equal(array(tmp_path), voxels)


def test_an_enhanced_file_is_scaled_by_its_shared_functional_groups(tmp_path, voxels):
    files.write(tmp_path, [files.enhanced(voxels, scale=(2.0, -5.0))])
    assert np.array_equal(array(tmp_path), voxels.astype(int) * 2 - 5)


def test_one_slice_is_a_volume_as_thick_as_it_says(tmp_path, voxels):
    files.write(tmp_path, files.slices(voxels[:1]))
    image = read(tmp_path)
    assert image.GetSize() == (7, 5, 1)
    assert image.GetSpacing() == (0.5, 0.75, 2.0)


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "stored", "scale", "expected"),
    [
        ("u1", 8, None, "int16"),
        ("u2", 12, (1, -1024), "int16"),
        ("i2", 16, (1, -1024), "int32"),
        ("u2", 16, None, "int32"),
        ("i2", 12, None, "int16"),
        ("i4", 32, None, "int32"),
        ("u2", 12, (0.25, 0.5), "float32"),
    ],
)
def test_stored_numbers_of_all_kinds_keep_their_values(tmp_path, kind, stored, scale, expected):
    signed = kind.startswith("i")
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    values = np.linspace(low, high, 2 * 3 * 4).round().astype(kind).reshape(2, 3, 4)
    extra = {} if scale is None else {"RescaleSlope": scale[0], "RescaleIntercept": scale[1]}
    files.write(tmp_path, files.slices(values, stored=stored, **extra))
    found = array(tmp_path)
    slope, intercept = scale or (1, 0)
    assert found.dtype == expected
    assert np.array_equal(found, values.astype(float) * slope + intercept)


def test_each_slice_has_its_own_slope_as_in_pet(tmp_path, voxels):
    made = files.slices(voxels)
    for k, dataset in enumerate(made):
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 * (k + 1), 0
    files.write(tmp_path, made)
    expected = voxels * (0.5 * np.arange(1, 7))[:, None, None]
    assert np.array_equal(array(tmp_path), expected.astype(np.float32))


def test_overlays_in_the_upper_bits_are_no_values(tmp_path):
    plain = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    files.write(tmp_path, files.slices(plain | 0xF000, stored=12))
    assert np.array_equal(array(tmp_path), plain)


def test_numbers_beyond_32_bits_are_refused_with_the_value(tmp_path):
    values = np.full((1, 2, 2), 4_000_000_000, np.uint32)
    files.write(tmp_path, files.slices(values))
    with pytest.raises(InputError, match="4000000000"):
        read(tmp_path)


# --- compression ------------------------------------------------------------------------------


def smooth(kind: str, stored: int) -> np.ndarray:
    """Voxels as of an image: neighbors are alike, and the whole range is used."""
    k, j, i = np.mgrid[:3, :40, :36]
    wave = (np.sin(i / 9 + k) * np.cos(j / 7) + 1) / 2 * (2**stored - 1)
    shift = 2 ** (stored - 1) if kind.startswith("i") else 0
    return (wave - shift).round().astype(kind)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize(("kind", "stored"), [("u1", 8), ("u2", 12), ("u2", 16), ("i2", 16)])
def test_compressed_series_equal_the_plain_one(tmp_path, syntax, kind, stored):
    values = smooth(kind, stored)
    made = files.slices(values, stored=stored)
    for dataset in made:
        dataset.compress(syntax, generate_instance_uid=False)
    files.write(tmp_path, made)
    assert np.array_equal(array(tmp_path), values)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_enhanced_files_equal_the_plain_one(tmp_path, syntax):
    values = smooth("u2", 12)
    dataset = files.enhanced(values)
    dataset.compress(syntax, generate_instance_uid=False)
    files.write(tmp_path, [dataset])
    assert np.array_equal(array(tmp_path), values)


@pytest.mark.parametrize(("kind", "stored"), [("u1", 8), ("u2", 16), ("i2", 16)])
@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_a_real_programs_lossless_jpeg_is_read(tmp_path, compressor, kind, stored):
    """GDCM writes the files: lossless JPEG has no other free writer."""
    values = smooth(kind, stored)
    made = files.slices(values)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    for dataset, plane in zip(made, values, strict=True):
        writer.SetFileName(str(tmp_path / "slice.dcm"))
        writer.Execute(sitk.GetImageFromArray(plane))
        packed = pydicom.dcmread(tmp_path / "slice.dcm")
        dataset.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        for name in ("BitsStored", "HighBit", "PixelRepresentation", "PixelData"):
            setattr(dataset, name, packed[name].value)
        dataset["PixelData"].is_undefined_length = True
    (tmp_path / "slice.dcm").unlink()
    wanted = JPEG_LOSSLESS if compressor == "JPEG" else JPEG2000Lossless
    assert made[0].file_meta.TransferSyntaxUID == wanted
    files.write(tmp_path / "series", made)
    assert np.array_equal(array(tmp_path / "series"), values)


def test_baseline_jpeg_equals_what_its_decoder_gives(tmp_path):
    from PIL import Image

    made, expected = files.slices(smooth("u1", 8)), []
    for dataset, plane in zip(made, smooth("u1", 8), strict=True):
        stream = io.BytesIO()
        Image.fromarray(plane).save(stream, "JPEG", quality=90)
        expected.append(np.array(Image.open(stream)))
        dataset.file_meta.TransferSyntaxUID = JPEG_BASELINE
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset["PixelData"].is_undefined_length = True
    files.write(tmp_path, made)
    assert np.array_equal(array(tmp_path), expected)


def test_an_unknown_compression_is_named(tmp_path):
    made = files.slices(smooth("u1", 8)[:1])
    made[0].file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
    made[0].PixelData = encapsulate([b"a movie"])
    made[0]["PixelData"].is_undefined_length = True
    files.write(tmp_path, made)
    with pytest.raises(InputError, match="MPEG-4"):
        read(tmp_path)


@pytest.mark.parametrize("implicit", [True, False])
def test_implicit_and_big_endian_files_are_read(tmp_path, voxels, implicit):
    made = files.slices(voxels)
    for number, dataset in enumerate(made):
        dataset.file_meta.TransferSyntaxUID = UID(
            "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.2"
        )
        if not implicit:
            dataset.PixelData = voxels[number].astype(">i2").tobytes()
    files.write(tmp_path, made)
    assert np.array_equal(array(tmp_path), voxels)


# --- what is wrong with a series --------------------------------------------------------------


def test_missing_slices_are_refused_with_the_place(tmp_path, voxels):
    made = files.slices(voxels)
    files.write(tmp_path, [made[k] for k in (0, 1, 4, 5)])
    said = problem(tmp_path)
    assert "lacks 2 slice(s): between 32.00 and 38.00 mm" in said
    assert "after IM0001 and before IM0002" in said


def test_varying_distances_are_refused_with_both(tmp_path, voxels):
    made = files.slices(voxels)
    made[5].ImagePositionPatient = [-10, -20, 40.9]
    files.write(tmp_path, made)
    assert "at distances from 2 to 2.9 mm" in problem(tmp_path)


def test_positions_with_one_decimal_are_regular(tmp_path, voxels):
    made = files.slices(voxels, spacing=(0.5, 0.75, 0.625))
    for dataset in made:
        dataset.ImagePositionPatient = [round(float(x), 1) for x in dataset.ImagePositionPatient]
    files.write(tmp_path, made)
    assert read(tmp_path).GetSpacing()[2] == pytest.approx(0.625, abs=0.02)


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path, voxels):
    made = files.slices(voxels)
    for k, dataset in enumerate(made):
        dataset.ImagePositionPatient = [-10, -20 + k * 2 * np.tan(np.radians(15)), 30 + 2 * k]
    files.write(tmp_path, made)
    assert "tilted gantry: slices follow each other at 15 degrees" in problem(tmp_path)


def test_directions_with_three_digits_are_no_tilt(tmp_path):
    turned = (np.cos(0.3), np.sin(0.3), 0, 0, 0, -1)
    made = files.slices(np.zeros((40, 5, 7), np.int16), orientation=turned)
    for dataset in made:
        dataset.ImageOrientationPatient = [round(float(x), 3) for x in turned]
    files.write(tmp_path, made)
    assert read(tmp_path).GetSpacing() == pytest.approx((0.5, 0.75, 2.0), abs=1e-3)


def test_a_mosaic_is_refused(tmp_path, voxels):
    image_type = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    files.write(tmp_path, files.slices(voxels[:1], ImageType=image_type))
    assert "side by side (a mosaic)" in problem(tmp_path)


def test_slices_that_are_shifted_are_refused(tmp_path, voxels):
    made = files.slices(voxels)
    made[2].ImagePositionPatient = [-7, -20, 34]
    files.write(tmp_path, made)
    assert "IM0002 by 3.00 mm" in problem(tmp_path)


def test_images_at_one_place_that_nothing_tells_apart_are_refused(tmp_path, voxels):
    files.write(tmp_path, [*files.slices(voxels), *files.slices(voxels)])
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.4"
        dataset.save_as(path)
    said = problem(tmp_path)
    assert "several images at one place, first IM0000 and IM0006 (30.00 mm" in said


@pytest.mark.parametrize(
    ("keyword", "values", "names"),
    [
        ("EchoTime", (4.92, 7.38), ["echo time 4.92", "echo time 7.38"]),
        ("DiffusionBValue", (50.0, 800.0), ["b-value 50.0", "b-value 800.0"]),
        ("TemporalPositionIdentifier", (1, 2), ["time point 1", "time point 2"]),
        ("AcquisitionNumber", (9, 10), ["acquisition 9", "acquisition 10"]),
        ("SequenceName", ("ep_b50", "ep_b800"), ["sequence 1 of 2", "sequence 2 of 2"]),
        ("ContentTime", ("101010", "111111"), ["content time 1 of 2", "content time 2 of 2"]),
    ],
)
def test_several_images_at_each_place_become_parts(tmp_path, voxels, keyword, values, names):
    made = []
    for shift, value in enumerate(values):
        made += files.slices(voxels + shift, kind=files.MR, **{keyword: value})
    for dataset in made:
        for name in ("SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(dataset, name, made[0][name].value)
    files.write(tmp_path, made)
    found = find_series(tmp_path)
    assert [series.part for series in found.series] == names
    for shift, series in enumerate(found.series):
        image, identity = read_series(series)
        assert np.array_equal(sitk.GetArrayFromImage(image), voxels + shift)
        assert len(identity.instance_uids) == 6
    assert "111111" not in repr([asdict(series)["part"] for series in found.series])


def test_echoes_of_an_enhanced_file_become_parts(tmp_path, voxels):
    both = np.concatenate([voxels, voxels + 1])
    order = [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]
    files.write(tmp_path, [files.enhanced(both, order=order, echoes=(5.0, 9.0))])
    found = find_series(tmp_path)
    assert [series.part for series in found.series] == ["echo time 5.0", "echo time 9.0"]
    for shift, series in enumerate(found.series):
        assert np.array_equal(sitk.GetArrayFromImage(read_series(series)[0]), voxels + shift)


def test_heart_phases_are_ranked_where_each_slice_has_its_own_times(tmp_path, voxels):
    made = []
    for phase in range(3):
        made += files.slices(voxels + phase, kind=files.MR)
        for k, dataset in enumerate(made[-6:]):
            dataset.TriggerTime = 100 * phase + 7.5 * k
            dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.4"
    files.write(tmp_path, made)
    found = find_series(tmp_path).series
    assert [series.part for series in found] == [f"trigger time {n} of 3" for n in (1, 2, 3)]
    for phase, series in enumerate(found):
        assert np.array_equal(sitk.GetArrayFromImage(read_series(series)[0]), voxels + phase)


def test_a_localizer_of_several_directions_is_refused(tmp_path, voxels):
    made = files.slices(voxels)
    for dataset in made[:2]:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    files.write(tmp_path, made)
    assert "6 images of 2 directions, as a localizer does: 4 and 2 images" in problem(tmp_path)


def test_images_of_several_sizes_are_refused_with_both(tmp_path, voxels):
    made = files.slices(voxels)
    files.describe_pixels(made[3], voxels[3, :4])
    files.write(tmp_path, made)
    said = problem(tmp_path)
    assert "2 sizes (7 x 5 and 7 x 4): 5 and 1 images; IM0003 is one of the second kind" in said


def test_a_screenshot_without_a_place_is_refused(tmp_path, voxels):
    made = files.slices(voxels[:1])
    del made[0].ImagePositionPatient, made[0].PixelSpacing
    files.write(tmp_path, made)
    assert "(ImagePositionPatient, PixelSpacing missing)" in problem(tmp_path)


def test_colors_are_refused(tmp_path, voxels):
    made = files.slices(voxels[:1])
    made[0].SamplesPerPixel, made[0].PhotometricInterpretation = 3, "RGB"
    files.write(tmp_path, made)
    assert "a picture in colors (RGB, 3 values a pixel)" in problem(tmp_path)


def test_a_report_holds_no_image(tmp_path):
    report = files.new_file(UID("1.2.840.10008.5.1.4.1.1.88.11"), "SR")
    files.write(tmp_path, [report])
    assert "holds no image (SR)" in problem(tmp_path)


def test_an_odd_file_among_the_slices_is_named(tmp_path, voxels):
    made = files.slices(voxels)
    del made[4].ImageOrientationPatient
    files.write(tmp_path, made)
    said = problem(tmp_path)
    assert "1 of 6 files cannot be part of a volume" in said
    assert "IM0004" in said
