"""Jobs, for real: planned, trained and predicted in processes of their own, which outlive what
started them.
"""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk
from running import kill, tree

from alunet.loop.annotation_loop import AnnotationLoop
from alunet.project import Project
from alunet.simulation.phantom import make_phantom

pytestmark = pytest.mark.slow


def start(service, project, kind, headers=None, **options):
    body = {"kind": kind, "options": options}
    return service.ok("POST", f"/projects/{project}/jobs", 202, json=body, headers=headers or {})[
        "id"
    ]


def wait(service, project, job, states=("done", "failed", "cancelled"), seconds=900):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = service.ok("GET", f"/projects/{project}/jobs/{job}")
        if found["state"] in states:
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def done(service, project, kind, **options):
    found = wait(service, project, start(service, project, kind, **options))
    assert found["state"] == "done", found
    return found


def annotate(service, project, row, value=None):
    shape = [high - low for low, high in row["box"]]
    labels = np.zeros(shape, np.uint8)
    labels[:, shape[1] // 3 : shape[1] // 2, shape[2] // 3 : shape[2] // 2] = (
        1 if value is None else value
    )
    headers = {
        "Idempotency-Key": str(uuid.uuid4()),
        "X-Shape": ",".join(map(str, shape)),
        "X-Dtype": "uint8",
    }
    query = f"base_version={row['version']}&author=ann&seconds=3"
    place = f"/projects/{project}/samples/{row['sample']}/annotation?{query}"
    return service.ok("PUT", place, data=labels.tobytes(), headers=headers)


def worklist(service, project):
    return service.ok("GET", f"/projects/{project}/worklist")


def new(service, scan, name, cases=2, **more):
    project = service.project(name, **more)
    for number in range(cases):
        service.add_case(project, f"c{number}", scan(f"c{number}.nii.gz", number))
    while tree(service.root):  # the imports' process ends a moment after them
        time.sleep(0.05)
    return project


def test_labels_to_learn_from_are_annotations_once_the_project_is_planned(common, scan, tmp_path):
    project, image = common.project("learned"), scan("l.nii.gz")
    array = np.zeros((4, 40, 48), np.uint8)
    array[1, 10:20, 10:20] = 1
    label = sitk.GetImageFromArray(array)
    label.CopyInformation(sitk.ReadImage(str(image)))
    sitk.WriteImage(label, str(tmp_path / "label.nii.gz"))
    for name, use in (("l", "train"), ("h", "hidden")):
        body = {"name": name, "images": [common.upload(image)], "label_use": use}
        body["label"] = common.upload(tmp_path / "label.nii.gz")
        made = common.imported(project, body)
        assert made["state"] == "done"
        assert common.ok("POST", f"/projects/{project}/cases", 200, json=body) == made
    common.refused("POST", f"/projects/{project}/cases", 409, "exists", json={**body, "name": "l"})
    done(common, project, "plan")
    found = common.ok("GET", f"/projects/{project}/cases")
    assert {case["name"]: case["annotated"] for case in found} == {"h": 0, "l": 4}


def test_a_whole_round_over_http(common, scan):
    """Plan, suggest, annotate, train, suggest again; proposals, uncertainty, curve, export;
    events tell it all.
    """
    project = new(common, scan, "whole")
    first = done(common, project, "round", budget=2)
    assert first["attempts"] == 1 and first["heartbeat"]
    rows = worklist(common, project)
    assert [row["rank"] for row in rows] == [0, 1, 2, 3] and [row["ahead"] for row in rows] == [
        False
    ] * 2 + [True] * 2
    assert rows[0]["axis"] == 0 and rows[0]["box"][0] == [rows[0]["slice"], rows[0]["slice"] + 1]
    for row in rows[:2]:
        assert annotate(common, project, row)["version"] == 1
    training = start(common, project, "round", strategy="entropy", budget=2, train_for=1)
    wait(common, project, training, ("running",))
    late = annotate(common, project, rows[2])
    assert late["status"] == "done", "a person annotates while the model is trained"
    found = wait(common, project, training)
    assert found["state"] == "done", found
    again = worklist(common, project)
    assert again[0]["round"] == 1 and not {row["sample"] for row in again} & {
        row["sample"] for row in rows[:3]
    }
    stands = common.ok("GET", f"/projects/{project}")
    assert stands["status"]["step"] == "annotate"
    told = common.ok("GET", f"/projects/{project}/events")
    assert stands["event"] == told[-1]["number"], (
        "who follows from there hears of what comes, not of what was"
    )
    case = common.ok("GET", f"/projects/{project}/cases/{again[0]['case']}")
    assert case["proposal"] == 0
    place = f"/projects/{project}/cases/{case['name']}"
    assert common.send("GET", f"{place}/proposal?format=nrrd").content[:4] == b"NRRD"
    one = common.send("GET", f"/projects/{project}/samples/{again[0]['sample']}/proposal")
    whole = read(common, f"{place}/proposal?format=nrrd")
    assert one.headers["X-Version"] == "0" and one.headers["X-Dtype"] == whole.dtype.name
    assert one.content == whole[tuple(slice(*extent) for extent in again[0]["box"])].tobytes()
    assert common.send("GET", f"{place}/annotation").status_code == 200
    done(common, project, "uncertainty")
    assert (
        common.send("GET", f"{place}/uncertainty?measure=entropy&format=nii.gz").status_code == 200
    )
    model = done(common, project, "export", what="model")
    assert model["result"]
    assert common.send("GET", f"/projects/{project}/jobs/{model['id']}/result").content[:2] == b"PK"
    labels = done(common, project, "export", what="labels")
    assert (
        common.send("GET", f"/projects/{project}/jobs/{labels['id']}/result").content[:2] == b"PK"
    )
    curve = common.ok("GET", f"/projects/{project}/curve")
    assert [point["round"] for point in curve] == [0]
    structures = common.ok("GET", f"/projects/{project}")["labels"].keys() - {"background"}
    assert curve[0]["training"].keys() == structures | {"mean"}
    assert all(dice is None or 0 <= dice <= 1 for dice in curve[0]["training"].values())
    check_rounds(common, project)
    check_events(common, project, training)
    annotate(common, project, again[0])
    third = done(common, project, "round", strategy="random", budget=1)
    assert third["state"] == "done"
    learned = [
        point["labelled_samples"] for point in common.ok("GET", f"/projects/{project}/curve")
    ]
    assert len(learned) == 2 and learned[1] == 4, (
        "the late slice was learned, now or while it was late"
    )


def choose(service, project, case, number, author="ann"):
    body = {"case": case, "axis": 0, "slice": number, "author": author}
    return service.ok("POST", f"/projects/{project}/worklist", 201, json=body)[0]


def test_a_first_batch_that_a_person_chose_is_learned(common, scan):
    """Also while it is learned slices can be chosen; what stays open is in the next worklist,
    behind its batch.
    """
    project = new(common, scan, "by hand")
    done(common, project, "plan")
    for number in (0, 2):
        annotate(common, project, choose(common, project, "c0", number))
    left = [choose(common, project, "c1", 0), choose(common, project, "c0", 1)]
    training = start(common, project, "round", strategy="entropy", budget=1, ahead=0)
    wait(common, project, training, ("running",))
    late = choose(common, project, "c1", 3)
    assert annotate(common, project, late)["status"] == "done", (
        "a person chooses while the model is trained"
    )
    assert wait(common, project, training)["state"] == "done"
    first, second = common.ok("GET", f"/projects/{project}/rounds")
    assert (first["strategy"], first["state"], second["strategy"]) == (
        "chosen",
        "finished",
        "entropy",
    )
    point = common.ok("GET", f"/projects/{project}/curve")[0]
    assert point["strategy"] == "chosen" and point["labelled_samples"] in (2, 3)
    top, *others = worklist(common, project)
    assert top["uncertainty"] == 1 and top["reason"].startswith("entropy"), (
        "the most uncertain one of the pool"
    )
    assert [row["sample"] for row in others] == [
        row["sample"] for row in left if row["sample"] != top["sample"]
    ]
    assert {(row["reason"], row["uncertainty"], row["ahead"]) for row in others} == {
        ("chosen by ann", None, False)
    }
    with Project.open(common.root / project, read_only=True) as opened:
        record = AnnotationLoop(opened).loop.rounds()[0]
    assert record.strategy == "chosen" and len(record.selected["ids"]) >= 2
    assert set(record.selected["reasons"]) == {"chosen by ann"}
    check_maps(common, project, others[0])


def check_maps(service, project, row):
    """The map of a slice is that part of the map of its case, and of the newest model or not
    given at all.
    """
    place = f"/projects/{project}/samples/{row['sample']}/uncertainty"
    service.refused("GET", place, 409, "not_ready")
    done(service, project, "uncertainty")
    one = service.send("GET", place)
    whole = read(service, f"/projects/{project}/cases/{row['case']}/uncertainty?format=nrrd")
    assert (one.headers["X-Version"], one.headers["X-Dtype"]) == ("0", "float32")
    assert (
        one.content == whole[tuple(slice(*extent) for extent in row["box"])].astype("<f4").tobytes()
    )
    annotate(service, project, row)
    done(service, project, "round", strategy="random", budget=1)
    service.refused("GET", place, 409, "not_ready")


def read(service, place):
    """The voxels of a file that the service gives."""
    file = service.root / "read.nrrd"
    file.write_bytes(service.send("GET", place).content)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def check_rounds(service, project):
    """What a panel shows: how long the training really took, and its steps, which were written
    before it began.
    """
    finished, begun = service.ok("GET", f"/projects/{project}/rounds")
    assert (finished["state"], begun["state"]) == ("finished", "open")
    written = json.loads(
        (service.root / project / "rounds" / "000" / "length.json").read_text(encoding="utf-8")
    )
    assert (
        written["seconds"] == 1 and finished["steps"] == written["epochs"] * written["iterations"]
    )
    assert finished["train_seconds"] > 0 and begun["train_seconds"] is begun["steps"] is None
    status = service.ok("GET", f"/projects/{project}")["status"]
    assert status["train_for"] is None, (
        "the project has a number of steps; the time was that round's"
    )
    assert status["rounds"][0]["train_seconds"] == finished["train_seconds"]


def check_events(service, project, job):
    events = service.ok("GET", f"/projects/{project}/events?limit=1000")
    numbers = [event["number"] for event in events]
    assert numbers == sorted(set(numbers))
    own = [event for event in events if event["data"].get("job") == job]
    assert {"job", "step", "epoch"} <= {event["kind"] for event in own}
    states = [event["data"]["state"] for event in own if event["kind"] == "job"]
    assert states == ["running", "done"]
    middle = numbers[len(numbers) // 2]
    rest = service.ok("GET", f"/projects/{project}/events?after={middle}&limit=1000")
    assert rest == [event for event in events if event["number"] > middle]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(middle)}
    with service.send("GET", f"/projects/{project}/events", headers=headers, stream=True) as answer:
        lines = (
            line for line in answer.iter_lines(decode_unicode=True) if line.startswith("data:")
        )
        streamed = [json.loads(next(lines)[5:]) for _ in rest]
    assert streamed == rest


def at_work(service, project, kind="plan"):
    """Starts a job and waits until a child process works for it."""
    job = start(service, project, kind)
    for _ in range(2000):
        if len(tree(service.root)) > 1:
            return job
        time.sleep(0.05)
    raise AssertionError(service.ok("GET", f"/projects/{project}/jobs/{job}"))


def test_cancel_ends_the_process_and_its_children(service, scan):
    project = new(service, scan, "cancel")
    job = at_work(service, project)
    waiting = start(service, project, "plan")
    assert f"job {job}" in wait_for_reason(service, project, waiting)
    service.ok("DELETE", f"/projects/{project}/jobs/{waiting}")
    assert wait(service, project, waiting)["state"] == "cancelled"
    service.ok("DELETE", f"/projects/{project}/jobs/{job}")
    assert wait(service, project, job)["state"] == "cancelled"
    while tree(service.root):
        time.sleep(0.05)
    assert service.ok("DELETE", f"/projects/{project}/jobs/{job}")["state"] == "cancelled"


def wait_for_reason(service, project, job):
    for _ in range(100):
        found = service.ok("GET", f"/projects/{project}/jobs/{job}")
        if found["waiting"]:
            assert found["state"] == "queued"
            return found["waiting"]
        time.sleep(0.1)
    raise AssertionError(found)


def test_a_job_outlives_its_service_and_goes_on_after_its_own_death(service, scan):
    project = new(service, scan, "deaths")
    job = at_work(service, project)
    worker, child, *_ = tree(service.root)
    child.suspend()  # so that there is time to look
    service.stop(9)
    service.start()
    found = service.ok("GET", f"/projects/{project}/jobs/{job}")
    assert found["state"] == "running" and found["attempts"] == 1, "the job went on alone"
    assert tree(service.root)[0].pid == worker.pid
    kill(worker.pid)
    kill(child.pid)
    found = wait(service, project, job)
    assert found["state"] == "done" and found["attempts"] == 2
    assert not service.ok("GET", f"/projects/{project}")["status"]["unplanned"]


def test_a_job_that_dies_again_and_again_is_given_up(service, scan):
    project = new(service, scan, "hopeless")
    job = start(service, project, "plan")
    for attempt in (1, 2, 3):
        while service.ok("GET", f"/projects/{project}/jobs/{job}")["attempts"] < attempt:
            time.sleep(0.05)
        kill(tree(service.root)[0].pid)
    found = wait(service, project, job)
    assert found["state"] == "failed" and "died" in found["error"]["message"]


def test_a_request_sent_twice_starts_one_job(common):
    project = common.project("twice")
    headers = {"Idempotency-Key": "k1"}
    first = start(common, project, "plan", headers)
    assert start(common, project, "plan", headers) == first
    body = {"kind": "export", "options": {}}
    common.refused(
        "POST", f"/projects/{project}/jobs", 422, "key_reused", json=body, headers=headers
    )
    found = wait(common, project, first)
    assert found["state"] == "failed" and found["error"]["code"] == "bad_request", (
        "there is nothing to plan"
    )


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "dance"},
        {"kind": "plan", "options": {"x": 1}},
        {"kind": "round", "options": {"budget": 0}},
        {"kind": "round", "options": {"budget": True}},
        {"kind": "round", "options": {"strategy": "usimx"}},
        {"kind": "round", "options": {"train_for": "5m"}},
        {"kind": "round", "options": {"train_for": True}},
        {"kind": "round", "options": {"train_for": None}},
        {"kind": "round", "options": {"train_for": 1e300}},
        {"kind": "plan", "options": {"train_for": 60}},
        {"kind": "predict", "options": {"cases": ["a" * 999]}},
        {"kind": "simulate", "options": {"group": 5}},
        {"kind": "export", "options": {"what": "everything"}},
    ],
)
def test_jobs_that_cannot_be(common, body):
    project = common.project("cannot")
    common.refused("POST", f"/projects/{project}/jobs", 400, "bad_request", json=body)
    assert common.ok("GET", f"/projects/{project}/jobs") == []


@pytest.mark.parametrize("seconds", [0, -5, 0.5, 604801])
def test_a_round_cannot_train_for_such_a_time(common, seconds):
    project = common.project("time")
    body = {"kind": "round", "options": {"train_for": seconds}}
    problem = common.refused("POST", f"/projects/{project}/jobs", 400, "bad_request", json=body)
    assert problem["message"] == f"A training of {seconds} s is not possible."
    assert problem["hint"] == "Train between 1 second and 7 days."


def test_a_simulation_on_the_labelled_cases(common, tmp_path):
    """A service simulates too: the result is a zip of its tables and pictures."""
    data = make_phantom(tmp_path / "phantom", cases=5)
    project = common.project("simulated", iterations=2)
    for image in sorted((data / "imagesTr").glob("*.nii.gz")):
        common.add_case(
            project, image.name.removesuffix(".nii.gz"), image, data / "labelsTr" / image.name
        )
    options = {
        "strategies": ["random"],
        "rounds": 1,
        "budget": 2,
        "initial": 4,
        "group": r"(phantom_\d+)",
    }
    job = done(common, project, "simulate", **options)
    answer = common.send("GET", f"/projects/{project}/jobs/{job['id']}/result")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {"curves.csv", "rounds.csv", "curves.png", "splits.json"} <= set(archive.namelist())


def test_a_simulation_is_asked_which_cases_are_of_one_patient(common, tmp_path):
    data = make_phantom(tmp_path / "phantom", cases=2)
    project = common.project("hearts", iterations=2)
    for image, name in zip(
        sorted((data / "imagesTr").glob("*.nii.gz")), ("heart01", "heart02"), strict=True
    ):
        for phase in ("ED", "ES"):
            common.add_case(project, f"{name}_{phase}", image, data / "labelsTr" / image.name)
    error = wait(common, project, start(common, project, "simulate"))["error"]
    assert "'heart01_ED' and 'heart01_ES' look like one patient" in error["message"]
    assert r'--group "(heart\d+)"' in error["hint"]
    error = wait(common, project, start(common, project, "simulate", group=r"(heart\d+)"))["error"]
    assert error["message"] == "4 cases of 2 patients are too few for 5 folds."
