"""Structures that come, go and change their names while people work through the service."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from planned_project import plan

from alunet.project import Project
from alunet.storage.files import FolderLock

SHAPE = (8, 20, 24)
SLICE = (1, 20, 24)


@pytest.fixture
def project(common, scan):
    """A planned project of its own with the case "a" and the structures that the service's tests
    have.
    """
    name = common.project(f"structures {uuid.uuid4().hex[:8]}")
    common.add_case(name, "a", scan("a.nii.gz", 3, SHAPE))
    with Project.open(common.root / name) as opened:
        plan(opened)
    return name


def place(project, number=None):
    return f"/projects/{project}/structures" + ("" if number is None else f"/{number}")


def labels_of(common, project):
    return common.ok("GET", f"/projects/{project}")["labels"]


def put(project, labels, base=0, known=None):
    headers = {"Idempotency-Key": uuid.uuid4().hex, "X-Not-Annotated": "255"}
    headers |= {"X-Shape": "1,20,24", "X-Dtype": "uint8"}
    headers |= {} if known is None else {"X-Structures": str(known)}
    path = f"/projects/{project}/samples/0/annotation?author=ann&base_version={base}"
    return {"path": path, "data": labels.tobytes(), "headers": headers}


def stored(common, project):
    answer = common.send("GET", f"/projects/{project}/samples/0/annotation")
    return np.frombuffer(answer.content, np.uint8).reshape(SLICE), answer.headers["X-Version"]


def drawn(value=1):
    labels = np.zeros(SLICE, np.uint8)
    labels[:, 3:9, 4:10] = value
    return labels


def test_a_structure_is_added_once_and_everyone_hears_of_it(common, project):
    before = labels_of(common, project)
    body = {"name": "vessel", "author": "Ann", "color": "#40C0E0"}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    done = common.ok("POST", place(project), json=body, headers=key)
    assert common.ok("POST", place(project), json=body, headers=key) == done
    number = len(before)
    assert labels_of(common, project) == {**before, "vessel": number}
    assert common.ok("GET", f"/projects/{project}")["colors"] == {"vessel": "#40c0e0"}
    assert common.ok("GET", place(project)) == done["structures"]
    events = common.ok("GET", f"/projects/{project}/events")
    told = [event["data"] for event in events if event["kind"] == "structures"]
    assert [(one["change"], one["number"]) for one in told] == [("added", number)]
    common.refused("POST", place(project), 400, "bad_request", json=body)


def test_what_only_a_person_can_say_is_asked_for(common, project):
    common.ok("PUT", **put(project, drawn()))
    body = {"name": "vessel", "author": "Ann"}
    problem = common.refused("POST", place(project), 409, "answer_needed", json=body)
    assert problem["details"]["about"] == "earlier"
    assert set(problem["details"]["choices"]) == {"open", "absent"}
    done = common.ok("POST", place(project), json={**body, "earlier": "open"})
    assert done["again"] == 1
    rows = common.ok("GET", f"/projects/{project}/worklist")
    assert [(row["sample"], row["status"], row["version"]) for row in rows] == [(0, "flagged", 2)]
    path = place(project, 1) + "?author=Ann"
    assert common.refused("DELETE", path, 409, "answer_needed")["details"]["about"] == "voxels"


def test_a_name_changes_and_a_number_never_does(common, project):
    common.ok("PUT", **put(project, drawn()))
    number = 1
    common.ok("PATCH", place(project, number), json={"name": "hepar", "author": "Ann"})
    assert labels_of(common, project)["hepar"] == number
    assert (stored(common, project)[0] == drawn()).all()
    common.refused(
        "PATCH", place(project, 99), 404, "not_found", json={"name": "x", "author": "Ann"}
    )


def test_labels_with_a_removed_structure_are_refused_by_its_name(common, project):
    common.ok("POST", place(project), json={"name": "cyst", "author": "Ann"})
    number = labels_of(common, project)["cyst"]
    common.ok("PUT", **put(project, drawn(number)))
    path = place(project, number) + "?author=Ann&voxels=background"
    done = common.ok("DELETE", path)
    assert number not in [one["number"] for one in done["structures"]]
    assert not stored(common, project)[0].any() and stored(common, project)[1] == "2"
    assert common.ok("GET", f"/projects/{project}")["replaced"] == {str(number): 0}
    problem = common.refused("PUT", status=400, code="bad_request", **put(project, drawn(number)))
    assert "'cyst'" in problem["message"] and "removed" in problem["message"]
    # what was based on the version before the change is no conflict
    assert common.ok("PUT", **put(project, drawn(), base=1))["version"] == 3


def test_labels_drawn_before_a_structure_came_say_nothing_of_it(common, project):
    highest = max(labels_of(common, project).values())
    common.ok("POST", place(project), json={"name": "vessel", "author": "Ann"})
    common.ok("PUT", **put(project, drawn(), known=highest))
    assert (stored(common, project)[0] == np.where(drawn() == 0, 255, drawn())).all()
    rows = common.ok("GET", f"/projects/{project}/worklist")
    assert [(row["sample"], row["status"]) for row in rows] == [(0, "flagged")]
    assert "vessel" in rows[0]["reason"]
    common.ok("PUT", **put(project, drawn(), base=1, known=highest + 1))
    assert (stored(common, project)[0] == drawn()).all()


def test_while_a_job_has_the_project_nothing_changes(common, project):
    lock = FolderLock(common.root / project)
    try:
        body = {"name": "vessel", "author": "Ann"}
        common.refused("POST", place(project), 409, "busy", json=body)
    finally:
        lock.release()
    assert "vessel" not in labels_of(common, project)


def test_a_client_that_does_not_say_which_voxels_are_open_is_refused_after_a_change(
    common, project
):
    common.ok("POST", place(project), json={"name": "vessel", "author": "Ann"})
    request = put(project, drawn())
    del request["headers"]["X-Not-Annotated"]
    problem = common.refused("PUT", status=400, code="bad_request", **request)
    assert "X-Not-Annotated" in problem["hint"]
