"""DICOM of a person's computer over a service: voxels and UIDs go there, patient and study stay."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import dicom_files as files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from alunet.imaging.dicom.reading import read_dicom_labels
from alunet.imaging.dicom.series import find_series
from alunet.imaging.dicom.volume import read_series
from alunet.project import Project
from alunet.schema import Operations

from .conftest import AgentProcess, Service

SECRETS = ("Doe^Jane", "secret", "19700101", "20200102")
ORIENTATION = (0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(3).integers(-500, 900, (7, 40, 36)).astype(np.int16)


@pytest.fixture
def study(tmp_path: Path, voxels: np.ndarray) -> Path:
    """A series, a SEG object of it, a hidden file, and a label map."""
    folder = tmp_path / "study"
    files.write(folder / "scan", files.slices(voxels, orientation=ORIENTATION))
    (folder / "._scan.nii.gz").write_bytes(bytes(100))
    (folder / "heart.seg.nrrd").write_bytes(bytes(100))
    return folder


@pytest.fixture
def project(service: Service) -> str:
    made = service.client().call(
        Operations.create_project,
        name="p",
        labels=["organ", "lesion"],
        channels=["CT"],
        epochs=1,
        iterations=1,
    )
    return made.id


def add(agent: AgentProcess, project: str, study: Path) -> None:
    (case,) = agent.ask("read_folder", folder=str(study))["cases"]
    agent.ask("add_case", project=project, name=case["name"], images=case["images"])


def stored(service: Service) -> bytes:
    return b"".join(file.read_bytes() for file in service.root.rglob("*") if file.is_file())


def test_a_folder_is_listed_as_the_engine_takes_it(agent, study):
    found = agent.ask("read_folder", folder=str(study))
    assert [case["name"] for case in found["cases"]] == ["scan"]
    assert [Path(each["file"]).name for each in found["left_out"]] == ["heart.seg.nrrd"]
    assert found["choices"] == []


def test_several_series_of_an_examination_are_chosen_from(agent, tmp_path, voxels):
    one, other = files.slices(voxels), files.slices(voxels[:5], SeriesNumber=8)
    for dataset in other:
        dataset.FrameOfReferenceUID = one[0].FrameOfReferenceUID
    files.write(tmp_path / "s" / "one", one)
    files.write(tmp_path / "s" / "other", other)
    found = agent.ask("read_folder", folder=str(tmp_path / "s"))
    assert found["cases"] == []
    assert [choice["label"] for choice in found["choices"]] == [
        "CT, series 3, 36 x 40 x 7",
        "CT, series 8, 36 x 40 x 5",
    ]
    key = found["choices"][1]["key"]
    found = agent.ask("read_folder", folder=str(tmp_path / "s"), series=key)
    assert [case["name"] for case in found["cases"]] == ["other"]
    assert "another series" in found["left_out"][0]["reason"]


def test_a_series_becomes_a_case_with_its_voxels_and_uids_and_nothing_else(
    agent, service, project, study, recorder
):
    agent.ask("connect", to=recorder.address, token=service.token, allow_plain=True)
    add(agent, project, study)
    image, identity = read_series(find_series(study / "scan").usable[0])
    with Project.open(service.root / project, read_only=True) as opened:
        (case,) = opened.cases.all()
        kept = sitk.ReadImage(str(case.images[0]))
        assert opened.cases.dicom("scan") == identity
    assert np.array_equal(sitk.GetArrayFromImage(kept), sitk.GetArrayFromImage(image))
    assert kept.GetDirection() == pytest.approx(image.GetDirection())
    assert identity.series_uid.encode() in recorder.sent
    header = pydicom.dcmread(study / "scan" / "IM0000", stop_before_pixels=True)
    secrets = [*SECRETS, header.StudyInstanceUID, str(study)]
    for place in (recorder.sent, stored(service)):
        assert [text for text in secrets if text.encode() in place] == []


@pytest.mark.slow
def test_labels_leave_as_seg_with_the_patient_of_the_source_folder(
    agent, service, project, study, tmp_path, recorder
):
    agent.ask("connect", to=recorder.address, token=service.token, allow_plain=True)
    add(agent, project, study)
    number = agent.ask("start", project=project, kind="round", options={"budget": 3}, key="a")["id"]
    ended(agent, project, number)
    drawn = annotate(agent, service, project, tmp_path)
    options = {"what": "labels", "format": "dcm", "cases": ["scan"]}
    job = agent.ask("start", project=project, kind="export", options=options, key="b")["id"]
    assert ended(agent, project, job)["state"] == "done"
    given = {"project": project, "job": job, "folder": str(tmp_path / "out")}
    said = agent.ask("write_segmentations", source=str(study), **given)
    assert [Path(file).name for file in said["files"]] == ["scan.dcm"]
    assert "not annotated" in said["notes"][0]
    (file,) = said["files"]
    series = find_series(study / "scan").usable[0]
    back = read_dicom_labels(Path(file), series.grid, series.identity)
    assert [segment.name for segment in back.segments] == ["organ", "lesion"]
    assert np.array_equal(np.maximum.reduce(back.layers), np.where(drawn == 255, 0, drawn))
    written = pydicom.dcmread(file)
    assert (str(written.PatientName), written.PatientID) == ("Doe^Jane", "secret-id")
    assert [text for text in SECRETS if text.encode() in recorder.sent] == []
    other = shutil.copytree(study, tmp_path / "other")
    (other / "scan" / "IM0003").unlink()
    problem = agent.refused("write_segmentations", source=str(other), **given)
    assert "holds 6 of the 7 images" in problem["message"]
    assert list((tmp_path / "out").iterdir()) == [Path(file)]


def annotate(agent: AgentProcess, service: Service, project: str, folder: Path) -> np.ndarray:
    """Every slice of the batch; gives what is annotated, 255 elsewhere."""
    for row in agent.ask("worklist", project=project):
        if row["ahead"]:
            continue
        shape = [end - begin for begin, end in row["box"]]
        labels = np.random.default_rng(row["sample"]).integers(0, 3, shape).astype(np.uint8)
        (folder / "voxels").write_bytes(labels.tobytes())
        content = {"base_version": 0, "author": "ann", "seconds": 1.0}
        key = f"{row['sample']}"
        agent.ask(
            "submit",
            project=project,
            sample=row["sample"],
            file=str(folder / "voxels"),
            shape=shape,
            dtype="uint8",
            key=key,
            **content,
        )
        agent.event(event="outbox", key=key, state="sent")
    with Project.open(service.root / project, read_only=True) as opened:
        return opened.annotations.read("scan")


def ended(agent: AgentProcess, project: str, number: int) -> dict:
    while True:
        job = agent.ask("job", project=project, job=number)
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"series_uid": "Doe^Jane"},
        {"instance_uids": ["1.2", "Doe^Jane"]},
        {"instance_uids": []},
        {"instance_uids": ["1.2", "1.2"]},
        {"frame_of_reference_uid": "1.2/../3"},
    ],
)
def test_a_service_keeps_nothing_but_uids(agent, service, project, tmp_path, change):
    agent.connect(service)
    image = sitk.GetImageFromArray(np.arange(4 * 20 * 20, dtype=np.int16).reshape(4, 20, 20))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    uids = {"series_uid": "1.2.3", "instance_uids": ["1.2.3.4"], "frame_of_reference_uid": ""}
    given = {"project": project, "name": "a", "images": [str(tmp_path / "a.nrrd")]}
    problem = agent.refused("add_case", dicom=uids | change, **given)
    assert problem["code"] == "bad_request" and "UID" in problem["message"]
    assert agent.ask("cases", project=project) == []
    assert agent.ask("add_case", dicom=uids, **given)["name"] == "a"


def test_a_series_that_is_no_volume_is_refused_with_its_damaged_file(
    agent, service, project, study
):
    agent.connect(service)
    (study / "scan" / "IM0003").write_bytes(bytes(128) + b"DICM" + bytes(50))
    problem = agent.refused("read_folder", folder=str(study))
    assert "lacks 1 slice" in problem["message"]
    assert "IM0003 is damaged: it has no usable SOPInstanceUID" in problem["message"]
    image = str(study / "scan" / "IM0000")
    problem = agent.refused("add_case", project=project, name="a", images=[image])
    assert "IM0003 is damaged" in problem["message"]
    assert agent.ask("cases", project=project) == []


def test_without_an_engine_on_this_computer_one_line_says_so(agent, study, tmp_path):
    problem = agent.refused("read_folder", folder=str(study), local_python=str(tmp_path / "no"))
    assert "cannot be started" in problem["message"]
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho No module named alunet\nexit 1\n", encoding="utf-8")
    script.chmod(0o700)
    problem = agent.refused("read_folder", folder=str(study), local_python=str(script))
    assert "gave no answer: No module named alunet" in problem["message"]


def test_reading_a_folder_is_cancelled(agent, tmp_path):
    script = tmp_path / "python"
    line = json.dumps({"kind": "progress", "data": {"phase": "look", "done": 3, "total": None}})
    script.write_text(f"#!/bin/sh\necho '{line}'\nexec sleep 600\n", encoding="utf-8")
    script.chmod(0o700)
    number = agent.send("read_folder", folder=str(tmp_path), local_python=str(script))
    agent.event(event="progress", id=number, phase="look", done=3)
    assert agent.ask("cancel", id=number) is True
    assert agent.answer(number)["error"]["message"] == "Stopped."
