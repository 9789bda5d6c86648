"""A case is imported by a job: it survives, shows how far it is, can be cancelled, and queues."""

from __future__ import annotations

import time

import numpy as np
import pytest
import SimpleITK as sitk
from running import kill
from test_jobs import tree

SLICES = 300


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A scan that takes a second or two to import: 150 MiB, which pack well."""
    voxels = np.empty((SLICES, 512, 512), np.int16)
    stripe = np.random.default_rng(1).integers(0, 400, (16, 512), np.int16)
    voxels[:] = np.tile(stripe, (32, 1))
    voxels[0] += 1
    file = tmp_path_factory.mktemp("large") / "large.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file), True)
    return file


def asked(service, project, name, uploads, status=202, label=None):
    """The job of a request for a case."""
    body = {"name": name, "role": "pool", "images": uploads, "label": label}
    return service.ok("POST", f"/projects/{project}/cases", status, json=body)


def running(service, project, job):
    """Wait until a job is at work."""
    while service.ok("GET", f"/projects/{project}/jobs/{job}")["state"] == "queued":
        time.sleep(0.02)


def names(service, project):
    return [case["name"] for case in service.ok("GET", f"/projects/{project}/cases")]


def kept(service, project):
    """Files of images and reference labels that the project has."""
    folders = [service.root / project / name for name in ("images", "labels")]
    return sorted(file.name for folder in folders for file in folder.iterdir())


def test_the_same_request_finds_the_job_and_then_the_case(common, scan):
    project, upload = common.project("again"), common.upload(scan("a.nii.gz"))
    job = asked(common, project, "a", [upload])
    assert job["kind"] == "import" and job["state"] in ("queued", "running")
    assert asked(common, project, "a", [upload], 200)["id"] == job["id"]
    other = common.upload(scan("other.nii.gz", 1))
    body = {"name": "A", "role": "pool", "images": [other], "label": None}
    common.refused("POST", f"/projects/{project}/cases", 409, "exists", json=body)
    assert common.ended(project, job["id"])["state"] == "done"
    common.refused("GET", f"/uploads/{upload}", 404, "not_found")
    assert asked(common, project, "a", [upload], 200)["id"] == job["id"]
    common.refused("POST", f"/projects/{project}/cases", 409, "exists", json=body)
    assert names(common, project) == ["a"]


def test_many_cases_wait_their_turn_also_of_one_file_and_in_two_projects(common, scan):
    projects = [common.project("queue"), common.project("queue 2")]
    uploads = [common.upload(scan(f"q{number}.nii.gz", number)) for number in range(12)]
    jobs = [
        (project, asked(common, project, f"c{number}{twin}", [upload])["id"])
        for number, upload in enumerate(uploads)
        for project in projects
        for twin in ("", "b")
    ]
    assert {common.ended(*job)["state"] for job in jobs} == {"done"}
    for project in projects:
        assert len(names(common, project)) == 2 * len(uploads)
    for upload in uploads:
        common.refused("GET", f"/uploads/{upload}", 404, "not_found")


def test_a_file_that_cannot_be_used_is_named_as_the_case_and_the_next_goes_on(common, scan):
    project, file = common.project("flat"), scan("flat.nii.gz")
    flat = sitk.ReadImage(str(file)) * 0 + 7
    sitk.WriteImage(flat, str(file))
    upload = common.upload(file)
    first = asked(common, project, "flat", [upload])
    second = asked(common, project, "good", [common.upload(scan("good.nii.gz"))])
    ended = common.ended(project, first["id"])
    assert ended["error"]["message"] == (
        "Case flat: flat_0000.nii.gz holds the value 7 everywhere."
    )
    assert common.ended(project, second["id"])["state"] == "done"
    assert names(common, project) == ["good"] and kept(common, project) == ["good_0000.mha"]
    assert common.ok("GET", f"/uploads/{upload}")["offset"], "another case can be made of it"


def test_an_import_begins_with_its_case_alone(common, scan):
    project, upload = common.project("one way"), common.upload(scan("w.nii.gz"))
    options = {"name": "w", "images": [upload], "role": "pool", "label": None}
    body = {"kind": "import", "options": options}
    common.refused("POST", f"/projects/{project}/jobs", 400, "bad_request", json=body)


def test_it_says_how_far_it_is_and_how_long_it_takes(common, large):
    project = common.project("progress")
    job = common.imported(project, {"name": "p", "images": [common.upload(large)]})
    assert job["state"] == "done" and job["progress"]["phase"] == "import"
    told = common.ok("GET", f"/projects/{project}/events?limit=1000")
    steps = [event["data"] for event in told if event["kind"] == "progress"]
    for phase in ("check", "import"):
        parts = [step for step in steps if step["phase"] == phase]
        assert parts[-1]["done"] == parts[-1]["total"] == 1 and parts[-1]["seconds_left"] == 0
        assert all(step.get("seconds_left", 0) >= 0 for step in parts)
    assert any(0 < step["done"] < 1 and step["seconds_left"] > 0 for step in steps)


def test_a_cancelled_import_leaves_nothing_and_can_be_asked_for_again(common, large):
    project, upload = common.project("cancel"), common.upload(large)
    jobs = [asked(common, project, "c", [upload])["id"]]
    jobs.append(asked(common, project, "behind", [upload])["id"])
    running(common, project, jobs[0])
    for job in jobs:
        common.ok("DELETE", f"/projects/{project}/jobs/{job}")
    assert [common.ended(project, job)["state"] for job in jobs] == ["cancelled"] * 2
    assert names(common, project) == [] and kept(common, project) == []
    again = asked(common, project, "c", [upload])
    assert again["id"] not in jobs
    assert common.ended(project, again["id"])["state"] == "done"
    assert names(common, project) == ["c"] and kept(common, project) == ["c_0000.mha"]


@pytest.mark.slow
def test_a_cancelled_import_that_writes_for_long_is_ended_and_leaves_nothing(common, tmp_path):
    """An image is written anew, by a library that cannot be interrupted."""
    project, file = common.project("long"), tmp_path / "noise.nii"
    voxels = np.random.default_rng(0).integers(0, 4000, (300, 512, 512), np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    job = asked(common, project, "n", [common.upload(file, 8 << 20)])["id"]
    place = f"/projects/{project}/jobs/{job}"
    while (common.ok("GET", place)["progress"] or {}).get("phase") != "import":
        time.sleep(0.05)
    common.ok("DELETE", place)
    assert common.ended(project, job)["state"] == "cancelled"
    assert names(common, project) == [] and kept(common, project) == []


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["service", "job", "both"])
def test_an_import_survives_a_crash(service, large, dies):
    project, upload = service.project("crash"), service.upload(large)
    job = asked(service, project, "k", [upload])["id"]
    running(service, project, job)
    if dies != "job":
        service.stop(9)
    if dies != "service":
        for process in tree(service.root):
            kill(process.pid)
    if dies != "job":
        service.start()
    assert asked(service, project, "k", [upload], 200)["id"] == job
    assert service.ended(project, job)["state"] == "done"
    assert names(service, project) == ["k"] and kept(service, project) == ["k_0000.mha"]
    service.refused("GET", f"/uploads/{upload}", 404, "not_found")
