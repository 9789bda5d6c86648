"""Passes without dropout by other means than plain torch: the same numbers to rounding."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch

from alunet.loop.recipe import preset
from alunet.model import hardware
from alunet.model.arithmetic import Arithmetic
from alunet.model.network import Model
from alunet.model.settings import ScoringSettings
from alunet.schema import ignore_events

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="OpenVINO is not installed here: pip install alunet[openvino]",
)


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return Model(trained.nnunet, trained.weights, "cpu")


@pytest.fixture(scope="module")
def images(model: Model) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(5, 1, *model.patch))).float()


def plain(model: Model, images: torch.Tensor) -> torch.Tensor:
    """nnU-Net's network as it is."""
    with torch.inference_mode():
        return model.network(images)[0]


def near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-4 * expected.abs().max())


def test_normalizations_of_a_pass_are_nnunets_to_rounding(
    model: Model, images: torch.Tensor
) -> None:
    network = model.full_resolution(ScoringSettings())
    assert not [part for part in network.modules() if isinstance(part, torch.nn.InstanceNorm2d)]
    with torch.inference_mode():
        assert near(network(images), plain(model, images))
    kept = [part for part in model.network.modules() if isinstance(part, torch.nn.InstanceNorm2d)]
    assert kept, "gradients are computed with nnU-Net's own network"


@needs_openvino
@pytest.mark.parametrize("worth", [0, 3])
def test_openvino_gives_the_same_to_rounding(
    model: Model, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch, worth: int
) -> None:
    """At once or after some slices, for batches of any size, and each answer is its own."""
    from alunet.model import inference

    pixels = model.patch[0] * model.patch[1]
    monkeypatch.setattr(inference, "_WORTH", worth * pixels)
    network = model.deterministic(ScoringSettings(engine="openvino"))
    with torch.inference_mode():
        found = [network(some) for some in (images[:3], images[3:], images[:1], images[:3])]
    expected = plain(model, images)
    rows = (slice(0, 3), slice(3, 5), slice(0, 1), slice(0, 3))
    assert all(near(answer, expected[own]) for answer, own in zip(found, rows, strict=True))
    assert len(network._requests) == 3, "compiled once for each size of a batch"


@needs_openvino
@pytest.mark.slow
def test_scores_and_segmentations_are_the_same_with_openvino(
    model: Model, trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alunet.model import environment, inference
    from alunet.model.predict import Predictor
    from alunet.model.reader import TileReader
    from alunet.model.score import entropy

    monkeypatch.setattr(inference, "_WORTH", 0)
    reader = TileReader(environment.Folders(trained.nnunet), trained.pool, 16, "cpu")
    name, ids = sorted(trained.truth)[0], trained.ids[:40]
    scores, cases = [], []
    for engine in ("torch", "openvino"):
        settings = ScoringSettings(mirroring=False, engine=engine)
        scores.append(entropy(model, reader, ids, settings, ignore_events))
        cases.append(Predictor(trained.nnunet, model, settings).segment(name))
    assert np.allclose(*scores, rtol=1e-3, atol=1e-5)
    assert (cases[0] == cases[1]).mean() > 0.9999


def test_one_place_decides_and_the_computer_is_another_one_with_openvino(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = Arithmetic("here", "cpu", engine="openvino")
    recipe = preset("cpu").computed_with(chosen)
    assert recipe.scoring.engine == "openvino"
    assert preset("paper").computed_with(chosen).scoring.engine == "torch", "it asks for float32"
    assert replace(chosen, engine="torch").to_json()["engine"] == "torch"
    there = hardware.describe_computer("cpu")
    monkeypatch.setattr(hardware, "_openvino", lambda: "openvino 1.0")
    assert "openvino 1.0" in hardware.describe_computer("cpu") != there
