"""A kernel that is not stored: lazy greedy computes its rows, and chooses what it would have chosen
from the stored one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_strategies import problem

from alunet.errors import InputError
from alunet.query import Factors, parse, unstored
from alunet.query.flqmi import maximise, objective
from alunet.query.similarity import DotKernel
from alunet.query.unstored import ComputedRows, Embeddings, maximise_computed


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Several blocks, several looks after each pick, and rows that have to be computed again."""
    kept = {name: getattr(unstored, name) for name in ("BLOCK", "_FIRST_LOOK")}
    for name, value in (("BLOCK", 4), ("_FIRST_LOOK", 1)):
        setattr(unstored, name, value)
    yield
    for name, value in kept.items():
        setattr(unstored, name, value)


@st.composite
def embedded(draw, whole: bool):
    """Embeddings; of small whole numbers, thus without rounding and full of ties, where asked."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 5)))
    if whole:
        return draw(arrays.arrays(np.int64, shape, elements=st.integers(-2, 2))).astype(np.float32)
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def both(values: np.ndarray, queries: int, memory: int):
    """A matrix, and the same as rows that are computed."""
    kernel = DotKernel(values[:queries])
    embeddings = Embeddings(values[:1], len(values))
    order = np.arange(len(values))[::-1]
    embeddings.write(order, values[order])
    columns = len(values[:queries])
    return kernel.rows(values), ComputedRows(kernel, embeddings, columns, memory)


sizes = given(
    queries=st.integers(1, 12),
    budget=st.integers(1, 45),
    eta=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    memory=st.integers(0, 3000),
    data=st.data(),
)


@settings(max_examples=200, deadline=None)
@sizes
def test_the_same_picks_as_from_the_stored_kernel(queries, budget, eta, memory, data) -> None:
    values = data.draw(embedded(whole=True))
    stored, computed = both(values, queries, memory)
    often = data.draw(arrays.arrays(np.int64, stored.shape[1], elements=st.integers(0, 3)))
    expected = maximise(stored, budget, eta=eta, multiplicity=often)
    found = maximise_computed(computed, budget, eta=eta, multiplicity=often)
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.gains.tolist() == expected.gains.tolist()
    assert len(computed.kept) <= max(8, len(values)), "memory is bounded"


@settings(max_examples=100, deadline=None)
@sizes
def test_as_good_picks_where_sums_are_rounded(queries, budget, eta, memory, data) -> None:
    stored, computed = both(data.draw(embedded(whole=False)), queries, memory)
    expected = maximise(stored, budget, eta=eta)
    found = maximise_computed(computed, budget, eta=eta)
    assert len(set(found.rows.tolist())) == len(expected.rows)
    assert np.allclose(found.gains, expected.gains, rtol=1e-5, atol=1e-5)
    values = [objective(stored, one.rows, eta) for one in (found, expected)]
    assert values[0] == pytest.approx(values[1], rel=1e-5, abs=1e-5)


def test_embeddings_of_both_forms_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    factors = Factors(*(rng.normal(size=(6, 2, 3, 3)).astype(np.float32) for _ in range(2)))
    kept = Embeddings(factors, 6)
    kept.write(np.array([4, 1]), Factors(factors.delta[[4, 1]], factors.inputs[[4, 1]]))
    back = kept.read(np.array([1, 4]))
    assert np.array_equal(back.delta, factors.delta[[1, 4]])
    assert np.array_equal(back.inputs, factors.inputs[[1, 4]])
    assert kept.nbytes == 6 * unstored.embedding_bytes(factors)


def test_a_similarity_that_is_no_number_is_refused_with_its_candidate() -> None:
    values = np.ones((20, 2), np.float32)
    values[17] = np.nan
    with pytest.raises(InputError, match="candidate 17 is not a finite number"):
        maximise_computed(both(values, 3, 0)[1], 2, eta=1.0)


def test_a_query_stores_no_kernel_that_the_memory_cannot_hold() -> None:
    """It compares the need with what may be used, and the record of the round says what it did."""
    strategy, query = parse("usimf:coordinates=20,query_size=200"), problem(n=60)
    stored = strategy.select(query)
    large = 4 * 60 * stored.diagnostics["query_unique"]
    assert (
        strategy.select(replace(query, memory=large)).diagnostics.keys()
        == stored.diagnostics.keys()
    )
    computed = strategy.select(replace(query, memory=large - 1))
    assert computed.ids.tolist() == stored.ids.tolist()
    assert computed.diagnostics["kernel"].startswith("not stored (0 MiB): ")
    assert " for 60 candidates from embeddings of 0 MiB" in computed.diagnostics["kernel"]


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("usimc:query_size=200", 5000),  # gradients larger than the kernel
        ("usimf:coordinates=20,query_size=200", 1000),
        ("usimf:coordinates=20,query_size=200,optimizer=stochastic", 5000),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_computed(name, memory) -> None:
    with pytest.raises(InputError, match="Comparing 60 samples with .* MiB may be used"):
        parse(name).select(replace(problem(n=60), memory=memory))
