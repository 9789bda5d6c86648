"""Monte Carlo dropout and the uncertainty measures (docs/method.md, 2.1, 2.2)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from alunet.errors import InputError
from alunet.model import score
from alunet.model.dropout import MonteCarloDropout
from alunet.model.environment import Folders
from alunet.model.network import Model
from alunet.model.reader import TileReader
from alunet.model.settings import ScoringSettings
from alunet.schema import ignore_events


class Answers(nn.Module):
    """A network that gives prepared logits, one after the other."""

    def __init__(self, *probabilities: tuple[float, ...]) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self._answers = [torch.tensor(p).log().reshape(1, -1, 1, 1) for p in probabilities]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self._answers.pop(0)


def test_bald_and_variance_of_the_worked_example():
    network = Answers((0.9, 0.1), (0.1, 0.9))
    dropout = MonteCarloDropout(network, 0.1, (0,))
    variance, bald = score.pixel_moments(network, dropout, torch.zeros(1, 1, 1, 1), 2)
    assert bald.item() == pytest.approx(1 - 0.4690, abs=1e-4)
    assert variance.flatten().tolist() == pytest.approx([0.32, 0.32])
    assert variance.sqrt().flatten().tolist() == pytest.approx([0.5657, 0.5657], abs=1e-4)


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_entropy_of_uniform_classes_is_log2_of_their_number(classes):
    assert score.entropy_bits(torch.full((1, classes, 1, 1), 1 / classes)).item() == pytest.approx(
        np.log2(classes)
    )


def test_without_dropout_the_measure_is_refused():
    with pytest.raises(InputError, match="no dropout module"):
        MonteCarloDropout(nn.Sequential(nn.Conv2d(1, 1, 1)), 0.1, (0,))
    with pytest.raises(InputError, match="0 and 1"):
        MonteCarloDropout(nn.Dropout(0.1), 0.0, (0,))


def test_masks_have_the_rate_and_keep_the_mean():
    layer = nn.Dropout(0.01).eval()
    with MonteCarloDropout(layer, 0.1, (7,)).active():
        seen = layer(torch.ones(2, 64, 32, 32))
    assert (seen == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert seen.mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(seen[0], seen[1])  # common masks
    assert torch.equal(layer(torch.ones(1, 4)), torch.ones(1, 4))  # and none outside


def test_padding_counts_for_nothing():
    valid = torch.zeros(1, 4, 4)
    valid[:, :2] = 1
    values = torch.where(valid > 0, 3.0, 1000.0)
    assert score._mean_over(valid, values).item() == pytest.approx(3)


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return Model(trained.nnunet, trained.weights, "cpu")


@pytest.mark.slow
class TestOnARealNetwork:
    def scores(
        self, trained, model, ids=None, batch=32, seed=(1,), **settings
    ) -> score.MonteCarloMoments:
        reader = TileReader(Folders(trained.nnunet), trained.pool, batch)
        chosen = trained.ids[:60] if ids is None else ids
        return score.monte_carlo(
            model, reader, chosen, ScoringSettings(**settings), seed, ignore_events
        )

    def test_scores_do_not_depend_on_batch_size_or_order(self, trained, model):
        whole = self.scores(trained, model)
        parts = self.scores(trained, model, batch=7)
        back = self.scores(trained, model, ids=trained.ids[:60][::-1])
        assert np.allclose(whole.var, parts.var, rtol=1e-4, atol=1e-8)
        assert np.allclose(whole.bald, back.bald[::-1], rtol=1e-4, atol=1e-7)

    def test_one_pass_gives_entropies_classes_and_predictions(self, trained, model):
        from scipy import ndimage

        reader = TileReader(Folders(trained.nnunet), trained.pool, 16)
        chosen = trained.ids[:24]
        asked = model, reader, chosen, ScoringSettings(), ignore_events
        entropy, of_class = score.entropy(*asked), score.class_entropy(*asked)
        assert np.allclose(of_class.sum(1), entropy, rtol=1e-5, atol=1e-7)
        pixels, border = score.predicted_pixels(*asked)
        network = model.full_resolution(ScoringSettings())
        for tiles in reader.batches(chosen):
            with torch.inference_mode():
                labels = network(torch.from_numpy(tiles.images)).argmax(1).numpy()
            for row, label, valid in zip(tiles.rows, labels, tiles.valid, strict=True):
                for number in range(model.classes):
                    mask = (label == number) & valid
                    inside = ndimage.binary_erosion(mask)
                    assert pixels[row, number] == mask.sum()
                    assert border[row, number] == (mask & ~inside).sum()

    def test_the_variance_of_one_pass_is_that_of_a_draw_from_each_pixel(self, trained, model):
        from scipy.stats import spearmanr

        reader = TileReader(Folders(trained.nnunet), trained.pool, 16)
        chosen = trained.ids[:60]
        found = score.one_pass_variance(model, reader, chosen, ScoringSettings(), ignore_events)
        network = model.full_resolution(ScoringSettings())
        for tiles in reader.batches(chosen):
            with torch.inference_mode():
                chances = network(torch.from_numpy(tiles.images)).softmax(1).double().numpy()
            for row, chance, valid in zip(tiles.rows, chances, tiles.valid, strict=True):
                inside = chance[:, valid]
                assert np.allclose(found[row], (inside * (1 - inside)).mean(1), atol=1e-6)
        # it ranks samples as the variance over the dropout passes does
        dropout = self.scores(trained, model).var[:, 1:].sum(1)
        assert spearmanr(found[:, 1:].sum(1), dropout).statistic > 0.6

    def test_another_seed_ranks_alike(self, trained, model):
        from scipy.stats import spearmanr

        one, two = self.scores(trained, model, seed=(1,)), self.scores(trained, model, seed=(2,))
        assert not np.array_equal(one.var, two.var)
        assert spearmanr(one.var[:, 1:].sum(1), two.var[:, 1:].sum(1)).statistic > 0.8

    def test_bfloat16_ranks_like_float32(self, trained, model):
        from scipy.stats import spearmanr

        full, half = self.scores(trained, model), self.scores(trained, model, precision="bf16")
        assert spearmanr(full.var.sum(1), half.var.sum(1)).statistic > 0.99

    def test_measures_are_consistent(self, trained, model):
        found = self.scores(trained, model)
        assert (found.bald > -1e-5).all() and (found.var >= 0).all()
        assert (found.std**2 <= found.var + 1e-6).all()  # Jensen: (E sd)^2 <= E var
