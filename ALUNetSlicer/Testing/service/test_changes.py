"""Over the service: cases that leave and come back, that are erased, and labels taken back."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import pytest
from planned_project import geometry, plan, suggest

from alunet.loop.preparation import enumerate_samples
from alunet.project import Project

SHAPE = (6, 20, 24)


@pytest.fixture
def project(common, scan):
    """A project of its own with the planned cases "a" and "b", in the service of all tests."""
    name = common.project(f"changes {uuid.uuid4().hex[:8]}")
    for case in ("a", "b"):
        common.add_case(name, case, scan(f"{case}.nii.gz", ord(case), SHAPE))
    with Project.open(common.root / name) as opened:
        suggest(plan(opened), [0, 1, 7, 8])
    return name


def annotate(service, project, sample, value=1, base=0, status=200):
    headers = {
        "Idempotency-Key": uuid.uuid4().hex,
        "X-Shape": "1,20,24",
        "X-Dtype": "uint8",
    }
    body = np.full(SHAPE[1:], value, np.uint8).tobytes()
    place = f"/projects/{project}/samples/{sample}/annotation?author=Ann&base_version={base}"
    return service.ok("PUT", place, status, data=body, headers=headers)


def change(service, project, case, status=200, **wanted):
    body = {"author": "Ann", **wanted}
    return service.ok("PATCH", f"/projects/{project}/cases/{case}", status, json=body)


def rows(service, project):
    found = service.ok("GET", f"/projects/{project}/worklist")
    return {row["sample"]: (row["status"], row["version"]) for row in found}


def take_back(service, project, sample, key=None, **wanted):
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    place = f"/projects/{project}/samples/{sample}/taking-back"
    return service.ok("POST", place, json={"author": "Bob", **wanted}, headers=headers)


def told(service, project, kind):
    events = service.ok("GET", f"/projects/{project}/events?limit=1000")
    return [event["data"] for event in events if event["kind"] == kind]


def test_a_removed_case_leaves_the_worklist_and_comes_back_with_its_labels(common, project):
    annotate(common, project, 0)
    answer = change(common, project, "a", state="removed")
    assert (answer["name"], answer["state"]) == ("a", "removed")
    assert "No longer counted: 1 annotated slice." in answer["says"]
    assert set(rows(common, project)) == {7, 8}
    listed = {case["name"]: case for case in common.ok("GET", f"/projects/{project}/cases")}
    assert (listed["a"]["state"], listed["a"]["annotated"]) == ("removed", 1)
    common.refused("GET", f"/projects/{project}/cases/a", 404, "not_found")
    common.refused(
        "PUT",
        f"/projects/{project}/samples/1/annotation?author=Ann",
        404,
        "not_found",
        data=bytes(480),
        headers={"Idempotency-Key": "1", "X-Shape": "1,20,24", "X-Dtype": "uint8"},
    )
    assert change(common, project, "a", state="removed") == answer, "asked again"
    assert change(common, project, "a", state="present")["says"][1:] == [
        "Counted again: 1 annotated slice."
    ]
    assert rows(common, project)[0] == ("done", 1)
    states = [event["state"] for event in told(common, project, "case")]
    assert states == ["removed", "present"]


def test_a_case_changes_its_role_and_what_cannot_be_is_refused(common, project):
    assert change(common, project, "a", role="test")["role"] == "test"
    status = common.ok("GET", f"/projects/{project}")["status"]
    assert (status["cases"], status["test_cases"]) == (["b"], ["a"])
    body = {"author": "Ann", "role": "spare"}
    place = f"/projects/{project}/cases/a"
    common.refused("PATCH", place, 400, "bad_request", json=body)
    common.refused("PATCH", place, 400, "bad_request", json={"author": "Ann", "state": "gone"})
    common.refused("PATCH", place, 400, "bad_request", json={"author": " ", "role": "pool"})
    nobody = f"/projects/{project}/cases/nobody"
    common.refused("PATCH", nobody, 404, "not_found", json={"author": "Ann", "role": "pool"})
    change(common, project, "a", state="removed")
    problem = common.refused("PATCH", place, 400, "bad_request", json={**body, "role": "pool"})
    assert problem["hint"] == "Restore it first."


def test_labels_are_taken_back_and_brought_back_once_for_each_key(common, project):
    annotate(common, project, 0, value=2)
    first = take_back(common, project, 0, key="k", base_version=1)
    assert (first["status"], first["version"], first["says"]) == ("todo", 2, [])
    assert take_back(common, project, 0, key="k", base_version=1) == first
    assert rows(common, project)[0] == ("todo", 2)
    held = common.send("GET", f"/projects/{project}/samples/0/annotation")
    assert held.headers["X-Version"] == "2" and set(held.content) == {255}
    common.refused(
        "POST",
        f"/projects/{project}/samples/0/taking-back",
        400,
        "bad_request",
        json={"author": "Bob"},
        headers={"Idempotency-Key": "k2"},
    )
    assert take_back(common, project, 0, undo=True)["status"] == "done"
    held = common.send("GET", f"/projects/{project}/samples/0/annotation")
    assert set(held.content) == {2}
    statuses = [event["status"] for event in told(common, project, "sample")]
    assert statuses == ["done", "todo", "done"]


def test_labels_that_somebody_else_changed_are_not_taken_back(common, project):
    annotate(common, project, 0)
    annotate(common, project, 0, value=2, base=1)
    problem = common.refused(
        "POST",
        f"/projects/{project}/samples/0/taking-back",
        409,
        "stale_annotation",
        json={"author": "Bob", "base_version": 1},
        headers={"Idempotency-Key": uuid.uuid4().hex},
    )
    assert problem["details"]["version"] == 2


def test_an_erased_case_leaves_nothing_in_the_project_nor_in_the_service(common, project, scan):
    annotate(common, project, 0)
    for form in ("nrrd", "nii.gz"):
        common.send("GET", f"/projects/{project}/cases/a/images/0?format={form}")
    converted = list((common.root / ".alunet" / "converted").iterdir())
    assert converted
    again = common.upload(scan("a.nii.gz", ord("a"), SHAPE))  # sent once more, and never used
    place, headers = f"/projects/{project}/cases/a/erasure", {"Idempotency-Key": "once"}
    with Project.open(common.root / project):
        common.refused("POST", place, 409, "busy", json={"author": "Ann"}, headers=headers)
    answer = common.ok("POST", place, json={"author": "Ann"}, headers=headers)
    assert (answer["name"], answer["state"]) == ("erased-1", "erased")
    assert "Backups" in " ".join(answer["says"])
    assert common.ok("POST", place, json={"author": "Ann"}, headers=headers) == answer
    assert not any(file.exists() for file in converted)
    common.refused("GET", f"/uploads/{again}", 404, "not_found")
    assert [case["name"] for case in common.ok("GET", f"/projects/{project}/cases")] == ["b"]
    assert told(common, project, "case")[-1]["case"] == "erased-1"
    assert set(rows(common, project)) == {7, 8}
    voxels = scan("a.nii.gz", ord("a"), SHAPE).read_bytes()
    left = [file for file in (common.root / project).rglob("*") if file.is_file()]
    assert not any(file.name.startswith("a_") or file.name.startswith("a.") for file in left)
    assert hashlib.sha256(voxels).digest() not in {
        hashlib.sha256(file.read_bytes()).digest() for file in left
    }


def test_a_case_that_comes_while_a_round_is_open_changes_no_number(common, project, scan):
    annotate(common, project, 8)
    before = rows(common, project)
    change(common, project, "b", state="removed")
    common.add_case(project, "0 late", scan("late.nii.gz", 9, SHAPE))
    with Project.open(common.root / project) as opened:
        opened.cases.set_geometry("0 late", geometry("0 late", SHAPE))
        enumerate_samples(opened)
        assert opened.pool.samples_of("0 late").tolist() == list(range(12, 18))
    change(common, project, "b", state="present")
    assert rows(common, project) == before


def test_while_a_job_has_the_project_cases_are_removed_and_new_ones_wait(common, project, scan):
    """What a running training reads stays on disk; the next one knows what no longer counts."""
    annotate(common, project, 0)
    with Project.open(common.root / project) as job:
        job.rounds.begin("spread", 4)
        job.learned.begin(0)
        said = " ".join(take_back(common, project, 0)["says"])
        assert "the next training starts anew" in said
        take_back(common, project, 0, undo=True)
        said = " ".join(change(common, project, "a", state="removed")["says"])
        assert "nothing else is annotated" in said
        body = {"name": "new", "images": [common.upload(scan("new.nii.gz", 5, SHAPE))]}
        waiting = common.ok("POST", f"/projects/{project}/cases", 202, json=body)
        assert job.learned.forgotten() == 1
        assert len(job.cases.all(removed=True)) == 2
    assert common.ended(project, waiting["id"])["state"] == "done"
