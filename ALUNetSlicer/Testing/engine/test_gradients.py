"""Per-sample gradients, batched, against autograd one sample at a time (docs/method.md, 2.5,
2.6).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from alunet.errors import InputError
from alunet.model import gradients
from alunet.model.environment import Folders
from alunet.model.network import Model
from alunet.model.reader import TileReader
from alunet.schema import ignore_events

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reader(trained) -> TileReader:
    return TileReader(Folders(trained.nnunet), trained.pool, batch_size=5)


@pytest.fixture(scope="module")
def exact(trained, reader) -> gradients.GradientReader:
    """In double precision."""
    model = Model(trained.nnunet, trained.weights, "cpu")
    model.network.double()
    return gradients.GradientReader(model, reader, "training", ignore_events)


def naive(
    exact: gradients.GradientReader, sample: int, layers: list
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias gradients of one sample: plain autograd through the whole network."""
    tiles = next(iter(exact.reader.batches(np.array([sample]))))
    parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
    for parameter in parameters:
        parameter.requires_grad_(True)
    heads = exact.model.network(torch.from_numpy(tiles.images).double())
    loss = sum(
        weight * (functional.log_softmax(head, 1).amax(1) * inside).sum() / inside.sum()
        for weight, head in zip(exact.weights, heads, strict=True)
        if weight
        for inside in [
            functional.adaptive_max_pool2d(
                torch.from_numpy(tiles.valid)[None].double(), head.shape[2:]
            )[0]
        ]
    )
    found = torch.autograd.grad(loss, parameters)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return list(zip(found[::2], found[1::2], strict=True))


def test_batched_decoder_gradients_equal_autograd_one_by_one(trained, exact):
    ids = np.array([0, 7, 50, 51, 90, 120, 121])
    coordinates = np.arange(0, sum(layer.weight.numel() for layer in exact.decoder), 37)
    for _tiles, inputs, deltas in exact.sweep(ids, exact.decoder, "test"):
        batch = [
            gradients.weight_gradients(a, d, layer.kernel_size)
            for a, d, layer in zip(inputs, deltas, exact.decoder, strict=True)
        ]
        first = naive(exact, int(ids[_tiles.rows[0]]), exact.decoder)
        for found, (wanted, _bias) in zip(batch, first, strict=True):
            assert (found[0] - wanted.flatten()).abs().max() < 1e-12 * max(1, wanted.abs().max())
    together = gradients.decoder_gradients(exact, ids, coordinates)
    for row, sample in enumerate(ids):
        wanted = torch.cat(
            [weight.flatten() for weight, _ in naive(exact, int(sample), exact.decoder)]
        )
        assert np.allclose(together[row], wanted.numpy()[coordinates], rtol=1e-5, atol=1e-9)


def test_bottleneck_factors_give_the_weight_gradient(exact):
    ids = np.array([3, 60, 61])
    delta, inputs = gradients.bottleneck_factors(exact, ids)
    for row, sample in enumerate(ids):
        found = gradients.weight_gradients(
            torch.from_numpy(inputs[row : row + 1]), torch.from_numpy(delta[row : row + 1]), (3, 3)
        )
        wanted = naive(exact, int(sample), exact.bottleneck)[0][0].flatten()
        assert (found[0] - wanted).abs().max() < 1e-12


def test_bias_gradients_vanish_and_filters_are_orthogonal_to_their_gradients(exact):
    for layer, (weight, bias) in zip(exact.decoder, naive(exact, 40, exact.decoder), strict=True):
        scale = weight.flatten(1).norm(dim=1)
        product = (weight * layer.weight).flatten(1).sum(1)
        product = product / (layer.weight.flatten(1).norm(dim=1) * scale).clamp_min(1e-30)
        assert bias.abs().max() < 1e-9 * scale.max()
        assert product.abs().max() < 1e-3  # exact but for the epsilon of the instance norm


def test_fisher_is_the_mean_over_the_subset(exact):
    ids = np.array([2, 30, 31, 77, 100, 140])
    fisher = gradients.fisher_diagonal(exact, ids)
    squares = (
        gradients.decoder_gradients(exact, ids, np.arange(len(fisher))).astype(np.float64) ** 2
    )
    assert np.allclose(fisher, squares.mean(0), rtol=1e-5, atol=1e-20)
    assert np.allclose(fisher, gradients.fisher_diagonal(exact, ids[::-1]), rtol=1e-12)


def test_large_and_small_maps_agree():
    """Both ways of `weight_gradients`, the unfolded and the grouped one, are the same product."""
    torch.manual_seed(0)
    inputs, delta = torch.randn(2, 3, 40, 30).double(), torch.randn(2, 4, 40, 30).double()
    grouped = gradients.weight_gradients(inputs, delta, (3, 3))
    columns = functional.unfold(inputs, (3, 3), padding=1)
    assert torch.allclose(
        grouped, torch.bmm(delta.flatten(2), columns.transpose(1, 2)).flatten(1), atol=1e-10
    )


@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (3, 1), (1, 1)])
@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_single_entries_are_those_of_the_whole_gradient(kernel, share, dtype):
    torch.manual_seed(0)
    inputs = torch.randn(3, 5, 11, 7, dtype=dtype)
    delta = torch.randn(3, 4, 11, 7, dtype=dtype)
    whole = gradients.weight_gradients(inputs, delta, kernel)
    size = whole.shape[1]
    chosen = np.random.default_rng(0).permutation(size)[: max(1, int(share * size))]
    found = gradients.gradients_at(inputs, delta, kernel, chosen)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert torch.allclose(found, whole[:, torch.from_numpy(chosen)], atol=tolerance)


def test_an_entry_that_is_not_finite_stays_so():
    inputs, delta = torch.ones(1, 2, 6, 6), torch.ones(1, 3, 6, 6)
    inputs[0, 1, 2, 2] = float("nan")
    found = gradients.gradients_at(inputs, delta, (3, 3), np.array([4, 13]))
    assert found[0, 0] == 36
    assert found[0, 1].isnan()


def test_parameters_stay_the_networks_own(exact):
    before = {name: id(p) for name, p in exact.model.network.named_parameters()}
    gradients.bottleneck_factors(exact, np.array([1, 2]))
    assert {name: id(p) for name, p in exact.model.network.named_parameters()} == before
    assert all(p.grad is None for p in exact.model.network.parameters())


def test_head_weights(exact):
    model = exact.model
    assert model.head_weights("training") == pytest.approx([2 / 3, 1 / 3, 0])
    assert model.head_weights("full-res") == [1, 0, 0]
    assert model.head_weights("all-equal") == [1, 1, 1]
    with pytest.raises(InputError, match="first"):
        model.head_weights("first")


def test_sampled_fisher_similarity_estimates_the_inner_product(trained, exact):
    """E over draws of coordinates of (1/m) sum g_u g_q / F is <g_u, g_q> / sum F
    (docs/method.md, 2.7).
    """
    from alunet.query.weights import draw_without_replacement

    ids = trained.ids[5:200:9]
    fisher = gradients.fisher_diagonal(exact, ids)
    whole = gradients.decoder_gradients(exact, ids, np.arange(len(fisher))).astype(np.float64)
    wanted = whole @ whole.T / fisher.sum()
    draws = [
        draw_without_replacement(fisher, 10_000, np.random.default_rng(seed)) for seed in range(3)
    ]
    found = np.mean([(whole[:, c] / fisher[c]) @ whole[:, c].T / len(c) for c in draws], axis=0)
    pairs = np.triu_indices(len(ids))
    assert np.corrcoef(found[pairs], wanted[pairs])[0, 1] > 0.95
