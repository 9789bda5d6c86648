"""Damaged and hostile DICOM files: each is one clear error, and never anything else."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import dicom_files as files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from alunet.errors import InputError
from alunet.imaging.dicom import elements
from alunet.imaging.dicom.series import find_series, pick_series
from alunet.imaging.dicom.volume import read_series

Change = Callable[[Dataset], object]


def make(**changes: object) -> Change:
    def change(dataset: Dataset) -> None:
        for name, value in changes.items():
            setattr(dataset, name, value)

    return change


def without(*names: str) -> Change:
    def change(dataset: Dataset) -> None:
        for name in names:
            delattr(dataset, name)

    return change


DEFECTS: list[tuple[Change, str]] = [
    (without("ImagePositionPatient"), "ImagePositionPatient missing"),
    (without("ImageOrientationPatient"), "ImageOrientationPatient missing"),
    (without("PixelSpacing"), "PixelSpacing missing"),
    (make(PixelSpacing=[0, 0.5]), "PixelSpacing 0 x 0.5 mm"),
    (make(PixelSpacing=[0.5]), "PixelSpacing '0.5': 2 numbers are needed"),
    (make(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "not at right angles"),
    (make(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "not at right angles"),
    (make(Rows=0), "declares 1 frames of 7 x 0"),
    (make(Rows=60000, Columns=60000), "declares 1 frames of 60000 x 60000"),
    (make(Rows=5000, Columns=5000), "declares 5000 x 5000 x 1 voxels, which need 50000000 bytes"),
    (make(NumberOfFrames=2_000_000_000), "declares 7 x 5 x 2000000000 voxels"),
    (make(NumberOfFrames=2), "which need 140 bytes, and has 70"),
    (make(BitsAllocated=12), "stores 16 of 12 bits"),
    (make(BitsStored=0), "stores 0 of 16 bits"),
    (make(HighBit=11), "up to bit 11"),
    (make(RescaleSlope=0), "multiplies all values by 0"),
    (without("PixelData"), "holds no voxels"),
]


@pytest.fixture
def one() -> Dataset:
    return files.slices(np.arange(35, dtype=np.int16).reshape(1, 5, 7))[0]


def only_problem(path: Path) -> str:
    found = find_series(path)
    with pytest.raises(InputError) as caught:
        read_series(pick_series(found))
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(("change", "words"), DEFECTS, ids=[words for _, words in DEFECTS])
def test_a_defect_is_one_line_with_the_value(tmp_path, one, change, words):
    change(one)
    files.write(tmp_path, [one])
    assert words in only_problem(tmp_path)


@pytest.mark.parametrize("length", [0, 100, 132, 140, 300, 500, 700, 900])
def test_a_file_that_is_cut_off_is_never_read_as_a_whole(tmp_path, one, length):
    path = files.write(tmp_path, [one])[0]
    content = path.read_bytes()
    path.write_bytes(content[: min(length, len(content) - 10)])
    assert only_problem(tmp_path)


def test_cut_off_voxels_are_told_with_both_lengths(tmp_path, one):
    path = files.write(tmp_path, [one])[0]
    path.write_bytes(path.read_bytes()[:-20])
    assert "cut off: 50 of 70 bytes" in only_problem(tmp_path)


def test_a_damaged_file_beside_a_series_is_named_and_the_series_read(tmp_path, one):
    files.write(tmp_path / "good", [one])
    (tmp_path / "bad.dcm").write_bytes(bytes(128) + b"DICM" + bytes(50))
    found = find_series(tmp_path)
    assert "bad.dcm" in found.damaged[0].message
    assert len(found.usable) == 1


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_voxels_that_are_cut_off_or_of_another_size_are_refused(tmp_path, one, syntax):
    files.describe_pixels(one, np.arange(64 * 64, dtype=np.int16).reshape(64, 64))
    one.compress(syntax, generate_instance_uid=False)
    path = files.write(tmp_path, [one])[0]
    content = path.read_bytes()
    begin = time.monotonic()
    path.write_bytes(content[:-100])
    assert only_problem(tmp_path)
    path.write_bytes(content[:-200] + bytes(100) + content[-100:])
    find_and_read(tmp_path)
    assert time.monotonic() - begin < 5
    one.Rows, one.Columns = 10_000, 20_000
    files.write(tmp_path, [one])
    assert only_problem(tmp_path)


def test_lossless_jpeg_that_breaks_off_inside_is_refused(tmp_path, one):
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.SetFileName(str(tmp_path / "made.dcm"))
    noise = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.int16)
    writer.Execute(sitk.GetImageFromArray(noise))
    packed = pydicom.dcmread(tmp_path / "made.dcm")
    (tmp_path / "made.dcm").unlink()
    files.describe_pixels(one, noise)
    for name in ("BitsStored", "HighBit", "PixelRepresentation"):
        setattr(one, name, packed[name].value)
    one.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    stream = get_frame(packed.PixelData, 0, number_of_frames=1)
    for content, good in ((stream, True), (stream[:2000] + b"\xff\xd9", False)):
        one.PixelData = encapsulate([content])
        one["PixelData"].is_undefined_length = True
        files.write(tmp_path, [one])
        if good:
            image, _ = read_series(pick_series(find_series(tmp_path)))
            assert np.array_equal(sitk.GetArrayFromImage(image)[0], noise)
        else:
            assert "damaged" in only_problem(tmp_path)


def test_an_infinite_value_is_refused(tmp_path, one):
    del one.PixelData, one.BitsStored, one.HighBit, one.PixelRepresentation
    one.BitsAllocated = 32
    values = np.zeros((5, 7), np.float32)
    values[1, 1] = np.inf
    one.FloatPixelData = values.tobytes()
    files.write(tmp_path, [one])
    assert "NaN, infinite or huge" in only_problem(tmp_path)
    one.FloatPixelData = np.full((5, 7), 0.25, np.float32).tobytes()
    files.write(tmp_path, [one])
    image, _ = read_series(pick_series(find_series(tmp_path)))
    assert image[3, 3, 0] == 0.25


def test_deeply_nested_sequences_end_in_one_line(tmp_path, one):
    path = files.write(tmp_path, [one])[0]
    content = path.read_bytes()
    place = content.index(b"\x20\x00\x0d\x00UI")
    opened = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(content[:place] + 20_000 * opened + content[place:])
    begin = time.monotonic()
    found = find_series(tmp_path)
    assert time.monotonic() - begin < 20
    assert found.damaged or found.series


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path, one, monkeypatch):
    monkeypatch.setattr(elements, "_MOST_INFLATED", 1 << 28)
    one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = files.write(tmp_path, [one])[0]
    content = path.read_bytes()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 24)
    packed = b"".join(machine.compress(zeros) for _ in range(17)) + machine.flush()
    path.write_bytes(content[:start] + packed)
    assert "unpacks to more than 256 MiB" in find_series(tmp_path).damaged[0].message


def find_and_read(path: Path) -> None:
    for series in find_series(path).series:
        try_to(lambda series=series: read_series(series))


def try_to(read: Callable[[], object]) -> None:
    try:
        read()
    except InputError as error:
        assert error.message
        assert "\n" not in error.message
