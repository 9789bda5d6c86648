"""FLQMI and its greedy maximisation: against the definition and against submodlib."""

from __future__ import annotations

import builtins
import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from alunet.errors import InputError
from alunet.query.flqmi import Selection, maximise, objective

WORKED = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.1], [0.85, 0.2, 0.0], [0.1, 0.1, 0.7]])
HAS_SUBMODLIB = importlib.util.find_spec("submodlib") is not None
needs_submodlib = pytest.mark.skipif(
    not HAS_SUBMODLIB, reason="submodlib-py has no wheel for this Python or system"
)


@st.composite
def kernels(draw, whole=False):
    """A similarity matrix with negative entries; of small whole numbers, thus full of exact
    ties, where asked.
    """
    shape = draw(st.tuples(st.integers(1, 24), st.integers(1, 12)))
    if whole:
        values = draw(arrays.arrays(np.int64, shape, elements=st.integers(-2, 3)))
        return values.astype(np.float32)
    return (
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=shape).astype(np.float32)
    )


def by_definition(kernel, budget, eta, multiplicity) -> Selection:
    """Greedy straight from the objective: always the first sample whose addition is worth most."""
    rows: list[int] = []
    gains = []
    for _ in range(min(budget, len(kernel))):
        before = objective(kernel, np.array(rows, int), eta, multiplicity)
        gain = [
            -1.0
            if x in rows
            else objective(kernel, np.array([*rows, x]), eta, multiplicity) - before
            for x in range(len(kernel))
        ]
        rows.append(int(np.argmax(gain)))
        gains.append(max(gain))
    return Selection(np.array(rows), np.array(gains))


@pytest.mark.parametrize(
    ("eta", "rows", "gains"),
    [
        (0, [1, 0, 3, 2], [1.1, 0.7, 0.6, 0.0]),
        (10, [0, 1, 2, 3], [10.0, 8.8, 8.5, 7.6]),
    ],
)
@pytest.mark.parametrize("optimizer", ["lazy", "naive"])
def test_worked_example(eta, rows, gains, optimizer) -> None:
    """The tables of docs/method.md, 2.10."""
    found = maximise(WORKED, 4, eta=eta, optimizer=optimizer)
    assert found.rows.tolist() == rows
    np.testing.assert_allclose(found.gains, gains, atol=1e-12)


def test_worked_example_at_eta_one_is_a_tie_of_three() -> None:
    """At eta = 1 the samples 0, 1 and 2 tie at 1.9 exactly; in whole numbers the smallest id
    wins.
    """
    found = maximise(np.round(100 * WORKED), 4, eta=1)
    assert found.rows.tolist() == [0, 1, 3, 2]
    assert found.gains.tolist() == [190, 160, 130, 85]


@pytest.mark.parametrize(
    "optimizer", ["lazy", "naive", pytest.param("submodlib", marks=needs_submodlib)]
)
def test_worked_example_with_multiplicities(optimizer) -> None:
    found = maximise(WORKED, 2, eta=0, multiplicity=np.array([1, 1, 3]), optimizer=optimizer)
    assert found.rows.tolist() == [3, 2]
    np.testing.assert_allclose(found.gains, [2.3, 0.85], atol=1e-6)


@given(kernels(), st.data())
@settings(deadline=None)
def test_multiplicities_are_duplicated_columns(kernel, data) -> None:
    multiplicity = np.array(
        data.draw(st.lists(st.integers(1, 4), min_size=kernel.shape[1], max_size=kernel.shape[1]))
    )
    merged = maximise(kernel, 5, multiplicity=multiplicity)
    repeated = maximise(np.repeat(kernel, multiplicity, axis=1), 5)
    assert merged.rows.tolist() == repeated.rows.tolist()
    np.testing.assert_allclose(merged.gains, repeated.gains, rtol=1e-6, atol=1e-6)


@given(kernels(whole=True), st.integers(1, 30), st.sampled_from([0.0, 1.0, 10.0]))
@settings(deadline=None)
def test_lazy_is_greedy_among_exact_ties(kernel, budget, eta) -> None:
    """Ties fall to the smallest id, in the lazy evaluation as by definition; negative entries
    and zero rows too.
    """
    multiplicity = 1 + np.arange(kernel.shape[1]) % 3
    wanted = by_definition(kernel, budget, eta, multiplicity)
    for optimizer in ("lazy", "naive"):
        found = maximise(kernel, budget, eta=eta, multiplicity=multiplicity, optimizer=optimizer)
        assert found.rows.tolist() == wanted.rows.tolist()
        assert found.gains.tolist() == wanted.gains.tolist()


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1.0, 100.0]),
    st.sampled_from([np.float32, np.float64]),
)
@settings(deadline=None, max_examples=40)
def test_lazy_is_greedy_on_random_similarities(seed, eta, dtype) -> None:
    """At a size where the heap works; row 3 is zero, half of the entries are negative."""
    kernel = np.random.default_rng(seed).normal(size=(300, 70)).astype(dtype)
    kernel[3] = 0
    lazy, naive = (maximise(kernel, 60, eta=eta, optimizer=name) for name in ("lazy", "naive"))
    assert lazy.rows.tolist() == naive.rows.tolist()
    np.testing.assert_allclose(lazy.gains, naive.gains, rtol=1e-12)
    assert lazy.gains.sum() == pytest.approx(objective(kernel, lazy.rows, eta), rel=1e-6)
    assert np.all(np.diff(lazy.gains) <= 1e-9)


@needs_submodlib
@pytest.mark.parametrize("eta", [0.0, 1.0, 10.0])
def test_order_of_submodlib(eta) -> None:
    """The same samples in the same order as submodlib, from its lazy and from its naive greedy."""
    from submodlib import FacilityLocationVariantMutualInformationFunction as Flvmi

    kernel = np.random.default_rng(5).normal(0.2, 1, size=(400, 60)).astype(np.float32)
    ours = maximise(kernel, 50, eta=eta)
    naive = Flvmi(
        n=400, num_queries=60, query_sijs=np.maximum(kernel, 0), queryDiversityEta=eta
    ).maximize(budget=50, optimizer="NaiveGreedy", show_progress=False)
    assert ours.rows.tolist() == [row for row, _ in naive]
    lazy = maximise(kernel, 50, eta=eta, optimizer="submodlib")
    assert ours.rows.tolist() == lazy.rows.tolist()
    np.testing.assert_allclose(ours.gains, lazy.gains, rtol=1e-5)


def test_stochastic_is_close_and_repeatable() -> None:
    kernel = np.random.default_rng(1).random((1000, 80), np.float32)
    exact = maximise(kernel, 40)
    first, again, other = (
        maximise(kernel, 40, optimizer="stochastic", rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert first.rows.tolist() == again.rows.tolist() != other.rows.tolist()
    assert len(set(first.rows.tolist())) == 40
    assert objective(kernel, first.rows) > 0.9 * objective(kernel, exact.rows)
    assert first.gains.sum() == pytest.approx(objective(kernel, first.rows))


@given(kernels(whole=True), st.floats(0.01, 0.99), st.integers(0, 1000))
@settings(deadline=None)
def test_stochastic_never_repeats_nor_hangs(kernel, epsilon, seed) -> None:
    """Few candidates a step, down to one, and more than are left."""
    budget = max(1, len(kernel) - 1)
    found = maximise(
        kernel, budget, optimizer="stochastic", rng=np.random.default_rng(seed), epsilon=epsilon
    )
    assert len(set(found.rows.tolist())) == len(found.rows) == budget


@pytest.mark.parametrize("optimizer", ["lazy", "naive", "stochastic", "submodlib"])
@pytest.mark.parametrize("budget", [4, 100])
def test_a_budget_that_covers_the_pool_takes_it_all(optimizer, budget) -> None:
    """Where submodlib raises."""
    found = maximise(WORKED, budget, eta=0, optimizer=optimizer)
    assert found.rows.tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize("kernel", [np.zeros((5, 3)), -np.ones((5, 3)), np.full((5, 3), -np.inf)])
def test_nothing_to_gain_takes_the_smallest_ids(kernel) -> None:
    """All equal; negative similarities count as 0."""
    found = maximise(kernel, 3)
    assert found.rows.tolist() == [0, 1, 2]
    assert found.gains.tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("optimizer", ["lazy", "naive", "stochastic", "submodlib"])
def test_refuses_what_is_not_finite(value, optimizer) -> None:
    """Submodlib takes NaN without a word and crashes on infinity."""
    kernel = WORKED.astype(np.float32)
    kernel[2, 1] = value
    with pytest.raises(InputError, match="candidate 2 "):
        maximise(kernel, 2, optimizer=optimizer, rng=np.random.default_rng(0))


def test_refuses_bad_arguments() -> None:
    with pytest.raises(InputError, match="budget of 0"):
        maximise(WORKED, 0)
    with pytest.raises(InputError, match="eta is -1"):
        maximise(WORKED, 1, eta=-1)
    with pytest.raises(ValueError, match="float matrix"):
        maximise(WORKED.astype(int), 1)
    with pytest.raises(ValueError, match="multiplicity"):
        maximise(WORKED, 1, multiplicity=np.array([1, 2]))


def test_says_where_submodlib_exists(monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *rest, **kwargs):
        if name.startswith("submodlib"):
            raise ImportError(name)
        return real(name, *rest, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"Linux with Python 3\.10 to 3\.12"):
        maximise(WORKED, 2, optimizer="submodlib")
