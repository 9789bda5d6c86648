"""The query set: class weights, elbow, weighted draws, random streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alunet.errors import InputError
from alunet.query import STREAMS, Streams
from alunet.query.elbow import chord, difference_curve, kneedle, query_size
from alunet.query.weights import (
    class_weights,
    draw_with_replacement,
    draw_without_replacement,
    weighted_uncertainty,
)


def test_class_weights_example() -> None:
    np.testing.assert_allclose(class_weights(np.array([5, 900, 100]), smoothing=0), [0, 0.1, 0.9])


def test_class_weights_are_smoothed() -> None:
    """k = 1 % of the mean count, at least one voxel."""
    np.testing.assert_allclose(class_weights(np.array([0, 900, 100])), [0, 105 / 1010, 905 / 1010])
    np.testing.assert_allclose(class_weights(np.array([0, 3, 1])), [0, 2 / 6, 4 / 6])


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=9))
def test_class_weights_are_finite_and_sum_to_one(counts) -> None:
    """An absent class gets the largest weight, and a finite one."""
    weights = class_weights(np.array(counts))
    assert np.isfinite(weights).all()
    assert weights[0] == 0
    assert weights.sum() == pytest.approx(1)
    assert weights[1 + int(np.argmin(counts[1:]))] == weights.max()


def test_no_annotation_gives_equal_weights() -> None:
    np.testing.assert_allclose(class_weights(np.array([70, 0, 0, 0])), [0, 1 / 3, 1 / 3, 1 / 3])


def test_weights_need_a_foreground_class() -> None:
    with pytest.raises(InputError, match="no foreground class"):
        class_weights(np.array([7]))


def test_weighted_uncertainty_leaves_out_the_background() -> None:
    per_class = np.array([[9.0, 1.0, 2.0], [9.0, 0.0, 4.0]])
    assert weighted_uncertainty(per_class, np.array([0, 0.25, 0.75])).tolist() == [1.75, 3.0]


@pytest.mark.parametrize("elbow", ["chord", "kneedle"])
def test_elbow_of_an_exponential(elbow) -> None:
    """300 ln(7661/300) = 972.1, in any order of the samples."""
    curve = np.exp(-np.arange(7662) / 300)
    shuffled = np.random.default_rng(0).permutation(curve)
    assert query_size(shuffled, 100, elbow) == (972, 972)


def test_elbow_of_ten_values() -> None:
    """The floor of five budgets then decides, and the pool bounds it."""
    values = np.array([10, 9, 8, 2, 1, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert chord(difference_curve(values)) == 3
    assert query_size(values, 1) == (5, 3)
    assert query_size(values, 3) == (10, 3)


@pytest.mark.parametrize("values", [np.full(1000, 0.3), np.zeros(1000)])
@pytest.mark.parametrize("elbow", ["chord", "kneedle"])
def test_flat_curve_gives_five_budgets(values, elbow) -> None:
    assert query_size(values, 20, elbow) == (100, 0)


@pytest.mark.parametrize("count", [1, 2])
def test_tiny_pools(count) -> None:
    assert query_size(np.arange(count), 1) == (count, 0)


def test_kneedle_follows_the_noise() -> None:
    """Specification 2.8: for two clusters Kneedle stops at the first noise, the chord finds the
    cluster.
    """
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(3, 4, 200), rng.uniform(0, 1, 800)])
    assert query_size(values, 1, "chord")[1] == pytest.approx(200, abs=3)
    assert query_size(values, 1, "kneedle")[1] < 10


def test_kneedle_without_a_knee() -> None:
    """A straight line never falls below its threshold."""
    assert kneedle(difference_curve(np.arange(10.0)[::-1])) is None
    assert query_size(np.arange(10.0), 1, "kneedle") == (5, 0)


def test_draws_follow_the_weights() -> None:
    draws = draw_with_replacement(np.array([1.0, 0, 3]), 40_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(draws, minlength=3) / 40_000, [0.25, 0, 0.75], atol=0.01)


def test_draws_without_replacement_follow_the_sequential_scheme() -> None:
    """Of weights 4, 2, 1, 1 the pair {0, 1} comes with probability 4/8 2/4 + 2/8 4/6 = 5/12."""
    rng = np.random.default_rng(0)
    pairs = [
        tuple(draw_without_replacement(np.array([4.0, 2, 1, 1]), 2, rng)) for _ in range(20_000)
    ]
    assert pairs.count((0, 1)) / 20_000 == pytest.approx(5 / 12, abs=0.012)


def test_draws_without_replacement_take_only_the_possible() -> None:
    """Specification 2.6: fewer samples of positive weight than asked for means all of them."""
    rng = np.random.default_rng(0)
    assert draw_without_replacement(np.array([0, 2.0, 0, 1e-30]), 3, rng).tolist() == [1, 3]


@pytest.mark.parametrize("draw", [draw_with_replacement, draw_without_replacement])
def test_draws_of_zero_weights_are_uniform_and_bad_weights_refused(draw) -> None:
    assert len(draw(np.zeros(50), 20, np.random.default_rng(0))) == 20
    for bad in (np.nan, np.inf, -1.0):
        with pytest.raises(InputError, match="finite and not negative"):
            draw(np.array([1.0, bad]), 1, np.random.default_rng(0))


def test_streams_are_independent_and_repeatable() -> None:
    """Specification 1.8."""
    numbers = {
        (seed, number, name): Streams(seed, number)[name].random()
        for seed in range(3)
        for number in range(3)
        for name in STREAMS
    }
    assert len(set(numbers.values())) == len(numbers)
    assert numbers[2, 1, "init"] == Streams(2, 1)["init"].random()


def test_streams_keep_their_numbers() -> None:
    """A run of last year can be repeated: these numbers must never change."""
    assert Streams(0, 1)["query-draw"].integers(2**32) == 2718951093


def test_unknown_streams_are_refused() -> None:
    with pytest.raises(ValueError, match="no random stream"):
        Streams(0, 0)["dice"]
