"""What Core-Set and BADGE-LL ask of the network: encoder features, and last-layer gradients of
the training loss.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from alunet.model import gradients
from alunet.model.environment import Folders
from alunet.model.features import encoder_features
from alunet.model.losses import dice_and_cross_entropy, log_likelihood
from alunet.model.network import Model
from alunet.model.reader import TileReader
from alunet.schema import ignore_events

IGNORED = 9


def nnunet_loss(weights: list[float]) -> nn.Module:
    """As `nnUNetTrainer._build_loss` makes it for a 2D plan: Dice over the batch, the padding
    ignored.
    """
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(dice, {}, ignore_label=IGNORED, dice_class=MemoryEfficientSoftDiceLoss)
    return DeepSupervisionWrapper(loss, weights)


def pseudo_labels(logits: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return torch.where(inside > 0, logits.argmax(1), IGNORED)[:, None]


@pytest.fixture
def logits() -> torch.Tensor:
    """Five samples, four classes; the last sample shows the background alone."""
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(5, 4, 9, 7, generator=generator, dtype=torch.float64) * 2
    values[4, 0] += 20
    return values


@pytest.fixture
def inside() -> torch.Tensor:
    valid = torch.ones(5, 9, 7, dtype=torch.float64)
    valid[1, :3], valid[2, :, 5:] = 0, 0
    return valid


def test_the_loss_is_nnunets_of_each_sample_alone(logits, inside) -> None:
    found = dice_and_cross_entropy(logits, inside)
    assert found.shape == (5,)
    loss = nnunet_loss([1.0])
    for row in range(5):
        one = slice(row, row + 1)
        wanted = loss([logits[one]], [pseudo_labels(logits[one], inside[one])])
        # nnU-Net sums in single precision
        assert found[row].item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("loss", [dice_and_cross_entropy, log_likelihood])
def test_samples_do_not_mix_and_padding_counts_for_nothing(loss, logits, inside) -> None:
    def slope(rows: slice, changed: torch.Tensor) -> torch.Tensor:
        leaf = changed[rows].clone().requires_grad_(True)
        return torch.autograd.grad(loss(leaf, inside[rows]).sum(), leaf)[0]

    whole = slope(slice(None), logits)
    for row in range(5):
        assert torch.allclose(slope(slice(row, row + 1), logits)[0], whole[row], rtol=0, atol=1e-15)
    assert (whole[1, :, :3] == 0).all() and (whole[2, :, :, 5:] == 0).all()
    other = logits + 5 * (1 - inside[:, None]) * torch.arange(4).view(1, 4, 1, 1)
    assert torch.allclose(slope(slice(None), other), whole, rtol=0, atol=1e-15)


@pytest.fixture(scope="module")
def reader(trained) -> TileReader:
    return TileReader(Folders(trained.nnunet), trained.pool, batch_size=3)


@pytest.fixture(scope="module")
def exact(trained, reader) -> gradients.GradientReader:
    """In double precision, with the loss of BADGE-LL."""
    model = Model(trained.nnunet, trained.weights, "cpu")
    model.network.double()
    return gradients.GradientReader(
        model, reader, "training", ignore_events, dice_and_cross_entropy
    )


@pytest.mark.slow
class TestOnARealNetwork:
    def naive(self, exact, sample: int, loss) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias gradient of one sample: plain autograd through the whole network, all
        heads.
        """
        tiles = next(iter(exact.reader.batches(np.array([sample]))))
        layer = exact.last[0]
        layer.requires_grad_(True)
        heads = exact.model.network(torch.from_numpy(tiles.images).double())
        valid = torch.from_numpy(tiles.valid)[:, None].double()
        insides = [nn.functional.adaptive_max_pool2d(valid, head.shape[2:])[:, 0] for head in heads]
        found = torch.autograd.grad(loss(heads, insides), [layer.weight, layer.bias])
        layer.requires_grad_(False)
        return found

    def test_batched_last_layer_gradients_equal_autograd_one_by_one(self, exact) -> None:
        ids = np.array([0, 33, 34, 80, 121])
        kept = gradients.last_layer_gradients(exact, ids)
        assert kept.shape == (5, exact.last[0].weight.numel()) and kept.dtype == np.float32

        def ours(heads, insides):
            parts = zip(exact.weights, heads, insides, strict=True)
            return sum(
                weight * dice_and_cross_entropy(head, inside).sum()
                for weight, head, inside in parts
            )

        for tiles, inputs, deltas in exact.sweep(ids, exact.last, "test"):
            batch = gradients.weight_gradients(inputs[0], deltas[0], (3, 3))
            for row, gradient in zip(tiles.rows, batch, strict=True):
                weight, bias = self.naive(exact, int(ids[row]), ours)
                assert (gradient - weight.flatten()).abs().max() < 1e-10 * weight.abs().max()
                assert bias.abs().max() < 1e-9 * weight.abs().max()  # hence left out
                assert np.allclose(kept[row], gradient.numpy(), rtol=1e-6, atol=0)

    def test_they_are_the_gradients_of_nnunets_own_loss(self, exact) -> None:
        loss = nnunet_loss(exact.weights)

        def theirs(heads, insides):
            targets = [
                pseudo_labels(head, inside) for head, inside in zip(heads, insides, strict=True)
            ]
            return loss(heads, targets)

        ids = np.array([5, 61])
        for row, found in enumerate(gradients.last_layer_gradients(exact, ids)):
            wanted = self.naive(exact, int(ids[row]), theirs)[0].flatten().numpy()
            # single precision sums in nnU-Net
            assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()

    def test_the_layer_is_the_one_before_the_finest_head(self, exact) -> None:
        network = exact.model.network
        (layer,) = exact.last
        assert layer.kernel_size == (3, 3) and layer.weight.shape == (32, 32, 3, 3)
        assert layer.weight.numel() == 9216
        assert layer is network.decoder.stages[-1].convs[-1].conv
        assert network.decoder.seg_layers[-1].in_channels == layer.out_channels

    def test_features_are_the_encoders_last_activation(self, trained, reader) -> None:
        model = Model(trained.nnunet, trained.weights, "cpu")
        ids = np.array([2, 40, 41, 90])
        found = encoder_features(model, reader, ids, ignore_events)
        seen = []
        last = model.network.encoder.stages[-1]
        activation = [module for module in last.modules() if isinstance(module, nn.LeakyReLU)][-1]
        hook = activation.register_forward_hook(
            lambda _m, _i, output: seen.append(output.detach().clone())
        )
        with torch.inference_mode():
            for tiles in reader.batches(ids):
                model.network(torch.from_numpy(tiles.images))
        hook.remove()
        wanted = torch.cat(seen)
        assert wanted.shape[1] == 256
        assert found.shape == (4, wanted[0].numel()) and found.dtype == np.float32
        assert np.allclose(found, wanted.flatten(1).numpy(), rtol=1e-5, atol=1e-6)
        assert encoder_features(model, reader, ids[:0], ignore_events).shape[0] == 0
