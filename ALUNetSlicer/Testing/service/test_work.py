"""Several people on one worklist: leases, versions, requests that come twice; nothing
acknowledged is lost.
"""

from __future__ import annotations

import gzip
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk
from planned_project import plan, suggest

from alunet.loop.setup import Setup, create
from alunet.project import Project

SHAPE = (6, 20, 24)


def pooled(service, scan):
    """A project "work", begun at a terminal, whose pool is made by hand: no network is needed.
    Gives its worklist.
    """
    project, labels = "work", {"background": 0, "organ": 1, "lesion": 2}
    create(
        service.root / project,
        name=project,
        labels=labels,
        channels=["MRI"],
        setup=Setup(device="cpu"),
    ).close()
    for name in ("a", "b"):
        service.add_case(project, name, scan(f"{name}.nii.gz", 3, SHAPE))
    with Project.open(service.root / project) as opened:
        suggest(plan(opened), range(12))
    return {row["sample"]: row for row in service.ok("GET", f"/projects/{project}/worklist")}


@pytest.fixture(scope="module")
def rows(common, scan):
    return pooled(common, scan)


def labels(value=1, shape=(1, 20, 24), dtype=np.uint8):
    array = np.zeros(shape, dtype)
    array[:, 5:9, 4:12] = value
    return array


def put(
    service,
    sample,
    array,
    base=0,
    key=None,
    author="ann",
    status="done",
    packed=False,
    headers=None,
):
    content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    head = {
        "Idempotency-Key": key or str(uuid.uuid4()),
        "X-Shape": ",".join(map(str, array.shape)),
        "X-Dtype": array.dtype.name,
        **({"Content-Encoding": "gzip"} if packed else {}),
        **(headers or {}),
    }
    place = f"/projects/work/samples/{sample}/annotation"
    params = {"base_version": base, "author": author, "seconds": 4.5, "status": status}
    return service.send(
        "PUT",
        place,
        data=gzip.compress(content) if packed else content,
        params=params,
        headers=head,
    )


def get(service, sample, version=None):
    place = f"/projects/work/samples/{sample}/annotation"
    answer = service.send("GET", place, params={} if version is None else {"version": version})
    assert answer.status_code == 200, answer.text
    shape = [int(extent) for extent in answer.headers["X-Shape"].split(",")]
    return int(answer.headers["X-Version"]), np.frombuffer(
        answer.content, answer.headers["X-Dtype"]
    ).reshape(shape)


def row(service, sample):
    return next(r for r in service.ok("GET", "/projects/work/worklist") if r["sample"] == sample)


@pytest.mark.parametrize(
    ("sample", "dtype", "packed"), [(0, np.uint8, False), (1, np.uint16, True)]
)
def test_what_was_acknowledged_is_on_disk(common, rows, sample, dtype, packed):
    array = labels(2, dtype=dtype)
    answer = put(common, sample, array, packed=packed)
    assert answer.json() == {"sample": sample, "status": "done", "version": 1}
    common.stop(9)
    common.start()
    assert get(common, sample)[0] == 1 and np.array_equal(get(common, sample)[1], array)
    assert row(common, sample)["status"] == "done" and row(common, sample)["version"] == 1
    file = common.root / "label.nrrd"
    file.write_bytes(common.send("GET", "/projects/work/cases/a/annotation?format=nrrd").content)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[sample], array[0])


def test_the_same_request_again_changes_nothing(common, rows):
    first = put(common, 2, labels(), key="again")
    assert put(common, 2, labels(), key="again").json() == first.json()
    other = put(common, 2, labels(2), key="again")
    assert other.status_code == 422 and other.json()["code"] == "key_reused"
    assert row(common, 2)["version"] == 1


def test_a_stale_version_is_refused_and_kept(common, rows):
    put(common, 3, labels(1))
    assert put(common, 3, labels(2), base=1).json()["version"] == 2
    late = put(common, 3, labels(0), base=1, author="bob", key="late")
    assert late.status_code == 409 and late.json()["code"] == "stale_annotation"
    assert late.json()["details"] == {"version": 2, "kept": 3}
    assert put(common, 3, labels(0), base=1, author="bob", key="late").json() == late.json()
    assert get(common, 3)[0] == 2 and np.array_equal(get(common, 3)[1], labels(2))
    assert np.array_equal(get(common, 3, 1)[1], labels(1)) and np.array_equal(
        get(common, 3, 3)[1], labels(0)
    )
    assert put(common, 3, labels(0), base=2).json()["version"] == 4


def test_of_two_at_the_same_moment_one_wins_and_both_are_kept(common, rows):
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(
                lambda value: put(common, 4, labels(value % 3), author=f"p{value}"), range(8)
            )
        )
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] + [409] * 7
    assert {get(common, 4, version)[0] for version in range(1, 9)} == set(range(1, 9))


def test_many_samples_of_a_case_at_once_are_all_there(common, rows):
    with ThreadPoolExecutor(6) as threads:
        answers = list(
            threads.map(lambda sample: put(common, sample, labels(1 + sample % 2)), range(6, 12))
        )
    assert [answer.status_code for answer in answers] == [200] * 6
    with Project.open(common.root / "work", read_only=True) as opened:
        stored = opened.annotations.read("b")
    for sample in range(6, 12):
        assert np.array_equal(stored[sample - 6], labels(1 + sample % 2)[0])


def test_a_lease_is_one_persons(common, rows):
    place = "/projects/work/samples/5/lease"
    lease = common.ok("POST", place, json={"author": "ann", "seconds": 60})
    assert (
        common.ok("POST", place, json={"author": "ann", "seconds": 120})["until"] > lease["until"]
    )
    problem = common.refused("POST", place, 409, "leased", json={"author": "bob", "seconds": 60})
    assert problem["details"]["author"] == "ann"
    assert row(common, 5)["lease"]["author"] == "ann"
    common.ok("DELETE", place + "?author=bob", 204)
    common.refused("POST", place, 409, "leased", json={"author": "bob", "seconds": 60})
    common.ok("DELETE", place + "?author=ann", 204)
    assert common.ok("POST", place, json={"author": "bob", "seconds": 1})["author"] == "bob"
    common.refused("POST", place, 400, "bad_request", json={"author": "bob", "seconds": -1})


def test_statuses(common, rows):
    place = "/projects/work/samples/5"
    for status in ("in_progress", "flagged", "skipped", "todo"):
        assert (
            common.ok("PATCH", place, json={"status": status, "author": "ann"})["status"] == status
        )
        assert row(common, 5)["status"] == status
    common.refused("PATCH", place, 400, "bad_request", json={"status": "done", "author": "ann"})
    draft = put(common, 5, labels(), status="in_progress")
    assert draft.json() == {"sample": 5, "status": "in_progress", "version": 1}
    with Project.open(common.root / "work", read_only=True) as opened:
        assert not opened.samples.labelled()[5], "a draft is kept, and not learned from"


@pytest.mark.parametrize(
    "change",
    [
        {"array": labels(9)},
        {"array": labels(shape=(1, 20, 25))},
        {"headers": {"X-Shape": "1,2"}},
        {"headers": {"X-Shape": "1,20,23"}},
        {"headers": {"X-Dtype": "float64"}},
        {"headers": {"Content-Encoding": "gzip"}},
        {"headers": {"Content-Encoding": "br"}},
        {"status": "finished"},
        {"author": ""},
        {"base": -1},
    ],
)
def test_labels_that_cannot_be(common, rows, change):
    before = common.ok("GET", "/projects/work/worklist")
    answer = put(common, 5, **{"array": labels(), **change})
    assert answer.status_code == 400 and answer.json()["code"] == "bad_request", answer.text
    assert common.ok("GET", "/projects/work/worklist") == before


def test_the_request_says_which_value_marks_voxels_that_are_not_annotated(service, scan):
    """Without, it is the highest class + 1, as in requests that were stored before."""
    pooled(service, scan)
    for sample, value, named in ((0, 3, None), (1, 255, 255), (2, 7, 7)):
        array = labels()
        array[0, 15:] = value
        head = {} if named is None else {"X-Not-Annotated": str(named)}
        assert put(service, sample, array, headers=head).status_code == 200
        wanted = labels()
        wanted[0, 15:] = 255
        np.testing.assert_array_equal(get(service, sample)[1], wanted)
    array = labels(255)
    for named, words in ((None, "3 marks"), ("2", "2 is a structure"), ("x", "")):
        answer = put(service, 3, array, headers={"X-Not-Annotated": named} if named else {})
        assert answer.status_code == 400 and words in answer.json()["message"], answer.text
    assert put(service, 3, labels(3), headers={"X-Not-Annotated": "255"}).status_code == 400


def test_a_bomb_is_refused_by_its_size(common, rows):
    head = {
        "Idempotency-Key": "bomb",
        "X-Shape": "1,20,24",
        "X-Dtype": "uint8",
        "Content-Encoding": "gzip",
    }
    bomb = gzip.compress(bytes(1 << 28))
    place = "/projects/work/samples/5/annotation?author=a"
    common.refused("PUT", place, 400, "bad_request", data=bomb, headers=head)


def test_what_is_not_there_is_not_found(common, rows):
    for path in (
        "/samples/99/annotation",
        "/samples/-1/annotation",
        "/samples/0/annotation?version=77",
    ):
        common.refused("GET", "/projects/work" + path, 404, "not_found")
