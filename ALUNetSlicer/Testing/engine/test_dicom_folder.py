"""Folders with DICOM: what is taken, what is left out and why, and the commands that show it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dicom_files as files
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from alunet.cli import app
from alunet.errors import InputError
from alunet.imaging.dataset import read_dataset_description
from alunet.imaging.dicom.export import source_series
from alunet.imaging.dicom.series import SeriesIdentity, find_series
from alunet.imaging.dicom.volume import read_series
from alunet.imaging.dicom_cases import SeveralSeries
from alunet.imaging.foreign import read_foreign

DAMAGED = bytes(128) + b"DICM" + bytes(50)


def voxels(slices: int = 6) -> np.ndarray:
    return np.random.default_rng(slices).integers(0, 900, (slices, 20, 24)).astype(np.int16)


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return files.write(tmp_path / "study" / "scan", files.slices(voxels()))


def said(*words: object) -> tuple[int, list[dict]]:
    """Exit code and lines of a command with --json."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_damaged_file_is_named_beside_the_slice_that_is_missing_for_it(series):
    series[2].write_bytes(DAMAGED)
    words = "lacks 1 slice.*IM0002 is damaged: it has no usable SOPInstanceUID"
    for call in (
        lambda: read_dataset_description(series[0].parent),
        lambda: read_dataset_description(series[0].parent.parent),
        lambda: read_foreign(series[0]),
    ):
        with pytest.raises(InputError, match=words) as caught:
            call()
        assert "export the whole series again" in caught.value.hint


def test_a_damaged_file_at_the_end_of_a_series_is_named_too(series):
    series[-1].write_bytes(DAMAGED)
    found = read_dataset_description(series[0].parent)
    assert [(each.file, each.reason) for each in found.left_out] == [
        (series[-1], "damaged: it has no usable SOPInstanceUID: it is missing")
    ]


def test_a_series_in_several_folders_is_never_half_a_case(series):
    other = series[0].parent.parent / "rest"
    other.mkdir()
    for file in series[3:]:
        shutil.move(file, other / file.name)
    with pytest.raises(InputError, match="of a series whose files are in several folders") as error:
        read_dataset_description(other.parent)
    assert error.value.hint == "Move them into one folder."


def two_examinations(folder: Path) -> None:
    """Each of two patients has the same two series."""
    for patient in ("p1", "p2"):
        pair = [files.slices(voxels(6)), files.slices(voxels(4), SeriesNumber=8)]
        for dataset in pair[1]:
            dataset.FrameOfReferenceUID = pair[0][0].FrameOfReferenceUID
        for number, datasets in enumerate(pair):
            files.write(folder / patient / f"{patient}_{number}", datasets)


def test_one_choice_holds_for_examinations_that_were_made_alike(tmp_path):
    two_examinations(tmp_path)
    with pytest.raises(SeveralSeries) as caught:
        read_dataset_description(tmp_path)
    keys = [key for key, _label in caught.value.choices]
    assert keys == ["CT, series 3, 24 x 20 x 6", "CT, series 8, 24 x 20 x 4"]
    found = read_dataset_description(tmp_path, series=keys[1])
    assert [name for name, _files, _label in found.cases] == ["p1_1", "p2_1"]
    assert {each.reason for each in found.left_out} == {
        "another series than 'CT, series 8, 24 x 20 x 4': CT, series 3, 24 x 20 x 6"
    }


def test_series_that_look_the_same_are_named_by_their_uids(tmp_path):
    one, other = files.slices(voxels()), files.slices(voxels())
    for dataset in other:
        dataset.FrameOfReferenceUID = one[0].FrameOfReferenceUID
    files.write(tmp_path / "one", one)
    files.write(tmp_path / "other", other)
    with pytest.raises(SeveralSeries) as caught:
        read_dataset_description(tmp_path)
    keys = [key for key, _label in caught.value.choices]
    assert set(keys) == {one[0].SeriesInstanceUID, other[0].SeriesInstanceUID}
    assert len(read_dataset_description(tmp_path, series=keys[0]).cases) == 1


def test_a_series_of_which_the_images_alone_are_known_is_found(series):
    found = find_series(series[0].parent)
    (known,) = found.usable
    identity = SeriesIdentity("", tuple(reversed(known.instance_uids)), "")
    assert source_series(found, identity) == known
    with pytest.raises(InputError, match="UID of an image 1.2.3"):
        source_series(found, SeriesIdentity("", ("1.2.3",), ""))
    with pytest.raises(InputError, match="5 of the 5 images of this case, and 1 others"):
        source_series(found, SeriesIdentity("", known.instance_uids[:5], ""))


def test_a_folder_is_listed_for_a_person_and_for_a_program(series):
    study = series[0].parent.parent
    (study / "heart.seg.nrrd").write_bytes(b"x")
    (study / "._scan.nii").write_bytes(b"x")
    done = CliRunner().invoke(app, ["folder", str(study)])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "1 cases",
        "  scan: IM0000",
        "1 files left out",
        "  heart.seg.nrrd: a segmentation, no image",
    ]
    code, lines = said("folder", study, "--json")
    assert (code, lines[-1]["kind"]) == (0, "result")
    assert lines[-1]["data"]["cases"] == [
        {"name": "scan", "images": [str(series[0])], "label": None}
    ]
    code, lines = said("folder", study, "--json", "--channels", 2)
    assert (code, lines[-1]["kind"]) == (2, "error")
    assert "1 image(s), not of 2" in lines[-1]["data"]["message"]


def test_a_series_is_converted_without_loss_and_with_its_uids_alone(series, tmp_path):
    code, lines = said("convert", series[3], tmp_path / "scan.mha", "--json")
    image, identity = read_series(find_series(series[0].parent).usable[0])
    back = sitk.ReadImage(str(tmp_path / "scan.mha"))
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    assert (code, lines[-1]["data"]["dicom"]["series_uid"]) == (0, identity.series_uid)
    assert lines[-1]["data"]["dicom"]["instance_uids"] == list(identity.instance_uids)
    written = (tmp_path / "scan.mha").read_bytes() + json.dumps(lines).encode()
    for secret in ("Doe^Jane", "secret", "19700101", "20200102"):
        assert secret.encode() not in written
    code, lines = said("convert", series[3], tmp_path / "scan.nii", "--json")
    assert (code, lines[-1]["kind"]) == (2, "error")


@pytest.mark.parametrize(
    "content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "no description"]
)
def test_what_is_no_package_makes_no_segmentation(tmp_path, series, content):
    package, out = tmp_path / "labels.zip", tmp_path / "out"
    package.write_bytes(content)
    code, lines = said("dicom-seg", package, "--source", series[0].parent, "--out", out, "--json")
    assert code == 2
    assert "is no package of labels for DICOM" in lines[-1]["data"]["message"]
    assert not out.exists()
