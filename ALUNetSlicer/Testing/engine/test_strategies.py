"""The contract of every strategy in the registry, and what each one is meant to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import alunet.query
from alunet.errors import EngineError, InputError
from alunet.query import (
    Batch,
    Factors,
    McScores,
    Need,
    Query,
    Strategy,
    Streams,
    Truth,
    canonical,
    get,
    infos,
    names,
    parse,
)
from alunet.query.weights import class_weights

CLASSES = 3
PARAMETERS = 400


class ArrayOutputs:
    """A model's answers from arrays; remembers what it was asked."""

    def __init__(self, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.asked: Counter[str] = Counter()
        self.passes: list[tuple[float | None, int | None]] = []
        self.heads: set[str] = set()
        self.var = rng.gamma(0.5, size=(n, CLASSES)).astype(np.float32)
        self.entropies = rng.random(n).astype(np.float32)
        self.delta = rng.normal(size=(n, 6, 4, 3)).astype(np.float32)
        self.inputs = rng.normal(size=(n, 5, 4, 3)).astype(np.float32)
        self.gradients = rng.normal(size=(n, PARAMETERS)).astype(np.float32)

    def entropy(self):
        self.asked["entropy"] += 1
        return self.entropies

    def class_entropy(self):
        self.asked["class_entropy"] += 1
        return self.var * self.entropies[:, None]

    def predicted(self):
        self.asked["predicted"] += 1
        voxels = (100 * self.var).astype(int)
        return Truth(voxels, voxels // 3)

    def one_pass_variance(self):
        self.asked["one_pass_variance"] += 1
        return np.sqrt(self.var)

    def mc(self, dropout=None, passes=None):
        self.asked["mc"] += 1
        self.passes.append((dropout, passes))
        return McScores(self.var, np.sqrt(self.var), self.var.mean(axis=1))

    def features(self, rows=None):
        self.asked["features"] += 1
        return self.gradients if rows is None else self.gradients[rows]

    def labelled_features(self):
        self.asked["labelled_features"] += 1
        return self.gradients[:3] + 1

    def bottleneck(self, rows, heads="training"):
        self.asked["bottleneck"] += len(rows)
        self.heads.add(heads)
        return Factors(self.delta[rows], self.inputs[rows])

    def fisher(self, rows, heads="training"):
        self.asked["fisher"] += 1
        self.heads.add(heads)
        return (self.gradients[rows] ** 2).mean(axis=0)

    def decoder_gradients(self, rows, coordinates, heads="training"):
        self.asked["decoder_gradients"] += len(rows)
        self.heads.add(heads)
        return self.gradients[rows][:, coordinates]

    def last_layer_gradients(self, rows=None):
        self.asked["last_layer_gradients"] += 1
        return self.gradients if rows is None else self.gradients[rows]


COUNTS = {Need.TRUTH, Need.PREDICTION}
"""Whole numbers, which are always finite."""
NEED_OF = {
    "entropy": Need.ENTROPY,
    "class_entropy": Need.CLASS_ENTROPY,
    "predicted": Need.PREDICTION,
    "mc": Need.MC,
    "one_pass_variance": Need.ONE_PASS,
    "features": Need.FEATURES,
    "labelled_features": Need.FEATURES,
    "bottleneck": Need.BOTTLENECK,
    "fisher": Need.DECODER,
    "decoder_gradients": Need.DECODER,
    "last_layer_gradients": Need.LAST_LAYER,
}


def problem(n=60, budget=7, seed=0, round_=1, **changes) -> Query:
    rng = np.random.default_rng(99)
    voxels = rng.integers(0, 50, size=(n, CLASSES)) * (rng.random((n, CLASSES)) < 0.5)
    query = Query(
        ids=100 + 3 * np.arange(n),
        budget=budget,
        case=np.sort(rng.integers(0, 9, n)),
        class_voxels=np.array([1000, 90, 10]),
        outputs=ArrayOutputs(n),
        streams=Streams(seed, round_),
        truth=Truth(voxels, voxels // 2),
        labels=("background", "organ", "tumour"),
        case_voxels=np.array([[700, 90, 0], [300, 0, 10]]),
        case_sizes=np.array([9000, 2000]),
    )
    return replace(query, **changes)


def same(left: Batch, right: Batch) -> bool:
    return left.ids.tolist() == right.ids.tolist() and left.gains.tolist() == right.gains.tolist()


FORMS = [*names(), *(f"{info.name}:{word}" for info in infos() for word in info.words)]
every = pytest.mark.parametrize("name", FORMS)
choosing = pytest.mark.parametrize(
    "name", [form for form in FORMS if not parse(form).info.takes_all]
)
usim = pytest.mark.parametrize(
    "name", ["usimc", "usimf", "usimc:embedding=coordinates", "usimc:embedding=first-10k"]
)


def test_the_strategies_of_the_paper_and_the_foreground_baselines() -> None:
    assert {
        "random",
        "spread",
        "random-fg33",
        "random-fg66",
        "random-predicted-fg66",
        "fixed-interval",
        "power-entropy",
        "power-bald",
        "softrank-bald",
        "clasp-pe",
        "typicality",
        "entropy",
        "mean-std",
        "bald",
        "core-set",
        "badge-ll",
        "stochastic-batches",
        "usimc",
        "usimf",
        "full",
    } <= set(names())


@every
def test_describes_itself(name) -> None:
    info = parse(name).info
    assert info.title
    assert info.source
    assert info.summary.endswith(".")
    assert info.needs <= set(Need)
    assert is_dataclass(info.options)
    assert info.options.__dataclass_params__.frozen
    assert parse(info.name).options == info.options()


@choosing
def test_takes_the_budget_from_the_candidates(name) -> None:
    query = problem()
    batch = parse(name).select(query)
    assert len(set(batch.ids.tolist())) == len(batch.ids) == query.budget
    assert np.isin(batch.ids, query.ids).all()
    assert np.isfinite(batch.gains).all()
    assert all(batch.reasons)
    assert len(batch.reasons) == query.budget


@choosing
@pytest.mark.parametrize("ahead", [1, 7, 30, 53, 1000])
def test_what_is_ahead_comes_behind_the_batch_and_does_not_change_it(name, ahead) -> None:
    alone, both = parse(name).select(problem()), parse(name).select(problem(ahead=ahead))
    assert len(set(both.ids.tolist())) == len(both.ids) == min(7 + ahead, 60)
    assert both.ids[:7].tolist() == alone.ids.tolist()
    assert both.gains[:7].tolist() == alone.gains.tolist()
    assert both.reasons[:7] == alone.reasons
    assert len(both.reasons) == len(both.gains) == len(both.ids)
    if alone.uncertainty is not None:
        assert both.uncertainty[:7].tolist() == alone.uncertainty.tolist()
    own = {key: value for key, value in alone.diagnostics.items() if key != "seconds"}
    assert {key: value for key, value in both.diagnostics.items() if key != "seconds"} == own


@choosing
def test_what_is_ahead_is_the_same_again(name) -> None:
    first, second = (parse(name).select(problem(ahead=9)) for _ in range(2))
    assert same(first, second)


@pytest.mark.parametrize("name", ["usimc", "usimf", "usimf:prefilter=10"])
def test_no_gradient_is_computed_twice_for_what_is_ahead(name) -> None:
    alone, both = problem(), problem(ahead=3)
    parse(name).select(alone)
    parse(name).select(both)
    assert both.outputs.asked == alone.outputs.asked


@every
def test_asks_only_what_it_declares(name) -> None:
    query = problem()
    strategy = parse(name)
    strategy.select(query)
    asked = {NEED_OF[question] for question in query.outputs.asked}
    assert asked == strategy.needs - {Need.TRUTH}


@every
def test_same_seed_same_batch(name) -> None:
    """What the strategy does to its streams does not reach the next call."""
    query = problem()
    assert same(parse(name).select(query), parse(name).select(query))
    assert same(parse(name).select(query), parse(name).select(problem()))


@pytest.mark.parametrize(
    "name",
    [
        "random",
        "spread",
        "random-fg33",
        "random-fg66",
        "random-predicted-fg66",
        "power-entropy",
        "power-bald",
        "softrank-bald",
        "clasp-pe",
        "usimc",
        "usimf",
        "badge-ll",
        "stochastic-batches",
    ],
)
def test_another_seed_or_round_another_batch(name) -> None:
    batches = [
        parse(name).select(problem(200, 10, seed, number))
        for seed, number in [(0, 1), (1, 1), (0, 2)]
    ]
    assert not same(batches[0], batches[1])
    assert not same(batches[0], batches[2])


@every
@pytest.mark.parametrize("budget", [60, 61, 1000])
def test_a_budget_that_covers_the_pool_takes_it_without_asking(name, budget) -> None:
    query = problem(budget=budget)
    batch = parse(name).select(query)
    assert batch.ids.tolist() == query.ids.tolist()
    assert not query.outputs.asked


@every
def test_one_candidate(name) -> None:
    """U = 1."""
    assert parse(name).select(problem(1, 1)).ids.tolist() == [100]


@choosing
def test_equal_scores_and_absent_classes(name) -> None:
    """Nothing to tell the samples apart, no class annotated, no structure in the pool."""
    outputs = ArrayOutputs(60)
    for array in (outputs.var, outputs.entropies, outputs.delta, outputs.inputs, outputs.gradients):
        array[...] = 0.5
    nothing = np.zeros((60, CLASSES), int)
    query = problem(
        outputs=outputs,
        class_voxels=np.zeros(CLASSES, int),
        truth=Truth(nothing, nothing),
        case_voxels=np.zeros((0, CLASSES), int),
        case_sizes=np.zeros(0, int),
    )
    assert len(parse(name).select(query).ids) == 7


@pytest.mark.parametrize("name", [form for form in FORMS if parse(form).needs - COUNTS])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_what_is_not_finite(name, value) -> None:
    """An error, never a silent choice."""
    outputs = ArrayOutputs(60)
    for array in (outputs.var, outputs.entropies, outputs.delta, outputs.gradients):
        array[11] = value
    with pytest.raises(InputError, match="finite"):
        parse(name).select(problem(outputs=outputs))


def test_an_undeclared_question_is_an_error() -> None:
    @dataclass(frozen=True)
    class Curious:
        def select(self, query):
            return query.outputs.mc()

    info = replace(get("entropy"), options=Curious)
    with pytest.raises(EngineError, match="does not declare"):
        Strategy(info, Curious()).select(problem())


@pytest.mark.parametrize("ids", [[0, 1], [0, 0, 3, 3, 6, 6, 9], [1, 4, 7, 10, 13, 16, 19]])
def test_a_broken_strategy_is_caught(ids) -> None:
    @dataclass(frozen=True)
    class Broken:
        def select(self, query):
            return Batch(np.array(ids), np.zeros(len(ids)), ["?"] * len(ids))

    with pytest.raises(EngineError, match="Strategy entropy"):
        Strategy(replace(get("entropy"), options=Broken), Broken()).select(problem())


def test_truth_is_for_simulation_only() -> None:
    with pytest.raises(InputError, match="only a simulation has"):
        parse("random-fg66").select(problem(truth=None))


def test_queries_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="budget of 0"):
        problem(budget=0)
    with pytest.raises(InputError, match="No unlabelled sample"):
        problem(ids=np.zeros(0, int), case=np.zeros(0, int))
    with pytest.raises(ValueError, match="ascend"):
        problem(ids=np.arange(60)[::-1])
    with pytest.raises(ValueError, match="cases"):
        problem(case=np.zeros(3, int))


def test_entropy_takes_the_largest() -> None:
    query = problem()
    batch = parse("entropy").select(query)
    wanted = np.argsort(-query.outputs.entropies)[:7]
    assert batch.ids.tolist() == query.ids[wanted].tolist()
    assert batch.reasons[0].startswith("entropy 0.9")


SCORES = {
    "entropy": lambda query: query.outputs.entropies,
    "power-entropy": lambda query: query.outputs.entropies,
    "clasp-pe": lambda query: (
        (query.outputs.var * query.outputs.entropies[:, None]).astype(np.float64).sum(axis=1)
    ),
    "stochastic-batches": lambda query: query.outputs.entropies,
    "mean-std": lambda query: np.sqrt(query.outputs.var).mean(axis=1, dtype=np.float64),
    **dict.fromkeys(
        ("bald", "power-bald", "softrank-bald"), lambda query: query.outputs.var.mean(axis=1)
    ),
    "usimc": lambda query: query.outputs.var.astype(np.float64) @ class_weights(query.class_voxels),
    "usimf": lambda query: query.outputs.var.astype(np.float64) @ class_weights(query.class_voxels),
}
"""What these strategies compare single samples by; the others compare none."""


@pytest.mark.parametrize("name", names())
def test_the_uncertainty_of_a_sample_is_its_rank_in_the_pool(name) -> None:
    query = problem()
    batch = parse(name).select(query)
    if name not in SCORES:
        assert batch.uncertainty is None
        return
    scores = SCORES[name](query)
    rows = np.searchsorted(query.ids, batch.ids)
    assert batch.uncertainty.tolist() == [
        np.mean(np.delete(scores, row) < scores[row]) for row in rows
    ]


@pytest.mark.parametrize("name", SCORES)
def test_equal_samples_are_equally_uncertain(name) -> None:
    query = problem()
    query.outputs.var[:], query.outputs.entropies[:] = 0.25, 0.5
    assert parse(name).select(query).uncertainty.tolist() == [0.0] * query.budget


def test_random_is_uniform() -> None:
    counts = Counter(
        i for seed in range(600) for i in parse("random").select(problem(20, 5, seed)).ids.tolist()
    )
    assert min(counts.values()) > 0.7 * 150
    assert max(counts.values()) < 1.3 * 150


@pytest.mark.parametrize(("name", "share"), [("random-fg33", 1 / 3), ("random-fg66", 2 / 3)])
def test_share_of_foreground(name, share) -> None:
    reasons = [
        reason for seed in range(60) for reason in parse(name).select(problem(90, 20, seed)).reasons
    ]
    assert sum("anywhere" not in reason for reason in reasons) / len(reasons) == pytest.approx(
        share, abs=0.05
    )


def test_foreground_draws_go_over_the_cases_and_follow_the_voxels() -> None:
    """Two cases of three samples; class 1 lies in one sample of each, three voxels to one in the
    second case.
    """
    voxels = np.zeros((6, 2), int)
    voxels[[1, 4, 5], 1] = [5, 30, 10]
    counts = Counter()
    for seed in range(800):
        query = problem(6, 2, seed, case=np.array([0, 0, 0, 1, 1, 1]), truth=Truth(voxels, voxels))
        rows = (parse("random-fg66").select(query).ids - 100) // 3
        assert sorted(rows // 3) == [0, 1], "one sample of each case"
        counts.update(rows.tolist())
    expected = [1 / 9, 1 / 9 + 2 / 3, 1 / 9, 1 / 9, 1 / 9 + 1 / 2, 1 / 9 + 1 / 6]
    np.testing.assert_allclose([counts[row] / 800 for row in range(6)], expected, atol=0.05)


@usim
def test_usim_reports_its_query_set(name) -> None:
    query = problem(300, 10)
    batch = parse(name).select(query)
    found = batch.diagnostics
    assert (
        found["query_size"]
        == max(found["elbow"], 50)
        == found["query_unique"] + found["query_duplicates"]
    )
    assert found["class_weights"] == pytest.approx(class_weights(query.class_voxels).tolist())
    rows = np.searchsorted(query.ids, batch.ids)
    assert found["batch_uncertainty"] == pytest.approx(query.outputs.var[rows, 1:].sum(), rel=1e-5)
    assert {"uncertainty", "gradients", "similarity", "selection"} <= set(found["seconds"])
    assert "rank 1 by FLQMI gain" in batch.reasons[0]
    assert np.all(np.diff(batch.gains) <= 1e-9)


@usim
def test_usim_embeds_every_candidate_once(name) -> None:
    query = problem(300, 10)
    parse(name).select(query)
    asked = query.outputs.asked
    assert asked["bottleneck"] + asked["decoder_gradients"] == 300
    assert asked["mc"] == 1


@pytest.mark.parametrize("name", ["usimc", "usimf"])
class TestThrifty:
    """One pass in place of the dropout passes, gradients of a share of the candidates."""

    def test_asks_for_one_pass_and_for_gradients_of_the_most_uncertain(self, name) -> None:
        query = problem(300, 10)
        batch = parse(f"{name}:thrifty").select(query)
        asked = query.outputs.asked
        assert asked["mc"] == 0
        assert asked["one_pass_variance"] == 1
        outputs = query.outputs
        uncertainty = outputs.one_pass_variance() @ class_weights(query.class_voxels)
        upper = set(np.argsort(-uncertainty)[:150].tolist())
        embedded = asked["bottleneck"] + asked["decoder_gradients"]
        below = embedded - 150  # drawn into the query set from the lower half
        assert 0 <= below <= batch.diagnostics["query_unique"]
        rows = np.searchsorted(query.ids, batch.ids).tolist()
        assert len(set(rows) - upper) <= below
        assert batch.diagnostics["cost"] == f"one pass, {embedded} of 300 slices with gradients"

    def test_the_query_set_is_that_of_the_whole_pool(self, name) -> None:
        found = [
            parse(f"{name}:gradient_share={share}").select(problem(300, 10)).diagnostics
            for share in (0.3, 1)
        ]
        for key in ("query_size", "elbow", "query_unique", "class_weights"):
            assert found[0][key] == found[1][key]

    def test_a_share_of_all_is_the_exact_query(self, name) -> None:
        samples = ",fisher_samples=200" if name == "usimf" else ""
        whole = parse(f"{name}:thrifty,measure=var,gradient_share=1{samples}").select(
            problem(90, 10)
        )
        assert same(whole, parse(name).select(problem(90, 10)))

    def test_a_small_share_still_covers_the_budget_and_what_is_ahead(self, name) -> None:
        text = f"{name}:thrifty,gradient_share=0.01,query_size=3"
        alone = parse(text).select(problem(200, 20))
        further = parse(text).select(problem(200, 20, ahead=30))
        assert len(set(further.ids.tolist())) == 50
        assert further.ids[:20].tolist() == alone.ids.tolist()

    @pytest.mark.parametrize("share", ["0", "-0.5", "1.01", "nan"])
    def test_impossible_shares(self, name, share) -> None:
        with pytest.raises(InputError, match="gradient_share"):
            parse(f"{name}:gradient_share={share}")

    def test_is_a_word(self, name) -> None:
        values = parse(name).info.words["thrifty"]
        text = ",".join(f"{option}={value}" for option, value in values.items())
        assert canonical(f"{name}:{text}") == f"{name}:thrifty"
        assert canonical(f"{name}:thrifty,eta=10") == f"{name}:thrifty,eta=10"
        assert canonical("random:thrifty") == "random"


def test_usim_does_not_depend_on_its_blocks(monkeypatch) -> None:
    whole = [parse(name).select(problem(100, 10)) for name in ("usimc", "usimf")]
    monkeypatch.setattr("alunet.query.usim.CHUNK_BYTES", 2000)
    pieces = [parse(name).select(problem(100, 10)) for name in ("usimc", "usimf")]
    for left, right in zip(whole, pieces, strict=True):
        assert left.ids.tolist() == right.ids.tolist()
        np.testing.assert_allclose(left.gains, right.gains, rtol=1e-4)


def test_usim_spends_the_batch_on_different_samples() -> None:
    """Ten groups of equal samples: a batch of ten takes one of each, where entropy takes the
    copies of the best.
    """
    outputs = ArrayOutputs(100)
    for array in (outputs.var, outputs.entropies, outputs.delta, outputs.inputs, outputs.gradients):
        array[...] = np.repeat(array[:10], 10, axis=0)
    outputs.var[:] = 0.1
    groups = {
        name: set(
            ((parse(name).select(problem(100, 10, outputs=outputs)).ids - 100) // 30).tolist()
        )
        for name in ("usimc:eta=0", "usimf:eta=0", "entropy")
    }
    assert groups["usimc:eta=0"] == groups["usimf:eta=0"] == set(range(10))
    assert len(groups["entropy"]) == 1


def test_options_are_read_from_text() -> None:
    strategy = parse(" usimc : eta=10, elbow=kneedle,optimizer=stochastic ")
    changed = {
        name: value
        for name, value in strategy.settings.items()
        if value != parse("usimc").settings[name]
    }
    assert changed == {"eta": 10.0, "elbow": "kneedle", "optimizer": "stochastic"}
    assert parse("usimf:fisher-samples=50").settings["fisher_samples"] == 50


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("usmic", "Did you mean 'usimc'"),
        ("usimc:eat=1", "Did you mean 'eta'"),
        ("usimc:elbow=cord", "Did you mean 'chord'"),
        ("usimc:eta=much", "Give a number"),
        ("usimc:eta=-1", "not negative"),
        ("usimc:eta=nan", "finite"),
        ("usimc:eta", "option=value"),
        ("usimf:damping=-1", "damping"),
        ("usimf:coordinates=0", "at least 1"),
        ("random:eta=1", "no option 'eta'"),
    ],
)
def test_misspelt_options_get_a_hint(text, says) -> None:
    with pytest.raises(InputError, match=says):
        parse(text)


def test_listing_strategies_loads_nothing_heavy() -> None:
    code = (
        "import sys; from alunet.query import names; names(); "
        "print(*{'torch', 'numba', 'submodlib'} & set(sys.modules))"
    )
    path = str(Path(alunet.query.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.strip() == ""
