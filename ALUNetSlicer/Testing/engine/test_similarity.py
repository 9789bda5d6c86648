"""Similarity matrices: position-Gram cosine, Fisher metric, blocks of bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alunet.query.model_outputs import Factors
from alunet.query.similarity import CosineKernel, DotKernel, cheapest, fisher_scale, gather
from alunet.query.weights import draw_without_replacement


def factors(count, filters, channels, height, width, seed=0, dtype=np.float64) -> Factors:
    rng = np.random.default_rng(seed)
    return Factors(
        rng.normal(size=(count, filters, height, width)).astype(dtype),
        rng.normal(size=(count, channels, height, width)).astype(dtype),
    )


def gradients(given_factors: Factors) -> np.ndarray:
    """The convolution's weight gradients by autograd, one sample at a time: (m, Cout Cin 9)."""
    import torch

    filters, channels = given_factors.delta.shape[1], given_factors.inputs.shape[1]
    result = []
    for delta, inputs in zip(given_factors.delta, given_factors.inputs, strict=True):
        weight = torch.zeros(filters, channels, 3, 3, dtype=torch.float64, requires_grad=True)
        output = torch.nn.functional.conv2d(
            torch.as_tensor(inputs)[None].double(), weight, padding=1
        )
        output.backward(torch.as_tensor(delta)[None].double())
        result.append(weight.grad.flatten().numpy())
    return np.array(result)


def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)
    dots = left @ right.T
    return np.maximum(np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0), 0)


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=40)
def test_both_ways_equal_the_explicit_inner_product(filters, channels, height, width, seed) -> None:
    """Position-Gram = explicit gradients = autograd, below 1e-10 in double, whatever the block
    size.
    """
    query = factors(4, filters, channels, height, width, seed)
    pool = factors(7, filters, channels, height, width, seed + 1)
    pool.delta[2] = 0
    wanted = cosine(gradients(pool), gradients(query))
    for method in ("gram", "direct"):
        for block_bytes in (2**28, 300):
            found = CosineKernel(query, method=method, block_bytes=block_bytes).rows(pool)
            np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_a_sample_is_most_similar_to_itself() -> None:
    query = factors(6, 8, 8, 5, 4, dtype=np.float32)
    similarity = CosineKernel(query).rows(query)
    assert similarity.dtype == np.float32
    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-5)
    assert similarity.max() <= 1 + 1e-5
    assert similarity.min() >= 0


def test_cosine_has_no_scale() -> None:
    """Gradients of a confident network are tiny: no underflow in single precision."""
    query, pool = (
        factors(3, 4, 4, 4, 4, dtype=np.float32),
        factors(5, 4, 4, 4, 4, seed=1, dtype=np.float32),
    )
    tiny = Factors(pool.delta * np.float32(1e-25), pool.inputs)
    for method in ("gram", "direct"):
        kernel = CosineKernel(query, method=method)
        np.testing.assert_allclose(kernel.rows(tiny), kernel.rows(pool), rtol=1e-5, atol=1e-6)


def test_nan_is_not_hidden() -> None:
    query, pool = factors(3, 4, 4, 4, 4), factors(5, 4, 4, 4, 4, seed=1)
    pool.delta[1, 0, 0, 0] = np.nan
    for method in ("gram", "direct"):
        found = CosineKernel(query, method=method).rows(pool)
        assert np.isnan(found[1]).all()
        assert np.isfinite(np.delete(found, 1, axis=0)).all()


def test_takes_the_way_with_fewer_products() -> None:
    """Specification 5.3: Gram matrices for 16 positions of 512 channels, explicit gradients for
    35 of 256.
    """
    assert cheapest(factors(1, 512, 512, 4, 4)) == "gram"
    assert cheapest(factors(1, 256, 256, 7, 5)) == "direct"


@pytest.mark.parametrize("method", ["gram", "direct"])
def test_half_precision_stays_close(method) -> None:
    query, pool = (
        factors(20, 32, 32, 4, 4, dtype=np.float32),
        factors(50, 32, 32, 4, 4, seed=1, dtype=np.float32),
    )
    pool.delta[:20], pool.inputs[:20] = query.delta, query.inputs
    exact = CosineKernel(query, method=method).rows(pool)
    half = CosineKernel(query, method=method, precision="bf16").rows(pool)
    assert np.abs(half - exact).max() < 0.02


def test_refuses_another_layer() -> None:
    with pytest.raises(ValueError, match="another layer"):
        CosineKernel(factors(2, 3, 3, 4, 4)).rows(factors(2, 3, 3, 4, 5))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_gathered_coordinates_are_those_of_the_gradient(filters, channels, height, width) -> None:
    given_factors = factors(3, filters, channels, height, width)
    coordinates = np.random.default_rng(0).permutation(9 * filters * channels)[:10]
    np.testing.assert_allclose(
        gather(given_factors, coordinates), gradients(given_factors)[:, coordinates], atol=1e-12
    )


def heavy_gradients(samples=60, parameters=60_000) -> np.ndarray:
    """Gradients whose entries differ by orders of magnitude between parameters, as those of a
    network do.
    """
    rng = np.random.default_rng(0)
    size = rng.lognormal(0, 1, parameters)
    shared = rng.normal(size=(6, parameters))
    return (rng.normal(size=(samples, 6)) @ shared + rng.normal(size=(samples, parameters))) * size


def test_fisher_similarity_estimates_the_inner_product() -> None:
    """The inverse Fisher cancels the sampling: S is <g_u, g_q> / sum F but for the draw of
    coordinates.
    """
    values = heavy_gradients()
    fisher = (values**2).mean(axis=0)
    exact = values @ values.T / fisher.sum()
    total = np.zeros_like(exact)
    for seed in range(4):
        chosen = draw_without_replacement(fisher, 10_000, np.random.default_rng(seed))
        part = values[:, chosen]
        sampled = (part / fisher[chosen]) @ part.T / len(chosen)
        total += sampled
        found = DotKernel(part, scale=fisher_scale(fisher[chosen], 0.0)).rows(part)
        np.testing.assert_allclose(found, np.maximum(sampled, 0), atol=1e-9)
    upper = np.triu_indices(len(exact), 1)
    assert np.corrcoef(total[upper], exact[upper])[0, 1] > 0.95


@pytest.mark.parametrize("damping", [0.0, 1e-3])
@pytest.mark.parametrize("factor", [1e-3, 40.0])
def test_fisher_similarity_ignores_the_scale_of_the_loss(damping, factor) -> None:
    """A loss c times as large changes neither the coordinates nor S."""

    def similarity(values):
        fisher = (values**2).mean(axis=0)
        chosen = draw_without_replacement(fisher, 500, np.random.default_rng(0))
        part = values[:, chosen].astype(np.float32)
        return chosen, DotKernel(part, scale=fisher_scale(fisher[chosen], damping)).rows(part)

    values = heavy_gradients(20, 3000)
    (chosen, before), (again, after) = similarity(values), similarity(factor * values)
    assert chosen.tolist() == again.tolist()
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_cosine_of_dense_embeddings() -> None:
    values = np.random.default_rng(0).normal(size=(8, 5)) * 1e-20
    values[3] = 0
    found = DotKernel(values[:3], cosine=True).rows(values)
    np.testing.assert_allclose(found, cosine(values * 1e20, values[:3] * 1e20), atol=1e-12)
