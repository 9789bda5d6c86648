"""The paper's competitors do what docs/method.md, 2.2 and 2.4 say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_strategies import ArrayOutputs, problem

from alunet.errors import InputError
from alunet.query import Need, Streams, parse
from alunet.query import centres as module
from alunet.query.centres import draw, farthest_first, kmeans_plus_plus


class Points(ArrayOutputs):
    """Candidates and labelled samples are points."""

    def __init__(self, candidates, labelled=()) -> None:
        super().__init__(len(candidates))
        self.gradients = np.array(candidates, np.float32).reshape(len(candidates), -1)
        self.known = (
            np.array(labelled, np.float32).reshape(-1, self.gradients.shape[1])
            if len(labelled)
            else np.empty((0, 0), np.float32)
        )

    def labelled_features(self):
        return self.known


def ask(name, candidates, budget, labelled=(), seed=0):
    outputs = Points(candidates, labelled)
    return parse(name).select(problem(len(candidates), budget, seed, outputs=outputs))


def rows(batch) -> list[int]:
    return ((batch.ids - 100) // 3).tolist()


# --- the largest scores ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("mean-std", lambda s: np.sqrt(s.var).mean(axis=1)),
        ("mean-std:measure=var", lambda s: s.var.mean(axis=1)),
        ("bald", lambda s: s.mc().bald),
    ],
)
def test_scores_over_all_classes_the_largest_first(text, score) -> None:
    query = problem(60, 9)
    batch = parse(text).select(query)
    wanted = score(query.outputs)
    assert rows(batch) == np.argsort(-wanted, kind="stable")[:9].tolist()
    np.testing.assert_allclose(batch.gains, np.sort(wanted)[::-1][:9], rtol=1e-6)


def test_standard_deviation_and_variance_rank_differently() -> None:
    """Two passes, K = 2 : a variance of 0.32 in one class counts more than 0.09 in two, as a
    deviation it counts less."""
    outputs = ArrayOutputs(3)
    outputs.var = np.array([[0.0, 0.32], [0.09, 0.09], [0.0, 0.0]], np.float32)
    assert rows(parse("mean-std:measure=var").select(problem(3, 1, outputs=outputs))) == [0]
    batch = parse("mean-std").select(problem(3, 1, outputs=outputs))
    assert rows(batch) == [1]
    assert batch.reasons == ["mean standard deviation 0.3; rank 1"]


@pytest.mark.parametrize("text", ["mean-std", "bald", "entropy"])
def test_equal_scores_go_to_the_smallest_id(text) -> None:
    outputs = ArrayOutputs(40)
    outputs.var[:], outputs.entropies[:] = 0.25, 0.25
    outputs.var[30], outputs.entropies[30] = 0.5, 0.5
    assert rows(parse(text).select(problem(40, 4, outputs=outputs))) == [30, 0, 1, 2]


# --- stochastic batches ---------------------------------------------------------------------------


def test_leftovers_are_in_no_group() -> None:
    """The specification's example: 1050 samples and a budget of 100 make 10 groups."""
    batch = parse("stochastic-batches").select(problem(1050, 100))
    assert (batch.diagnostics["groups"], batch.diagnostics["leftover"]) == (10, 50)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("stochastic-batches", lambda s: s.entropies),
        ("stochastic-batches:measure=variance", lambda s: s.var.mean(axis=1)),
    ],
)
def test_the_best_of_the_groups_of_a_permutation(text, score) -> None:
    query = problem(65, 8, seed=5)
    batch = parse(text).select(query)
    order = Streams(5, 1)["stb-groups"].permutation(65)
    groups = [order[start : start + 8] for start in range(0, 64, 8)]
    sums = [float(score(query.outputs)[group].sum()) for group in groups]
    assert rows(batch) == groups[int(np.argmax(sums))].tolist()
    assert batch.diagnostics["group_score"] == pytest.approx(max(sums))
    assert batch.diagnostics["mean_group_score"] == pytest.approx(np.mean(sums))


def test_every_sample_has_the_same_chance_of_being_in_the_best_group_where_scores_are_equal() -> (
    None
):
    outputs = ArrayOutputs(10)
    outputs.entropies[:] = 1
    counts = np.zeros(10)
    for seed in range(600):
        counts[rows(parse("stochastic-batches").select(problem(10, 3, seed, outputs=outputs)))] += 1
    np.testing.assert_allclose(counts / 600, 0.3, atol=0.08)


def test_an_option_decides_what_the_model_is_asked() -> None:
    strategy = parse("stochastic-batches:measure=variance")
    query = problem()
    strategy.select(query)
    assert strategy.needs == {Need.MC}
    assert set(query.outputs.asked) == {"mc"}
    assert parse("stochastic-batches").needs == {Need.ENTROPY}


# --- core-set -------------------------------------------------------------------------------------


def brute_force(values: np.ndarray, labelled: np.ndarray, budget: int) -> list[int]:
    """k-centre greedy by its definition, in double."""
    picked: list[int] = []
    for _ in range(budget):
        known = np.concatenate([labelled, values[picked]])
        nearest = [min((np.sum((x - z) ** 2) for z in known), default=np.inf) for x in values]
        picked.append(
            max((i for i in range(len(values)) if i not in picked), key=lambda i: (nearest[i], -i))
        )
    return picked


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.integers(0, 4), st.integers(1, 5), st.integers(0, 10_000))
def test_core_set_picks_what_brute_force_picks(n, known, dimensions, seed) -> None:
    """Whole numbers: many equal distances and equal points, all exact."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, (n, dimensions)).astype(float)
    labelled = rng.integers(-3, 4, (known, dimensions)).astype(float)
    budget = int(rng.integers(1, n + 1))
    for precision in (np.float32, np.float64):
        found = farthest_first(
            values.astype(precision), labelled.astype(precision), budget, np.arange(n)
        )
        assert found.rows.tolist() == brute_force(values, labelled, budget)


def test_core_set_on_a_line() -> None:
    """Labelled 0; candidates 1, 9, 10, 5: first 10 (distance 10), then 5 (5), then 1 and 9 are
    equally far.
    """
    batch = ask("core-set", [1, 9, 10, 5], 3, labelled=[0])
    assert rows(batch) == [2, 3, 0]
    assert batch.gains.tolist() == [10, 5, 1]
    assert batch.diagnostics["radius"] == 1
    assert batch.reasons[0] == "farthest from what is labelled: distance 10; rank 1"


def test_core_set_without_labels_begins_with_the_smallest_id() -> None:
    batch = ask("core-set", [4, 0, 9, 5], 3)
    assert rows(batch) == [0, 2, 1]
    assert batch.gains.tolist() == [0, 5, 4]
    assert "nothing is labelled yet" in batch.reasons[0]


def test_core_set_of_equal_samples_takes_the_smallest_ids() -> None:
    """Also where rounding would leave distances between equal features: they have 2048 uneven
    numbers.
    """
    point = np.random.default_rng(1).normal(1000, 1, 2048).astype(np.float32)
    batch = ask("core-set", np.tile(point, (30, 1)), 4, labelled=np.tile(point, (3, 1)))
    assert rows(batch) == [0, 1, 2, 3]
    assert batch.gains.tolist() == [0] * 4


def test_small_distances_survive_large_features(monkeypatch) -> None:
    """|a|^2 + |b|^2 - 2ab in single precision would drown them; one row a block is the same as
    all at once.
    """
    rng = np.random.default_rng(2)
    values = (1000 + rng.normal(0, 1e-2, (40, 300))).astype(np.float32)
    wanted = np.min(
        [((values[:30].astype(float) - z) ** 2).sum(1) for z in values[30:].astype(float)], axis=0
    )
    for size in (module.BLOCK_BYTES, 1):
        monkeypatch.setattr(module, "BLOCK_BYTES", size)
        found = farthest_first(values[:30], values[30:], 1, np.arange(30))
        assert found.squares[0] == pytest.approx(wanted.max(), rel=1e-9)


def test_features_of_the_labelled_must_be_finite() -> None:
    with pytest.raises(InputError, match="labelled embedding is not a finite number"):
        ask("core-set", [1, 2, 3], 1, labelled=[np.nan])


# --- k-means++ ------------------------------------------------------------------------------------


def test_probabilities_of_three_points() -> None:
    """Points 0, 1, 3 and 10: 10 is the longest, then d^2 = 100, 81, 49. Next to 10 and 0 they
    are 0, 1, 9.
    """
    points, times = [0.0, 1.0, 3.0, 10.0], 3000
    pairs = [rows(ask("badge-ll", points, 3, seed=seed)) for seed in range(times)]
    assert {pair[0] for pair in pairs} == {3}
    second = np.bincount([pair[1] for pair in pairs], minlength=4) / times
    np.testing.assert_allclose(second, np.array([100, 81, 49, 0]) / 230, atol=0.03)
    after_zero = [pair[2] for pair in pairs if pair[1] == 0]
    assert np.mean(np.array(after_zero) == 2) == pytest.approx(0.9, abs=0.03)


def test_draws_follow_the_weights_and_never_take_a_zero() -> None:
    weights = np.array([0.0, 1.0, 0.0, 3.0, 0.0])
    rng = np.random.default_rng(0)
    counts = np.bincount([draw(weights, rng) for _ in range(4000)], minlength=5)
    np.testing.assert_allclose(counts / 4000, [0, 0.25, 0, 0.75, 0], atol=0.03)

    class Edge:
        """The ends of the unit interval, and beyond it by rounding."""

        def __init__(self, value) -> None:
            self.value = value

        def random(self):
            return self.value

    assert [draw(weights, Edge(value)) for value in (0.0, 0.25, 1.0)] == [1, 3, 3]


def test_gains_are_distances_to_the_nearest_pick() -> None:
    values = np.random.default_rng(3).normal(size=(50, 6)).astype(np.float32)
    batch = ask("badge-ll", values, 12)
    picks = values[rows(batch)].astype(float)
    assert rows(batch)[0] == np.argmax((values.astype(float) ** 2).sum(1))
    wanted = [np.linalg.norm(picks[0])]
    wanted += [np.linalg.norm(picks[:k] - picks[k], axis=1).min() for k in range(1, 12)]
    np.testing.assert_allclose(batch.gains, wanted, rtol=1e-6)
    assert len(set(rows(batch))) == 12
    assert batch.diagnostics["filled_at_random"] == 0


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_fewer_different_points_than_the_budget_is_filled_at_random(value) -> None:
    """The published code stops in a debugger there."""
    points = [value] * 20 + [value + 1] * 2
    batches = [ask("badge-ll", points, 8, seed=seed) for seed in range(4)]
    for batch in batches:
        assert rows(batch)[0] == 20
        assert rows(batch)[1] < 20
        assert len(set(rows(batch))) == 8
        assert batch.gains[2:].tolist() == [0] * 6
        assert batch.diagnostics["filled_at_random"] == 6
        assert "drawn at random" in batch.reasons[2]
    assert rows(batches[0]) != rows(batches[1])


def test_tiny_gradients_are_told_apart() -> None:
    """A trained network's gradients square to less than single precision can hold."""
    values = np.array([[3e-25], [1e-25], [-3e-25], [0]], np.float32)
    found = kmeans_plus_plus(values, 4, np.random.default_rng(0), np.arange(4))
    assert found.filled == 0
    assert found.rows[0] == 0
