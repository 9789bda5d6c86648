"""A case that is erased is nowhere in the project any more, whatever happens on the way."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from planned_project import plan, suggest
from test_hand import LABELS

from alunet.errors import InputError
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.setup import Setup, create
from alunet.loop.status import status
from alunet.model.child import with_source
from alunet.project import Project
from alunet.project.annotations import Submission
from alunet.project.redaction import Redaction
from alunet.schema import JobKind
from alunet.serve.copies import forget_copies
from alunet.storage.locks import InUse

NAME, PATIENT, UID = "zebra-4711", "Mrs Quagga", "1.2.840.99999.4711.8"
PATTERN = np.array([-31337, 31337, -12321, 12321, -20202, 20202], np.int16)
"""Voxels that no other image has."""
KILLS = int(os.environ.get("ALUNET_ERASE_KILLS", "12"))
SEED = int(os.environ.get("ALUNET_ERASE_SEED", "0"))
ERASER = """
import sys
from pathlib import Path
from alunet.project import Project
with Project.open(Path(sys.argv[1])) as project:
    print("go", flush=True)
    project.erasing.erase(sys.argv[2], "Ann", lambda uploads: None)
"""


def image(path: Path, seed: int, pattern: bool) -> Path:
    voxels = np.random.default_rng(seed).integers(0, 900, (4, 20, 24)).astype(np.int16)
    if pattern:
        voxels[:, :, :6] = PATTERN
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=False)
    return path


def make(root: Path, source: Path) -> Project:
    """A project in which a case has left traces everywhere that one can."""
    project = create(root, name="Zoo", labels=LABELS, channels=["CT"], setup=Setup(seed=5))
    for seed, name in enumerate((NAME, f"{NAME}-b", "other")):
        file = image(source / PATIENT / f"{name}.nrrd", seed, name == NAME)
        label = source / PATIENT / f"{name} label.nrrd"
        sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 20, 24), np.uint8)), str(label))
        project.cases.import_case(name, [file], label)
    plan(project)
    suggest(project, [0, 1, 5, 9], reasons=[f"near {NAME}", "x", "y", "z"])
    for sample in (0, 1, 5, 9):
        labels = np.full((1, 20, 24), sample % 3, np.uint8)
        project.annotations.submit(sample, Submission(labels, 0, "Ann"))
        project.annotations.submit(sample, Submission(labels + 0, 1, "Bob"))
    project.learned.note()
    with_traces(project)
    return project


def with_traces(project: Project) -> None:
    database, root = project._db, project.root
    identity = {"series_uid": UID, "frame_uid": UID + ".1", "instance_uids": [UID + ".2"]}
    database.execute("UPDATE cases SET dicom = ? WHERE name = ?", (json.dumps(identity), NAME))
    project.settings.keep_request(NAME, {"images": ["ab" * 16], "label": None, "role": "pool"})
    project.events.add("message", {"text": f"'{NAME}' is the same scan as 'other' (pool)."})
    project.events.add("case", {"case": NAME, "state": "removed", "author": "Ann"})
    job = project.jobs.add(JobKind.EXPORT, {"what": "labels"})
    project.jobs.add(JobKind.PREDICT, {"cases": [NAME, "other"]})
    jobs = root / "jobs"
    jobs.mkdir(exist_ok=True)
    with zipfile.ZipFile(jobs / f"{job}-labels.zip", "w") as archive:
        archive.writestr(f"{NAME}.nii.gz", b"labels")
    project.jobs.note(job, result=f"{job}-labels.zip")
    with zipfile.ZipFile(jobs / "9-model.zip", "w") as archive:
        archive.writestr("alunet.json", json.dumps({"cases": 3}))
    for name in (NAME, f"{NAME}-b", "other"):
        voxels = sitk.ReadImage(str(root / "images" / f"{name}_0000.mha"))
        for place in ("rounds/000/proposals", "rounds/000/uncertainty/entropy"):
            (root / place).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(voxels, str(root / place / f"{name}.mha"))
        for place in ("nnunet/nnUNet_preprocessed/D/2d", "nnunet/labels"):
            (root / place).mkdir(parents=True, exist_ok=True)
            array = sitk.GetArrayFromImage(voxels)
            np.save(root / place / f"{name}.npy", array)
            (root / place / f"{name}_seg.b2nd").write_bytes(array.tobytes())
    dataset = {name: {"images": [f"/x/{PATIENT}/{name}.nrrd"]} for name in (NAME, "other")}
    write(root / "nnunet/nnUNet_raw/D/dataset.json", {"labels": LABELS, "dataset": dataset})
    table = {name: {"dice": {"liver": 0.5}} for name in (NAME, "other")}
    write(root / "rounds/000/learned.json", {"evaluation": {"cases": table}})
    items = [{"case": NAME, "images": [f"../images/{NAME}_0000.mha"], "reason": "random"}]
    write(root / "rounds/000/worklist.json", {"items": items, "strategy": "random"})
    (root / "rounds/000/train.log").write_text(f"{NAME}: lost\n{NAME}-b: fine\n", encoding="utf-8")
    np.savez(root / "rounds/000/pool.npz", cases=np.array([NAME, "other"]))
    (root / "cache").mkdir()
    np.savez(root / "cache/mc-1.npz", var=np.zeros(3))
    AnnotationLoop(project).follow()


def write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def traces(root: Path) -> list[str]:
    """Where the case can be found, in bytes, packed or not, and in names of files."""
    name = re.compile(rb"zebra-4711(?!-b)")
    marks = (PATIENT.encode(), UID.encode(), PATTERN.tobytes())
    found = []
    for file in [path for path in sorted(root.rglob("*")) if path.is_file()]:
        parts = [str(file.relative_to(root)).encode(), file.read_bytes()]
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                parts += [archive.read(member) for member in archive.namelist()]
                parts += [member.encode() for member in archive.namelist()]
        if file.suffix == ".mha":
            parts.append(sitk.GetArrayFromImage(sitk.ReadImage(str(file))).tobytes())
        for part in parts:
            own = part.replace(f"{PATIENT}/{NAME}-b".encode(), b"").replace(
                f"{PATIENT}/other".encode(), b""
            )
            if name.search(own) or any(mark in own for mark in marks):
                found.append(str(file.relative_to(root)))
    return found


def check_rest(root: Path) -> None:
    """The other cases have all that they had, and the project goes on."""
    with Project.open(root) as project:
        assert [case.name for case in project.cases.all()] == ["other", f"{NAME}-b"]
        assert project.pool.cases == ("other", "erased-1", f"{NAME}-b")
        assert len(project.pool) == 12 and project.samples.counted().sum() == 8
        for case in project.cases.all():
            assert case.images[0].is_file() and case.label.is_file()
            assert (root / f"rounds/000/proposals/{case.name}.mha").is_file()
            assert (root / f"nnunet/labels/{case.name}_seg.b2nd").is_file()
        labelled = np.flatnonzero(project.samples.labelled()).tolist()
        assert labelled == [0, 1, 9]
        for sample in labelled:
            assert (project.annotations.version(sample, 1)[1] == sample % 3).all()
        assert project.annotations.read("other")[0].max() == 0
        records = {own.name: own for own in project.case_changes.records()}
        assert (records["erased-1"].state, records["erased-1"].changed_by) == ("erased", "Ann")
        told = [event.data for _, event in project.events.after() if event.kind == "case"]
        about = {"case": "erased-1", "state": "erased", "author": "Ann"}
        assert told[-1] == {**about, "samples": [4, 5, 6, 7]}
        assert project.learned.forgotten() == 1
        assert status(AnnotationLoop(project)).cases == ["other", f"{NAME}-b"]
        about = json.loads((root / "nnunet/nnUNet_raw/D/dataset.json").read_text(encoding="utf-8"))
        assert (list(about["dataset"]), about["labels"]) == (["other"], LABELS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project; only copies of it are changed."""
    folder = tmp_path_factory.mktemp("zoo")
    make(folder / "p", folder / "source").close()
    return folder / "p"


def test_there_is_much_to_erase(made):
    found = traces(made)
    for name in (
        "project.db",
        f"images/{NAME}_0000.mha",
        "rounds/000/learned.json",
        "jobs/1-labels.zip",
    ):
        assert name in found
    assert len(found) > 15


def test_nothing_of_an_erased_case_is_found_and_all_else_stays(made, tmp_path):
    root = shutil.copytree(made, tmp_path / "p")
    copies: list[str] = []
    with Project.open(root) as project:
        erased = project.erasing.erase(NAME, "Ann", copies.extend)
        assert project.jobs.result(1) is None and (root / "jobs" / "9-model.zip").is_file()
        with pytest.raises(InputError, match="no case"):
            project.cases.row(NAME)
        with pytest.raises(InputError, match="not annotated now"):
            project.annotations.submit(5, Submission(np.zeros((1, 20, 24), np.uint8), 0, "Ann"))
    assert erased.name == "erased-1" and copies == ["ab" * 16]
    said = " ".join(erased.says)
    assert "1 exports kept here" in said and "Backups" in said and "starts anew" in said
    assert traces(root) == []
    check_rest(root)


def test_where_another_program_reads_the_database_it_is_finished_later(made, tmp_path):
    root = shutil.copytree(made, tmp_path / "p")
    with Project.open(root, read_only=True) as reader, Project.open(root) as project:
        reader._db.execute("BEGIN")
        reader._db.rows("SELECT count(*) FROM cases")
        project.erasing._rewrite_seconds = 0.2
        with pytest.raises(InUse, match="read by another program"):
            project.erasing.erase(NAME, "Ann", lambda uploads: None)
        assert all(case.name != NAME for case in project.cases.all())
        reader._db.execute("COMMIT")
    check_rest(root)
    assert traces(root) == []


def test_the_images_of_another_project_stay_and_that_is_said(made, tmp_path):
    root = shutil.copytree(made, tmp_path / "p")
    with Project.open(root) as project, project.fork(tmp_path / "fork") as fork:
        erased = fork.erasing.erase(NAME, "Ann", lambda uploads: None)
        assert f"The images belong to {root}" in " ".join(erased.says)
        assert (root / "images" / f"{NAME}_0000.mha").is_file()
    assert not [name for name in traces(tmp_path / "fork") if name != "lock"]


@pytest.mark.slow
def test_killed_at_any_moment_the_next_opening_finishes_it(made, tmp_path, record_property):
    chance, killed, length = random.Random(SEED), 0, 0.0
    for number in range(KILLS):
        root = shutil.copytree(made, tmp_path / str(number))
        process = subprocess.Popen(
            [sys.executable, "-c", ERASER, str(root), NAME],
            stdout=subprocess.PIPE,
            env=with_source(),
        )
        assert process.stdout.read(2) == b"go"
        start = time.monotonic()
        if number:
            time.sleep(chance.uniform(0, length))
            process.send_signal(signal.SIGKILL)
        killed += process.wait(60) != 0
        length = length or time.monotonic() - start
        process.stdout.close()
        with Project.open(root) as project:
            marked = NAME not in {own.name for own in project.case_changes.records()}
        if marked:
            assert traces(root) == [], f"kill {number}"
            check_rest(root)
        else:
            with Project.open(root) as project:
                assert NAME in {case.name for case in project.cases.all()}
            assert len(traces(root)) > 15, "it was killed before it began"
        shutil.rmtree(root)
    record_property("killed", f"{killed} of {KILLS}, an erasure takes {length:.2f} s")


@pytest.mark.parametrize("name", ["1", "liver", "random", "pool", "a.b", "é"])
def test_a_name_that_is_a_common_word_changes_nothing_but_itself(name):
    redaction = Redaction(name, "erased-1", [], [f"{name} 2", "other"])
    content = {
        "strategy": "random",
        "labels": {"liver": 1},
        "role": "pool",
        "cases": [name, f"{name} 2", "other"],
        "number": 1,
    }
    new = json.loads(redaction.document(json.dumps(content)))
    assert new == {**content, "cases": ["erased-1", f"{name} 2", "other"]}
    words = redaction.text(f"'{name}' and '{name} 2': /x/{name}_0000.mha")
    assert words == f"'erased-1' and '{name} 2': /x/erased-1_0000.mha"
    assert redaction.owns(f"{name}.mha") and redaction.owns(f"{name}_seg.b2nd")
    assert not redaction.owns(f"{name} 2.mha") and not redaction.owns(f"{name}.json")


def test_copies_of_a_service_go_and_other_uploads_stay(tmp_path):
    own = tmp_path / ".alunet"
    for place in ("converted", "uploads"):
        (own / place).mkdir(parents=True)
    (own / "converted" / "1.nrrd").touch()
    for name in ("ab.json", "ab.nrrd", "cd.json"):
        (own / "uploads" / name).touch()
    forget_copies(tmp_path, ["ab"])
    assert [file.name for file in own.rglob("*.*")] == ["cd.json"]
    forget_copies(tmp_path / "nowhere", ["ab"])


def test_a_case_without_any_trace_can_be_erased(tmp_path):
    with create(tmp_path / "p", name="p", labels=LABELS, channels=["CT"], setup=Setup()) as project:
        project.cases.import_case("a", [image(tmp_path / "a.nrrd", 1, True)])
        assert project.erasing.erase("a", "", lambda uploads: None).name == "erased-1"
        assert project.cases.all() == []
        image(tmp_path / "b.nrrd", 2, False)
        project.cases.import_case("erased-2", [tmp_path / "b.nrrd"])
        assert project.erasing.erase("erased-2", "", lambda uploads: None).name == "erased-3"
    assert io.BytesIO(PATTERN.tobytes()).read() not in (tmp_path / "p" / "project.db").read_bytes()
