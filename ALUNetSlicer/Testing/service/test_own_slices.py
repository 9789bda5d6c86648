"""What a person asks of single slices: to have one in the worklist, and to see where the model
is unsure of it.
"""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from planned_project import plan

from alunet.imaging.writing import write_like
from alunet.project import Project

SHAPE = (8, 20, 24)


@pytest.fixture
def project(common, scan):
    """A project of its own with the cases "a" and "b" and no pool, in the service of all tests."""
    name = common.project(f"own {uuid.uuid4().hex[:8]}")
    for case in ("a", "b"):
        common.add_case(name, case, scan(f"{case}.nii.gz", 3, SHAPE))
    return name


def planned(service, project):
    """Makes the pool by hand: no network is needed for it."""
    with Project.open(service.root / project) as opened:
        plan(opened)
    return project


@pytest.fixture
def ready(common, project):
    return planned(common, project)


def suggested(service, project, ids):
    with Project.open(service.root / project) as opened:
        opened.rounds.begin("entropy", len(ids))
        opened.worklist.suggest(0, ids, [0.0] * len(ids), ["entropy"] * len(ids), [0.5] * len(ids))


def request(case="a", axis=0, number=3, author="Ann", **more):
    return {"case": case, "axis": axis, "slice": number, "author": author, **more}


def choose(service, project, status=201, **wanted):
    return service.ok("POST", f"/projects/{project}/worklist", status, json=request(**wanted))


def worklist(service, project):
    return service.ok("GET", f"/projects/{project}/worklist")


def annotate(service, project, sample):
    headers = {
        "Idempotency-Key": uuid.uuid4().hex,
        "X-Shape": f"1,{SHAPE[1]},{SHAPE[2]}",
        "X-Dtype": "uint8",
    }
    place = f"/projects/{project}/samples/{sample}/annotation?author=ann&seconds=1"
    return service.ok("PUT", place, data=bytes(SHAPE[1] * SHAPE[2]), headers=headers)


# --- slices of one's own choice -------------------------------------------------------------------


def test_before_the_plan_nothing_can_be_chosen(common, project):
    problem = common.refused(
        "POST", f"/projects/{project}/worklist", 409, "not_ready", json=request()
    )
    assert "'plan'" in problem["hint"]
    planned(common, project)
    assert choose(common, project)[0]["sample"] == 3


def test_the_first_batch_is_what_a_person_chooses(common, ready):
    rows = choose(common, ready, case="b", number=2)
    assert rows == worklist(common, ready)
    assert (rows[0]["sample"], rows[0]["round"], rows[0]["rank"], rows[0]["status"]) == (
        10,
        0,
        0,
        "todo",
    )
    assert rows[0]["reason"] == "chosen by Ann" and rows[0]["box"] == [[2, 3], [0, 20], [0, 24]]
    assert choose(common, ready, 200, case="b", number=2, author="Bob") == rows, (
        "the same slice is there once"
    )
    assert common.ok("GET", f"/projects/{ready}/rounds")[0]["strategy"] == "chosen"
    state = common.ok("GET", f"/projects/{ready}")["status"]
    assert (state["step"], state["case"], state["open"]) == ("annotate", "b", 1)
    assert annotate(common, ready, 10)["status"] == "done"
    assert common.ok("GET", f"/projects/{ready}")["status"]["step"] == "next-round"
    told = [
        event
        for event in common.ok("GET", f"/projects/{ready}/events")
        if event["kind"] == "worklist"
    ]
    assert [event["data"] for event in told] == [{"round": 0, "samples": [10], "author": "Ann"}]


def test_a_slice_joins_the_open_batch(common, ready):
    suggested(common, ready, [0, 1])
    annotate(common, ready, 1)
    annotate(common, ready, 5)
    new = choose(common, ready, number=6)
    assert [
        (row["sample"], row["rank"], row["uncertainty"]) for row in worklist(common, ready)
    ] == [
        (0, 0, 0.5),
        (1, 1, 0.5),
        (6, 2, None),
    ]
    assert worklist(common, ready)[2:] == new
    assert choose(common, ready, 200, number=1)[0]["status"] == "done", (
        "what is suggested is found, done or not"
    )
    problem = common.refused(
        "POST", f"/projects/{ready}/worklist", 409, "annotated", json=request(number=5)
    )
    assert "Slice 5 of a is annotated already" in problem["message"]


def test_what_was_acknowledged_is_on_disk(service, scan):
    project = service.project()
    for case in ("a", "b"):
        service.add_case(project, case, scan(f"{case}.nii.gz", 3, SHAPE))
    rows = choose(service, planned(service, project))
    service.stop(9)
    service.start()
    assert worklist(service, project) == rows


def test_many_who_choose_at_once_get_each_slice_once(common, ready):
    suggested(common, ready, [0])
    wanted = [1 + number % 5 for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        bodies = [request(number=number) for number in wanted]
        place = f"/projects/{ready}/worklist"
        answers = list(threads.map(lambda body: common.send("POST", place, json=body), bodies))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201] * 5
    rows = worklist(common, ready)
    assert [row["rank"] for row in rows] == list(range(6))
    assert {row["sample"] for row in rows} == set(range(6))


@pytest.mark.parametrize(
    ("change", "status", "code", "says"),
    [
        ({"axis": 1}, 400, "bad_request", "not sliced across axis 1"),
        ({"axis": -1}, 400, "bad_request", "axis -1"),
        ({"slice": 8}, 400, "bad_request", "no slice 8"),
        ({"slice": 1 << 80}, 400, "bad_request", "no slice"),
        ({"slice": "x"}, 400, "bad_request", "slice"),
        ({"case": "zz"}, 404, "not_found", "no case 'zz'"),
        ({"case": "t"}, 400, "bad_request", "for evaluation"),
        ({"author": " "}, 400, "bad_request", "name of a person"),
        ({"author": "a" * 101}, 400, "bad_request", "name of a person"),
    ],
)
def test_what_cannot_be_chosen_changes_nothing(common, ready, scan, change, status, code, says):
    common.add_case(ready, "t", scan("t.nii.gz", 4, SHAPE), role="test")
    place = f"/projects/{ready}/worklist"
    assert says in common.refused("POST", place, status, code, json=request(**change))["message"]
    assert worklist(common, ready) == [] and common.ok("GET", f"/projects/{ready}/rounds") == []


# --- the uncertainty of one slice -----------------------------------------------------------------


def learned(service, project, number):
    """Says that a round is finished, as the end of its training does."""
    with Project.open(service.root / project) as opened:
        while opened.rounds.current() <= number:
            opened.rounds.finish(opened.rounds.begin("entropy", 1).number, {})


def mapped(service, project, number, seed, measure="entropy"):
    """Stores a map that the model of a round made, as the job 'uncertainty' does."""
    values = np.random.default_rng(seed).random(SHAPE).astype(np.float32)
    with Project.open(service.root / project) as opened:
        file = opened.rounds_dir / f"{number + 1:03d}" / "uncertainty" / measure / "b.mha"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_like(
            values, next(case for case in opened.cases.all() if case.name == "b").images[0], file
        )
    return values


def look(service, project, sample=11, **params):
    answer = service.send("GET", f"/projects/{project}/samples/{sample}/uncertainty", params=params)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["X-Shape"], answer.headers["X-Dtype"]) == ("1,20,24", "float32")
    return int(answer.headers["X-Version"]), np.frombuffer(answer.content, "<f4").reshape(1, 20, 24)


def test_the_uncertainty_of_a_slice_is_cut_from_the_newest_map(common, ready):
    learned(common, ready, 0)
    values = mapped(common, ready, 0, 5)
    for _ in range(2):  # read from the map, then from what was unpacked
        number, part = look(common, ready)
        assert number == 0 and np.array_equal(part, values[3:4])
    other = mapped(common, ready, 0, 6, "bald")
    assert np.array_equal(look(common, ready, measure="bald")[1], other[3:4])
    assert np.array_equal(look(common, ready, 15)[1], values[7:8])
    time.sleep(0.02)
    again = mapped(common, ready, 0, 7)
    assert np.array_equal(look(common, ready)[1], again[3:4]), (
        "a map that was made anew is read anew"
    )


def test_a_map_of_an_older_model_is_not_given(common, ready):
    place = f"/projects/{ready}/samples/11/uncertainty"
    assert "no model" in common.refused("GET", place, 409, "not_ready")["message"]
    learned(common, ready, 0)
    assert "'uncertainty'" in common.refused("GET", place, 409, "not_ready")["hint"]
    mapped(common, ready, 0, 5)
    assert look(common, ready)[0] == 0
    common.refused("GET", f"/projects/{ready}/samples/2/uncertainty", 409, "not_ready")
    learned(common, ready, 1)
    problem = common.refused("GET", place, 409, "not_ready")
    assert "model of round 1" in problem["message"] and "'uncertainty'" in problem["hint"]
    values = mapped(common, ready, 1, 8)
    assert look(common, ready)[0] == 1 and np.array_equal(look(common, ready)[1], values[3:4])


def test_what_is_no_sample_or_measure_is_not_found(common, ready):
    learned(common, ready, 0)
    mapped(common, ready, 0, 5)
    for path in (
        "99/uncertainty",
        "-1/uncertainty",
        "11/uncertainty?measure=mood",
        "11/uncertainty?measure=../x",
    ):
        common.refused("GET", f"/projects/{ready}/samples/{path}", 404, "not_found")
