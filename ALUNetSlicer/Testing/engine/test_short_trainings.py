"""What makes short trainings good: small patches first, averaged weights, a narrow network;
nnU-Net for real.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from test_training import trainer_of

from alunet.model import child, environment
from alunet.model.environment import Folders
from alunet.model.interface import SHIPPED

pytestmark = pytest.mark.slow


def test_the_first_steps_are_on_patches_of_half_the_sides(trained, tmp_path, monkeypatch):
    counts = dict.fromkeys(trained.annotations, 3)
    trainer = trainer_of(trained, tmp_path, monkeypatch, counts, epochs=2, iterations=4, growth=0.5)
    feed, _ = trainer.get_dataloaders()
    sides = [tuple(next(feed)["data"].shape[2:]) for _ in range(8)]
    whole = tuple(trainer.configuration_manager.patch_size)
    strides = np.prod(trainer.configuration_manager.pool_op_kernel_sizes, axis=0)
    assert sides[4:] == [whole] * 4
    assert len(set(sides[:4])) == 1
    for small, side, stride in zip(sides[0], whole, strides, strict=True):
        assert small % stride == 0
        assert side / 2 <= small < min(side, side / 2 + stride)


def test_the_average_of_the_weights_is_the_model(trained, tmp_path, monkeypatch):
    counts = dict.fromkeys(trained.annotations, 3)
    trainer = trainer_of(
        trained, tmp_path, monkeypatch, counts, epochs=1, iterations=4, average=1.0
    )
    seen = []
    step = trainer.train_step

    def remembered(batch):
        result = step(batch)
        seen.append([value.detach().clone() for value in trainer.network.parameters()])
        return result

    trainer.train_step = remembered
    trainer.run_training()
    for index, value in enumerate(trainer.network.parameters()):
        mean = torch.stack([weights[index] for weights in seen]).mean(0)
        torch.testing.assert_close(value.detach(), mean, rtol=1e-4, atol=1e-6)


def test_a_network_of_another_width_is_planned_and_still_nnunets(trained, tmp_path):
    image = next(iter(sorted(trained.root.glob("*.nrrd"))))
    features = {}
    for width in (1.0, 0.25):
        nnunet = tmp_path / str(width)
        child.run(
            "alunet.loop.steps:prepare",
            {
                "framework": SHIPPED,
                "folder": str(nnunet),
                "plan_cases": [{"name": "a", "images": [str(image)]}],
                "cases": [],
                "labels": {"background": 0, "a": 1},
                "channels": ["MRI"],
                "dropout": 0.01,
                "width": width,
            },
            environment=environment.variables(nnunet, tmp_path, 1),
            log=tmp_path / "plan.log",
        )
        plans = json.loads(Folders(nnunet).plans.read_text(encoding="utf-8"))
        features[width] = plans["configurations"]["2d"]["architecture"]["arch_kwargs"][
            "features_per_stage"
        ]
    assert features[0.25] == [count // 4 for count in features[1.0]]
