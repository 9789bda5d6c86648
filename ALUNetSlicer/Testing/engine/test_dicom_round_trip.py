"""DICOM in and out, as a person does it: a series becomes a case, SEG objects its labels, and
labels a SEG object.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.dataset import read_dataset_description
from alunet.imaging.dicom.segmentation import read_segmentation
from alunet.imaging.dicom.series import find_series
from alunet.imaging.dicom.volume import read_series
from alunet.imaging.reading import read_labels
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.dicom_export import export_labels
from alunet.loop.setup import Setup, create
from alunet.project import Project
from alunet.schema import Event


@pytest.fixture
def hippocampus(real_data: Path) -> Path:
    return real_data / "DICOM_hippocrop" / "Study1" / "13_HCropVolume"


def project_for(root: Path, **labels: int) -> Project:
    names = {"background": 0, **(labels or {"a": 1})}
    return create(
        root, name="p", labels=names, channels=["MRI"], setup=Setup("quick", epochs=1, iterations=1)
    )


@pytest.mark.parametrize("what", ["13_HCropVolume", "."])
def test_a_series_is_a_case_with_its_voxels_and_keeps_uids_alone(
    tmp_path, hippocampus, what
) -> None:
    folder = hippocampus.parent / what if what != "." else hippocampus.parent
    wanted, identity = read_series(find_series(hippocampus).usable[0])
    with project_for(tmp_path / "p") as project:
        assert project.cases.import_dataset(folder) == ["13_HCropVolume"]
        (case,) = project.cases.all()
        kept = sitk.ReadImage(str(case.images[0]))
        assert np.array_equal(sitk.GetArrayFromImage(kept), sitk.GetArrayFromImage(wanted))
        assert project.cases.dicom(case.name) == identity
        assert project.cases.import_dataset(folder) == []
    header = pydicom.dcmread(hippocampus / "1.dcm", stop_before_pixels=True)
    stored = b"".join(file.read_bytes() for file in (tmp_path / "p").rglob("*") if file.is_file())
    assert header.SeriesInstanceUID.encode() in stored
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
        value = str(header.get(keyword, ""))
        assert not value or value.encode() not in stored


def test_one_file_stands_for_its_series(tmp_path, hippocampus) -> None:
    with project_for(tmp_path / "p") as project:
        project.cases.import_case("c", [hippocampus / "1.dcm"])
        assert project.cases.all()[0].shape[0] == len(list(hippocampus.glob("*.dcm")))


def test_several_series_of_one_examination_are_asked_about(tmp_path, real_data: Path) -> None:
    with project_for(tmp_path / "p") as project:
        with pytest.raises(
            InputError, match="2 series of one examination: MR, series 4.*Name the one"
        ):
            project.cases.import_dataset(real_data / "ProstateX_one")
        events: list[Event] = []
        names = project.cases.import_dataset(
            real_data / "ProstateX_one", series="7", emit=events.append
        )
        assert len(names) > 1, "the one series, and the image beside it"


def test_label_maps_and_seg_objects_beside_dicom_are_no_cases(tmp_path, real_data: Path) -> None:
    events: list[Event] = []
    with project_for(tmp_path / "p") as project:
        names = project.cases.import_dataset(real_data / "DICOM_ct3slice_seg", emit=events.append)
        assert names == ["DICOM_ct3slice_seg"]
    said = " ".join(str(event.data.get("text", "")) for event in events)
    for file in (
        "liver.dcm",
        "partial_overlaps.dcm",
        "heart_seg.nrrd",
        "liver_seg.nrrd",
        "spine_seg.nrrd",
    ):
        assert f"{file} was left out" in said


def test_a_seg_object_is_a_label_by_its_segments_names(tmp_path, real_data: Path) -> None:
    data = real_data / "DICOM_ct3slice_seg"
    segment = read_segmentation(data / "liver.dcm").segments[0].name
    with project_for(tmp_path / "p", other=1, **{segment: 2}) as project:
        project.cases.import_case("c", [data / "03.dcm"], data / "liver.dcm", role="test")
        found = read_labels(project.cases.all()[0].label)
    assert np.array_equal(
        found == 2, sitk.GetArrayFromImage(sitk.ReadImage(str(data / "liver_seg.nrrd"))) > 0
    )
    with (
        project_for(tmp_path / "q", other=1) as project,
        pytest.raises(InputError, match=f"holds '{segment}'"),
    ):
        project.cases.import_case("c", [data / "03.dcm"], data / "liver.dcm", role="test")


@pytest.mark.slow
def test_annotations_leave_as_seg_and_come_back_voxel_for_voxel(tmp_path, hippocampus) -> None:
    source = shutil.copytree(hippocampus, tmp_path / "source")
    with project_for(tmp_path / "p", left=1, right=2) as project:
        project.cases.import_dataset(source)
        annotation = AnnotationLoop(project)
        annotation.plan()
        (case,) = project.cases.all()
        drawn = np.random.default_rng(0).integers(0, 3, case.shape).astype(np.uint8)
        image = sitk.GetImageFromArray(drawn)
        image.CopyInformation(sitk.ReadImage(str(case.images[0])))
        sitk.WriteImage(image, str(tmp_path / "drawn.nrrd"))
        annotation.annotate(case.name, tmp_path / "drawn.nrrd", slices=[3, 7, 8])
        (file,) = export_labels(annotation.loop, [], source, tmp_path / "out", "1.0")
        annotation.annotate(case.name, file, slices=[3, 7, 8])
        kept = project.annotations.read(case.name)
        for number in (3, 7, 8):
            assert np.array_equal(kept[number], drawn[number])
        written = pydicom.dcmread(file)
        assert written.PatientID == pydicom.dcmread(source / "1.dcm").PatientID
        assert [s.SegmentLabel for s in written.SegmentSequence] == ["left", "right"]
        with pytest.raises(InputError, match="does not hold the series of this case"):
            export_labels(annotation.loop, [], tmp_path / "out", tmp_path / "again", "1.0")
    with sqlite3.connect(tmp_path / "p" / "project.db") as database:
        text = str(database.execute("SELECT * FROM cases").fetchall())
    assert written.StudyInstanceUID not in text


def test_a_series_that_is_no_volume_is_refused_in_one_sentence(tmp_path, hippocampus) -> None:
    source = shutil.copytree(hippocampus, tmp_path / "in")
    (source / "14.dcm").unlink()
    with pytest.raises(InputError, match="lacks 1 slice") as error:
        read_dataset_description(source)
    assert ".." not in error.value.message
