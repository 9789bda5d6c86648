"""Uploads go on where they were cut, count only when whole, and become cases once."""

from __future__ import annotations

import gzip
import hashlib
import os
import time

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.imaging.grids import Grid


def about(content: bytes, name: str = "a.nii.gz") -> dict:
    return {"filename": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_an_upload_goes_on_after_a_cut_and_after_a_restart_of_the_service(service):
    content = os.urandom(300_000)
    upload = service.ok("POST", "/uploads", 201, json=about(content))
    place = f"/uploads/{upload['id']}"
    assert upload["offset"] == 0
    service.ok("PATCH", place, data=content[:100_000], headers={"Upload-Offset": "0"})
    problem = service.refused(
        "PATCH", place, 409, "wrong_offset", data=content[:9], headers={"Upload-Offset": "0"}
    )
    assert problem["details"] == {"offset": 100_000}
    service.stop(9)
    service.start()
    assert service.ok("POST", "/uploads", 200, json=about(content))["offset"] == 100_000
    done = service.ok("PATCH", place, data=content[100_000:], headers={"Upload-Offset": "100000"})
    assert done["offset"] == 300_000 == service.ok("GET", place)["offset"]


def test_a_crash_between_the_last_part_and_its_check_is_made_up_for(common):
    """Whoever is told that all bytes are there can rely on it."""
    content, folder = os.urandom(1000), common.root / ".alunet" / "uploads"
    identity = common.ok("POST", "/uploads", 201, json=about(content))["id"]
    whole, part = (folder / f"{identity}{ending}" for ending in (".nii.gz", ".part"))
    for ask in (("GET", f"/uploads/{identity}", 200), ("POST", "/uploads", 200)):
        part.write_bytes(content)  # as the crash leaves it
        assert common.ok(*ask, json=about(content))["offset"] == 1000
        assert whole.read_bytes() == content and not part.exists()
        whole.unlink()
    part.write_bytes(content[::-1])
    common.refused("GET", f"/uploads/{identity}", 422, "bad_checksum")
    common.refused("GET", f"/uploads/{identity}", 404, "not_found")


def test_bytes_that_do_not_fit_the_checksum_are_dropped(common):
    content = b"x" * 1000
    place = "/uploads/" + common.ok("POST", "/uploads", 201, json=about(content))["id"]
    common.refused(
        "PATCH", place, 422, "bad_checksum", data=b"y" * 1000, headers={"Upload-Offset": "0"}
    )
    common.refused("GET", place, 404, "not_found")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"size": 0}, 400, "bad_request"),
        ({"size": 1 << 62}, 413, "too_large"),
        ({"sha256": "../../etc/passwd"}, 400, "bad_request"),
        ({"filename": "model.pth"}, 400, "bad_request"),
        ({"filename": "names-another-file.mhd"}, 400, "bad_request"),
        ({"size": "many"}, 400, "bad_request"),
    ],
)
def test_uploads_that_cannot_be(common, change, status, code):
    common.refused("POST", "/uploads", status, code, json={**about(b"x"), **change})


def test_a_part_must_fit(common):
    content = os.urandom(1000)
    place = "/uploads/" + common.ok("POST", "/uploads", 201, json=about(content))["id"]
    common.refused(
        "PATCH", place, 413, "too_large", data=content + b"more", headers={"Upload-Offset": "0"}
    )
    common.refused(
        "PATCH", place, 413, "too_large", data=b"0" * (9 << 20), headers={"Upload-Offset": "0"}
    )
    common.refused("PATCH", place, 400, "bad_request", data=content)
    chunked = iter([b"0" * (1 << 20)] * 20)
    common.refused("PATCH", place, 413, "too_large", data=chunked, headers={"Upload-Offset": "0"})
    assert common.ok("GET", place)["offset"] == 0


def test_a_case_is_made_once_and_its_image_comes_back_voxel_by_voxel(common, scan, tmp_path):
    project = common.project("cases")
    file = scan("b.nii.gz")
    body = {"name": "b", "images": [common.upload(file)], "role": "pool", "label": None}
    job = common.imported(project, body)
    assert job["state"] == "done", job
    made = common.ok("GET", f"/projects/{project}/cases/b")
    assert made["shape"] == [4, 40, 48] and made["spacing"] == pytest.approx([3.0, 0.8, 0.8])
    assert common.ok("POST", f"/projects/{project}/cases", 200, json=body)["id"] == job["id"]
    other = {**body, "images": [common.upload(scan("c.nii.gz", 1))]}
    common.refused("POST", f"/projects/{project}/cases", 409, "exists", json=other)
    assert [case["name"] for case in common.ok("GET", f"/projects/{project}/cases")] == ["b"]
    answer = common.send("GET", f"/projects/{project}/cases/b/images/0")
    (tmp_path / "b.mha").write_bytes(answer.content)  # written anew: no header of others
    back, sent = (sitk.ReadImage(str(place)) for place in (tmp_path / "b.mha", file))
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(sent))
    assert Grid.of(back) == Grid.of(sent)
    assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'


def test_parts_of_a_file(common, scan):
    project = common.project("parts")
    file = scan("d.nii.gz")
    common.add_case(project, "d", file)
    place = f"/projects/{project}/cases/d/images/0"
    answer = common.send("GET", place)
    tag, content = answer.headers["ETag"], answer.content
    part = common.send("GET", place, headers={"Range": "bytes=100-", "If-Range": tag})
    assert part.status_code == 206 and part.content == content[100:]
    whole = common.send("GET", place, headers={"Range": "bytes=100-", "If-Range": '"another"'})
    assert whole.status_code == 200 and whole.content == content
    assert common.send("GET", place, headers={"If-None-Match": tag}).status_code == 304
    for text in ("bytes=99999999-", "bytes=9-3", "lines=1-2", "bytes=-0", "bytes=0-1,5-6"):
        common.refused("GET", place, 416, "bad_range", headers={"Range": text})


def test_another_format_has_the_same_voxels_at_the_same_place(common, scan, tmp_path):
    project = common.project("formats")
    file = scan("e.nii.gz")
    common.add_case(project, "e", file)
    answer = common.send("GET", f"/projects/{project}/cases/e/images/0?format=nrrd")
    (tmp_path / "e.nrrd").write_bytes(answer.content)
    one, two = sitk.ReadImage(str(file)), sitk.ReadImage(str(tmp_path / "e.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(two))
    assert (
        one.GetSpacing() == pytest.approx(two.GetSpacing())
        and one.GetDirection() == two.GetDirection()
    )
    common.refused("GET", f"/projects/{project}/cases/e/images/0?format=exe", 400, "bad_request")
    common.refused("GET", f"/projects/{project}/cases/e/annotation", 404, "not_found")
    common.refused("GET", f"/projects/{project}/cases/e/images/1", 404, "not_found")


def test_an_image_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(common, tmp_path):
    """4 TiB of zeros behind a few bytes of gzip, and a header that promises as much."""
    project = common.project("bombs")
    header = bytearray(352)
    header[:4] = (348).to_bytes(4, "little")
    for axis, extent in enumerate((3, 16384, 16384, 16384)):
        header[40 + 2 * axis : 42 + 2 * axis] = extent.to_bytes(2, "little")
    header[70:74] = (2).to_bytes(2, "little") + (8).to_bytes(2, "little")
    header[344:348] = b"n+1\0"
    promising = tmp_path / "promise.nii.gz"
    promising.write_bytes(gzip.compress(bytes(header)))
    body = {"name": "bomb", "images": [common.upload(promising)]}
    common.unusable(project, body, "too_large")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "nul\x00", "x" * 300])
def test_names_of_cases_stay_names(common, scan, name):
    project = common.project("names")
    body = {"name": name, "images": [common.upload(scan("f.nii.gz"))]}
    common.refused("POST", f"/projects/{project}/cases", 400, "bad_request", json=body)
    assert common.ok("GET", f"/projects/{project}/cases") == []


def test_what_is_no_image_makes_no_case(common, tmp_path):
    project = common.project("broken")
    file = tmp_path / "x.nrrd"
    file.write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata "
        b"file: /etc/passwd\n\n"
    )
    body = {"name": "x", "images": [common.upload(file)]}
    common.unusable(project, body, "bad_request")
    file.write_bytes(os.urandom(5000))
    body["images"] = [common.upload(file)]
    problem = common.unusable(project, body, "bad_request")
    assert "/" not in problem["message"]
    body["images"] = ["0" * 32]
    common.refused("POST", f"/projects/{project}/cases", 404, "not_found", json=body)


def test_a_segmentation_of_slicer_is_a_label_by_its_segments_and_never_an_image(
    common, scan, tmp_path
):
    project, image = common.project("segmented"), scan("seg.nii.gz")
    labels = sitk.Image(sitk.ReadImage(str(image)).GetSize(), sitk.sitkUInt8)
    labels.CopyInformation(sitk.ReadImage(str(image)))
    labels[1, 1, 1] = 7
    labels.SetMetaData("Segment0_Name", "no such structure")
    labels.SetMetaData("Segment0_LabelValue", "7")
    sitk.WriteImage(labels, str(tmp_path / "l.seg.nrrd"))
    label = common.upload(tmp_path / "l.seg.nrrd")
    body = {"name": "x", "role": "test", "images": [common.upload(image)], "label": label}
    problem = common.unusable(project, body, "bad_request")
    assert "'no such structure' (1 voxels)" in problem["message"]
    body = {"name": "y", "images": [label]}
    problem = common.unusable(project, body, "bad_request")
    assert "is a segmentation, no image" in problem["message"]


def test_what_a_header_says_of_a_patient_is_not_stored(service, scan, tmp_path):
    """Also when the image cannot be used: neither answers nor events nor logs repeat it."""
    image = sitk.ReadImage(str(scan("plain.nii.gz")))
    image.SetMetaData("PatientName", "Roe^Jane")
    good, bad = tmp_path / "Roe_Jane.nrrd", tmp_path / "Roe_Jane_2.nrrd"
    sitk.WriteImage(image, str(good))
    bad.write_bytes(good.read_bytes()[:-200])
    project = service.project()
    said = [service.add_case(project, "one", good)]
    body = {"name": "two", "role": "pool", "images": [service.upload(bad)], "label": None}
    said.append(service.unusable(project, body, "bad_request"))
    job = service.ok(
        "POST", f"/projects/{project}/jobs", 202, json={"kind": "plan", "options": {}}
    )["id"]
    while (state := service.ok("GET", f"/projects/{project}/jobs/{job}"))["state"] not in (
        "done",
        "failed",
    ):
        time.sleep(0.2)
    assert state["state"] == "done"
    said.append(service.ok("GET", f"/projects/{project}/events?limit=1000"))
    logs = [service.root.parent / f"{service.root.name}.log", *service.root.rglob("*.log")]
    assert len(logs) > 1
    assert "Roe" not in str(said) + "".join(log.read_text(encoding="utf-8") for log in logs)
    assert b"Roe^Jane" not in service.send("GET", f"/projects/{project}/cases/one/images/0").content
    kept = [
        file for file in service.root.rglob("*") if file.is_file() and "uploads" not in file.parts
    ]
    assert kept and not [file for file in kept if b"Roe^Jane" in file.read_bytes()]
    assert (
        b"Roe"
        not in service.send("GET", f"/projects/{project}/cases/one/images/0?format=nii.gz").content
    )
