"""The loop (docs/method.md, 1.7): a real nnU-Net trained on real scans, batches chosen, labels
revealed.
"""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from small import BUDGET, INITIAL, RECIPE

from alunet.errors import Cancelled, InputError
from alunet.loop import Loop, RoundRecord, preset
from alunet.loop.oracle import Oracle
from alunet.pool import Pool
from alunet.project import Project
from alunet.schema import NOT_ANNOTATED
from alunet.simulation.rounds import play_first_round, play_round

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh(started, tmp_path) -> Path:
    """A copy of it that a test may go on with."""
    with Project.open(started) as project:
        project.fork(tmp_path / "run").close()
    return tmp_path / "run"


def advance(root: Path, *strategies: str, seed: int = 4, **options) -> list[RoundRecord]:
    with Project.open(root) as project:
        loop = Loop(project, RECIPE, seed=seed, threads=1, **options)
        return [play_round(loop, strategy, BUDGET) for strategy in strategies]


def test_round_zero(started):
    with Project.open(started) as project:
        pool = project.pool
        assert project.samples.labelled().sum() == INITIAL
        tests = {case.name for case in project.cases.all("test")}
        assert tests.isdisjoint(pool.cases), "a test case in the pool"
        record = Loop(project, RECIPE, seed=4).rounds()[0]
        assert record.labelled_samples == INITIAL and record.strategy == "initial"
        assert all(
            set(values) == {"Anterior", "Posterior", "mean"} for values in record.metrics.values()
        )
        assert {"train", "evaluate"} <= set(record.seconds) and record.peak_memory_mb["train"] > 100
        assert record.hashes["pool"] == pool.sha256()
        assert record.versions["nnunetv2"].startswith("2.8")


def test_every_kind_of_strategy_plays_a_round_and_labels_only_its_batch(fresh):
    with Project.open(fresh) as project:
        before = {name: project.annotations.read(name) for name in project.pool.cases}
    names = [
        "random",
        "random-fg66",
        "entropy",
        "mean-std",
        "bald",
        "core-set",
        "badge-ll",
        "stochastic-batches",
        "usimc",
        "usimf",
        "full",
        "random",
    ]
    records = advance(fresh, *names)
    assert [record.strategy for record in records] == names
    batches = [record.selected["ids"] for record in records]
    assert [len(batch) for batch in batches[:10]] == [BUDGET] * 10
    assert records[10].fraction == 1 and records[11].diagnostics == {"exhausted": True}
    chosen = list(itertools.chain(*batches))
    assert len(set(chosen)) == len(chosen), "a sample was chosen twice"
    assert {"query_size", "elbow", "batch_uncertainty", "class_weights"} <= set(
        records[8].diagnostics
    )
    assert records[5].diagnostics["radius"] > 0 and records[6].diagnostics["filled_at_random"] == 0
    with Project.open(fresh) as project:
        truth = Oracle(project)
        for name in project.pool.cases:
            reference, now = truth._truth(name), project.annotations.read(name)
            drawn, earlier = now != NOT_ANNOTATED, before[name] != NOT_ANNOTATED
            assert np.array_equal(now[drawn], reference[drawn])
            assert np.array_equal(now[earlier], before[name][earlier])


def test_the_same_seed_gives_the_same_batch_and_another_seed_another(fresh, started, tmp_path):
    with Project.open(started) as project:
        project.fork(tmp_path / "again").close()
        project.fork(tmp_path / "other").close()
    one, two, other = (
        advance(root, "usimc", seed=seed)[0]
        for root, seed in ((fresh, 4), (tmp_path / "again", 4), (tmp_path / "other", 5))
    )
    assert one.selected == two.selected and one.hashes == two.hashes and one.metrics == two.metrics
    assert one.selected["ids"] != other.selected["ids"]


def test_stopped_anywhere_the_round_goes_on_to_the_same_batch(fresh, started, tmp_path):
    """The process is stopped in the query and in the training; the same call ends like an
    undisturbed one.
    """
    with Project.open(started) as project:
        project.fork(tmp_path / "whole").close()
    whole = advance(tmp_path / "whole", "usimf")[0]
    for step in ("query", "train", "evaluate"):
        cancel = threading.Event()

        def stop(event, step=step, cancel=cancel) -> None:
            if event.data.get("name") == step and event.data.get("state") == "started":
                cancel.set()

        with pytest.raises(Cancelled):
            advance(fresh, "usimf", emit=stop, cancel=cancel)
    assert not (fresh / "rounds" / "001" / "manifest.json").exists()
    resumed = advance(fresh, "usimf")[0]
    assert resumed.selected == whole.selected and resumed.metrics == whole.metrics


def test_finished_rounds_come_from_disk(fresh):
    with Project.open(fresh) as project:
        loop = Loop(project, RECIPE, seed=4, threads=1)
        shutil.rmtree(project.data / "nnunet" / "nnUNet_raw", ignore_errors=True)
        assert play_first_round(loop, INITIAL).number == 0
        assert [record.number for record in loop.rounds()] == [0]


def test_manifest_is_plain_json_and_complete(started):
    content = json.loads((started / "rounds" / "000" / "manifest.json").read_text(encoding="utf-8"))
    assert content["recipe"]["scoring"]["passes"] == 2 and content["seed"] == 4
    assert len(content["selected"]["ids"]) == len(content["selected"]["reasons"]) == INITIAL


def test_a_round_begun_with_one_strategy_is_not_finished_with_another(fresh):
    cancel = threading.Event()

    def stop(event) -> None:
        if event.data.get("name") == "train":
            cancel.set()

    with pytest.raises(Cancelled):
        advance(fresh, "random", emit=stop, cancel=cancel)
    with pytest.raises(InputError, match="Round 1 was begun with 'random'"):
        advance(fresh, "entropy")


def test_bad_input_is_one_clear_line(started, fresh, tmp_path):
    with Project.open(fresh) as project:
        loop = Loop(project, RECIPE, seed=4, threads=1)
        with pytest.raises(InputError, match="budget of 0"):
            play_round(loop, "random", 0)
        with pytest.raises(InputError, match="'usimx'"):
            play_round(loop, "usimx", 3)
    with pytest.raises(InputError, match="Unknown preset 'fast'"):
        preset("fast")
    with pytest.raises(InputError, match="0 epochs"):
        RECIPE.with_length(epochs=0)


def test_oracle_counts_every_voxel_once(started):
    """Overlapping tiles: the nearest centre owns a voxel, so that classes are counted as they
    are.
    """
    with Project.open(started) as project:
        oracle = Oracle(project)
        geometries = [case.geometry for case in project.cases.all("pool")]
        small = Pool.build(geometries, (24, 16))
        voxels, border = oracle.counts(small)
        total = sum(np.bincount(oracle._truth(name).ravel(), minlength=3) for name in small.cases)
    assert voxels.sum(0).tolist() == total.tolist()
    assert (border <= voxels).all() and 0 < border[:, 1:].sum() < voxels[:, 1:].sum()
    assert border[:, 0].sum() == 0
