"""Power noise, its schedule, shares of classes, caps, intervals and typical samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from test_strategies import FORMS, ArrayOutputs, problem

from alunet.errors import InputError
from alunet.query import canonical, parse
from alunet.query.noise import scheduled, with_power_noise, with_rank_noise


@pytest.mark.parametrize(("beta", "chance"), [(1.0, 4 / 8), (2.0, 16 / 22), (100.0, 1.0)])
def test_power_noise_draws_in_proportion_to_a_power_of_the_score(beta, chance):
    scores, draws = np.array([4.0, 2.0, 1.0, 1.0]), 4000
    first = [
        int(np.argmax(with_power_noise(scores, beta, np.random.default_rng(seed))))
        for seed in range(draws)
    ]
    assert Counter(first)[0] / draws == pytest.approx(chance, abs=0.025)


def test_a_score_of_zero_has_no_chance():
    noised = with_power_noise(np.array([0.0, 1e-30, -1e-9]), 1.0, np.random.default_rng(0))
    assert np.isneginf(noised[[0, 2]]).all() and np.isfinite(noised[1])


def test_rank_noise_knows_ranks_alone():
    few, many = np.array([3.0, 2.0, 1.0]), np.array([3e9, 2.0, -5.0])
    found = [with_rank_noise(scores, 1.0, np.random.default_rng(4)) for scores in (few, many)]
    assert np.array_equal(*found)
    first = [
        int(np.argmax(with_rank_noise(few, 1.0, np.random.default_rng(seed))))
        for seed in range(4000)
    ]
    # in proportion to 1, 1/2, 1/3
    assert Counter(first)[0] / 4000 == pytest.approx(6 / 11, abs=0.025)


def test_the_schedule_grows_by_the_same_factor():
    values = [scheduled(1.0, 100.0, 5, step) for step in range(7)]
    assert values == pytest.approx([1, 10**0.5, 10, 10**1.5, 100, 100, 100])
    assert scheduled(1.0, 100.0, 1, 0) == 100.0


@pytest.mark.parametrize(
    "text",
    [
        "power-entropy:beta=0",
        "power-bald:beta=-1",
        "softrank-bald:beta=nan",
        "clasp-pe:last=inf",
        "clasp-pe:foreground=1.2",
        "clasp-pe:steps=0",
        "typicality:neighbors=0",
        "random:cap=-1",
        "random:cap=x",
    ],
)
def test_options_that_cannot_be(text):
    with pytest.raises(InputError):
        parse(text)


def test_clasp_pe_gives_each_class_its_share_and_takes_nothing_twice():
    """66 % of 100 for two classes: 33 each by their own entropy, 34 by that of all."""
    n = 400
    outputs = ArrayOutputs(n)
    outputs.var[:] = 1e-6
    outputs.var[:100, 1], outputs.var[100:200, 2], outputs.var[200:300, 0] = 1, 1, 1
    outputs.entropies[:] = 1
    query = replace(problem(n, 100, round_=9), outputs=outputs, case=np.zeros(n, int))
    batch = parse("clasp-pe").select(query)
    assert batch.diagnostics["beta"] == 100.0, "the schedule has ended"
    reasons = Counter(reason.split(" 1 bit")[0] for reason in batch.reasons)
    assert reasons == {
        "entropy of organ": 33,
        "entropy of tumour": 33,
        "entropy of all structures": 34,
    }
    early = parse("clasp-pe").select(replace(query, streams=replace(query.streams, round=1)))
    assert early.diagnostics["beta"] == 1.0


def test_predicted_foreground_needs_no_hidden_labels():
    batch = parse("random-predicted-fg66").select(problem(90, 20, truth=None))
    drawn = sum("anywhere" not in reason for reason in batch.reasons)
    assert len(batch.ids) == 20 and drawn > 5


def test_a_fixed_interval_draws_nothing_and_takes_the_middles():
    case = np.repeat([0, 1, 2], [10, 20, 30])
    batch = parse("fixed-interval").select(problem(60, 7, case=case))
    rows = (batch.ids - 100) // 3
    assert sorted(rows[case[rows] == 2].tolist()) == [30 + 5, 30 + 15, 30 + 25]
    assert sorted(rows[case[rows] == 1].tolist()) == [10 + 5, 10 + 15]
    other = parse("fixed-interval").select(problem(60, 7, seed=5, round_=3, case=case))
    assert other.ids.tolist() == batch.ids.tolist()


def test_typicality_takes_the_middle_of_each_cluster_the_unlabelled_ones_first():
    rng = np.random.default_rng(0)
    centers = 20.0 * np.eye(4, 6)
    points = np.repeat(centers, 15, axis=0) + rng.normal(size=(60, 6))
    outputs = ArrayOutputs(60)
    outputs.gradients = points.astype(np.float32)
    labelled = (centers[:1] + 0.1).astype(np.float32)
    outputs.labelled_features = lambda: labelled
    batch = parse("typicality").select(replace(problem(60, 3), outputs=outputs))
    rows = (batch.ids - 100) // 3
    assert sorted((rows // 15).tolist()) == [1, 2, 3], "cluster 0 has a label"
    for row in rows:
        own = points[row // 15 * 15 : row // 15 * 15 + 15]
        distance = np.linalg.norm(own[:, None] - own, axis=2)
        np.fill_diagonal(distance, np.inf)
        mean = np.sort(distance, axis=1)[:, :7].mean(axis=1)
        assert row % 15 == int(np.argmin(mean))


# --- a cap on the samples of a case ---------------------------------------------------------------


CAPPED = [form for form in FORMS if not parse(form).info.takes_all]


def with_cap(name: str, cap: int) -> str:
    return f"{name},cap={cap}" if ":" in name else f"{name}:cap={cap}"


@pytest.mark.parametrize("name", CAPPED)
def test_a_cap_holds_for_every_strategy_and_changes_no_order(name):
    case = np.repeat(np.arange(6), 10)
    free = parse(name).select(problem(60, 10, case=case))
    batch = parse(with_cap(name, 2)).select(problem(60, 10, case=case))
    assert len(set(batch.ids.tolist())) == 10 and batch.diagnostics["above_cap"] == 0
    counts = np.bincount(case[(batch.ids - 100) // 3], minlength=6)
    assert counts.max() <= 2
    kept: list[int] = []
    for sample in free.ids.tolist():
        own = case[(sample - 100) // 3]
        if sum(case[(other - 100) // 3] == own for other in kept) < 2:
            kept.append(sample)
    assert batch.ids[: len(kept)].tolist() == kept
    ahead = parse(with_cap(name, 2)).select(problem(60, 10, case=case, ahead=9))
    assert ahead.ids[:10].tolist() == batch.ids.tolist() and len(set(ahead.ids.tolist())) == 19


def test_what_is_beyond_the_cap_fills_a_batch_that_nothing_else_can_fill():
    case = np.repeat([0, 1], [50, 10])
    batch = parse("entropy:cap=3").select(problem(60, 10, case=case))
    assert batch.diagnostics["above_cap"] == 4
    counts = np.bincount(case[(batch.ids[:6] - 100) // 3])
    assert counts.tolist() == [3, 3]


def test_a_cap_is_part_of_the_name():
    assert canonical("usimf:cap=5,eta=1.0") == "usimf:cap=5"
    assert canonical("random:cap=0") == "random"
    assert canonical("usimc:published,cap=2") == "usimc:published,cap=2"
    assert parse("random:cap=4").settings == {"cap": 4}
