"""What a status counts in the database is what the pool's arrays say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.setup import Setup, create
from alunet.loop.status import status
from alunet.pool import CaseGeometry, Pool
from alunet.project import Project

SHAPE = (5, 40, 48)


@pytest.fixture(params=[SHAPE[1:], (24, 32)], ids=["slices", "tiles"])
def project(tmp_path: Path, request: pytest.FixtureRequest):
    """Nine cases: some to evaluate on, removed, without a plan; samples in every state."""
    labels = {"background": 0, "organ": 1, "lesion": 2}
    root = tmp_path / "p"
    create(root, name="p", labels=labels, channels=["CT"], setup=Setup()).close()
    generator = np.random.default_rng(0)
    with Project.open(root) as opened:
        names = [f"case_{number}" for number in range(9)]
        geometry = [
            CaseGeometry(name, SHAPE, (0, 1, 2), tuple((0, extent) for extent in SHAPE), SHAPE)
            for name in names
        ]
        for number, own in enumerate(geometry):
            opened._db.execute(
                "INSERT INTO cases (name, role, images, shape, spacing, geometry, voxels, label)"
                " VALUES (?, 'pool', '[\"x.mha\"]', ?, '[1, 1, 1]', ?, ?, ?)",
                (
                    own.case,
                    json.dumps(SHAPE),
                    own.to_json() if number < 8 else None,
                    None
                    if number % 3 == 0
                    else json.dumps([900, 40 + number, 7][: 1 + number % 3]),
                    "x.mha" if number == 1 else None,
                ),
            )
        opened.samples.set_pool(Pool.build(geometry[:8], request.param))
        states = generator.choice(["unlabelled", "suggested", "labelled"], len(opened.pool))
        opened._db.many(
            "UPDATE samples SET state = ? WHERE id = ?",
            [(str(state), number) for number, state in enumerate(states)],
        )
        opened.samples.skip(np.flatnonzero(states != "labelled")[::3])
        opened._db.execute("UPDATE cases SET role = 'test' WHERE name IN ('case_1', 'case_4')")
        opened._db.execute("UPDATE cases SET state = 'removed' WHERE name = 'case_2'")
        yield opened


def test_counts_are_those_of_the_arrays(project):
    samples, pool = project.samples, project.pool
    counted, labelled = samples.counted(), samples.labelled()
    found = samples.counts()
    assert found.pool == counted.sum() and found.labelled == labelled.sum()
    assert found.skipped == samples.skipped().sum()
    keys = {(int(pool.case[i]), int(pool.slice[i])) for i in np.flatnonzero(labelled)}
    assert found.slices == len(keys)
    assert samples.any_left() == bool((counted & ~labelled & ~samples.skipped()).any())
    costs = project.annotations.costs()
    assert (costs.samples, costs.slices) == (found.labelled, found.slices)
    assert costs.fraction == found.labelled / found.pool


def test_voxels_are_those_of_the_boxes(project):
    """A voxel that is in several labeled samples counts once."""
    covered = {name: np.zeros(SHAPE, bool) for name in project.pool.cases}
    for sample in np.flatnonzero(project.samples.labelled()):
        covered[project.pool.case_name(sample)][project.pool.raw_slices(sample)] = True
    assert project.samples.covered_voxels() == sum(mask.sum() for mask in covered.values())
    voxels = project.annotations.class_voxels()
    assert voxels.tolist() == project.annotations.case_voxels()[0].sum(axis=0).tolist()
    assert voxels.dtype == np.int64 and voxels[2] > 0


def test_tiles_are_known_without_the_pool(project):
    for name in project.pool.cases:
        tiles = project.pool.tile[project.pool.samples_of(name)]
        assert project.samples.has_tiles(name) == bool(tiles.any())


def test_a_status_names_the_cases(project):
    found = status(AnnotationLoop(project))
    assert found.test_cases == ["case_1", "case_4"] and found.removed == ["case_2"]
    assert found.cases == [f"case_{number}" for number in (0, 3, 5, 6, 7, 8)]
    assert found.unplanned == ["case_8"] and found.step == "plan"


def test_a_status_reads_no_pool(project, monkeypatch):
    monkeypatch.setattr(type(project.samples), "known_pool", lambda _: pytest.fail("it was read"))
    assert status(AnnotationLoop(project)).pool == project.samples.counts().pool


def test_a_project_without_samples(tmp_path):
    setup = Setup()
    labels = {"background": 0, "organ": 1}
    with create(tmp_path / "p", name="p", labels=labels, channels=["CT"], setup=setup) as empty:
        assert not empty.samples.any_left() and empty.samples.covered_voxels() == 0
        assert empty.annotations.class_voxels().tolist() == [0, 0]
        assert status(AnnotationLoop(empty)).step == "add"
