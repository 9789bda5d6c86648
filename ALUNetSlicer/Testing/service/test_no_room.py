"""The engine's disk is full in the middle of an upload and of an annotation: refused in words,
nothing is damaged.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import SimpleITK as sitk
from running import Service
from test_work import get, labels, pooled, put

PART = 1 << 20


@pytest.fixture
def cramped(small_disk):
    running = Service(small_disk / "root")
    yield running
    running.stop()


@pytest.mark.parametrize("small_disk", [700], indirect=True)
def test_an_upload_goes_on_where_the_room_ended(cramped, fill, tmp_path):
    file, project = tmp_path / "noise.nrrd", cramped.project()
    voxels = np.random.default_rng(0).integers(0, 255, (60, 256, 256), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    content = file.read_bytes()
    about = {
        "filename": file.name,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    upload = cramped.ok("POST", "/uploads", 201, json=about)
    place = f"/uploads/{upload['id']}"
    cramped.ok("PATCH", place, data=content[:PART], headers={"Upload-Offset": "0"})
    filler = fill(300)
    for _ in range(3):
        offset = cramped.ok("GET", place)["offset"]
        part = {"data": content[offset : offset + PART], "headers": {"Upload-Offset": str(offset)}}
        cramped.refused("PATCH", place, 507, "disk_full", **part)
    cramped.refused("POST", "/uploads", 507, "disk_full", json={**about, "sha256": "0" * 64})
    body = {"name": "a", "role": "pool", "images": [upload["id"]], "label": None}
    filler.unlink()
    cramped.refused("POST", f"/projects/{project}/cases", 422, "incomplete", json=body)
    while (offset := cramped.ok("GET", place)["offset"]) < len(content):
        cramped.ok(
            "PATCH",
            place,
            data=content[offset : offset + PART],
            headers={"Upload-Offset": str(offset)},
        )
    filler = fill(300)
    cramped.unusable(project, body, "disk_full")
    assert cramped.ok("GET", f"/projects/{project}/cases") == []
    filler.unlink()
    assert cramped.imported(project, body)["state"] == "done"
    kept = tmp_path / "kept.mha"
    kept.write_bytes(cramped.send("GET", f"/projects/{project}/cases/a/images/0").content)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(kept))), voxels)


@pytest.mark.parametrize("small_disk", [700], indirect=True)
def test_an_annotation_is_kept_whole_or_refused(cramped, fill, scan):
    """At every amount of room: what was answered with 200 is there after a crash, and the rest
    can be sent again.
    """
    pooled(cramped, scan)
    acknowledged, refused = {}, 0
    for left in (0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 200):
        filler, sample = fill(left), len(acknowledged)
        answer = put(cramped, sample, labels(1 + sample % 2), key=f"key {sample}")
        if answer.status_code != 200:
            assert answer.status_code == 507 and answer.json()["code"] == "disk_full", answer.text
            refused += 1
            health = cramped.ok("GET", "/health")
            assert health["disk_free"] <= left << 10
            filler.unlink()
            answer = put(cramped, sample, labels(1 + sample % 2), key=f"key {sample}")
        assert answer.json() == {"sample": sample, "status": "done", "version": 1}, answer.text
        acknowledged[sample] = labels(1 + sample % 2)
        filler.unlink(missing_ok=True)
        cramped.stop(9)
        cramped.start()
    assert refused >= 3
    for sample, array in acknowledged.items():
        number, stored = get(cramped, sample)
        assert number == 1 and np.array_equal(stored, array)
