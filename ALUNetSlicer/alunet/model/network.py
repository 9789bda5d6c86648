"""The trained network for looking at slices: built from the plan, full weights, evaluation mode."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alunet.errors import InputError
from alunet.model.arithmetic import memory_format
from alunet.model.classes import fit, known_numbers, numbers_of
from alunet.model.environment import Folders
from alunet.model.hardware import OPENVINO
from alunet.model.plan import load_plans
from alunet.model.settings import ScoringSettings
from alunet.model.stored import load_tensors


class Model:
    """A network with the plan it was built from.

    Attributes:
        network: `PlainConvUNet` in evaluation mode; its decoder returns all deep-supervision heads,
            the finest first.
        classes: K, number of segmentation heads' channels, background included.
        numbers: the project's number of each; one that the weights were not trained for is never
            predicted.
        patch: (height, width) of a tile.
    """

    def __init__(self, nnunet: Path, weights: Path | None, device: str) -> None:
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

        self.plans, self.configuration, self.dataset = load_plans(Folders(nnunet))
        self.labels: Any = self.plans.get_label_manager(self.dataset)
        self.device = torch.device(device)
        self.numbers = numbers_of(self.dataset)
        self.classes: int = self.labels.num_segmentation_heads
        self.patch: tuple[int, int] = tuple(self.configuration.patch_size)
        self.network: nn.Module = get_network_from_plans(
            self.configuration.network_arch_class_name,
            self.configuration.network_arch_init_kwargs,
            self.configuration.network_arch_init_kwargs_req_import,
            len(self.dataset["channel_names"]),
            self.classes,
            deep_supervision=True,
        )
        if weights is not None:
            stored = load_tensors(weights)
            known = known_numbers(weights, stored)
            self.network.load_state_dict(fit(stored, known, self.numbers))
        self.network.to(self.device).eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return next(self.network.parameters()).dtype

    def full_resolution(self, settings: ScoringSettings) -> nn.Module:
        """Return a copy that gives the finest head alone, (b, K, H, W) float32, computed as the
        settings say.
        """
        return computed(self._finest(), settings, self.device)

    def deterministic(self, settings: ScoringSettings) -> nn.Module:
        """Return `full_resolution` for passes without dropout, by the engine of the settings."""
        return without_dropout(self._finest(), settings, self.device)

    def _finest(self) -> nn.Module:
        network = copy.deepcopy(self.network)
        network.decoder.deep_supervision = False
        return network

    def head_weights(self, heads: str) -> list[float]:
        """Weights v_h of the deep-supervision heads in the gradient loss, finest first
        (docs/method.md, 2.5).

        "training": nnU-Net's (halved with each resolution, the lowest 0, normalised); "full-res":
        the finest alone; "all-equal": 1 for all, the published code, which lets an untrained head
        dominate.
        """
        count = len(self.network.decoder.stages)
        if heads == "training":
            weights = [0.5**h for h in range(count)]
            if count > 1:
                weights[-1] = 0.0
            return [weight / sum(weights) for weight in weights]
        if heads == "full-res":
            return [1.0] + [0.0] * (count - 1)
        if heads == "all-equal":
            return [1.0] * count
        raise InputError(
            f"Unknown head weights '{heads}'.", "Choose training, full-res or all-equal."
        )


def computed(network: nn.Module, settings: ScoringSettings, device: torch.device) -> nn.Module:
    """Return the network with float32, contiguous in and out, and inside as the settings say.

    Args:
        network: without gradients; it is changed.
    """
    if device.type == "cpu" and _dtype(settings.precision) == torch.float32:
        _group_norms(network)
    return _in_precision(network, settings)


def without_dropout(
    network: nn.Module, settings: ScoringSettings, device: torch.device
) -> nn.Module:
    """Return what `computed` does, for passes without dropout, by the engine of the settings."""
    if settings.engine != OPENVINO or device.type != "cpu":
        return computed(network, settings, device)
    from alunet.model.inference import Inference

    return Inference(_in_precision(network, settings))  # it fuses instance norms, not group norms


def _in_precision(network: nn.Module, settings: ScoringSettings) -> nn.Module:
    return _InPrecision(network, _dtype(settings.precision), memory_format(settings.memory_format))


def _group_norms(network: nn.Module) -> None:
    """Put group norms of one channel each in place of instance norms.

    They are the same to rounding, and a pass in float32 on a processor is 1.05 to 1.12 times as
    fast (docs/performance.md).
    """
    made: dict[nn.Module, nn.Module] = {}  # a block knows its norm by two names
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.InstanceNorm2d) and norm.affine and not norm.track_running_stats:
                if norm not in made:
                    made[norm] = group = nn.GroupNorm(
                        norm.num_features, norm.num_features, norm.eps
                    )
                    group.weight, group.bias = norm.weight, norm.bias
                setattr(parent, name, made[norm])


class _InPrecision(nn.Module):
    """Computes in another floating-point type and memory format: float32, contiguous in and out."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> None:
        super().__init__()
        self.network = network.to(dtype=dtype, memory_format=layout)
        self.dtype, self.layout = dtype, layout

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (
            self.network(image.to(dtype=self.dtype, memory_format=self.layout)).float().contiguous()
        )


def _dtype(precision: str) -> torch.dtype:
    try:
        return {"fp32": torch.float32, "auto": torch.float32, "bf16": torch.bfloat16}[precision]
    except KeyError:
        raise InputError(
            f"Unknown precision '{precision}'.", "Choose auto, fp32 or bf16."
        ) from None
