"""What changes from step to step of a training: the learning rate, and the running average of
the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch


def rate(step: int, steps: int, shape: str, warmup: float) -> float:
    """Return the learning rate of `step` (0 … steps-1) as a share of the peak: it rises linearly,
    then falls to 0.

    The fall ends with the last step, whatever their number (Li et al., *Budgeted Training*, ICLR
    2020).

    Args:
        shape: "poly", nnU-Net's (1 - x)^0.9; "cosine"; or "linear"; x is the share of the fall that
            is over.
        warmup: share of the steps in which it rises.
    """
    rise = round(warmup * steps)
    x = max(0, step - rise) / max(1, steps - rise)
    fall = {"poly": (1 - x) ** 0.9, "cosine": 0.5 * (1 + math.cos(math.pi * x)), "linear": 1 - x}[
        shape
    ]
    return min((step + 1) / rise, fall) if rise else fall


class RateSchedule:
    """Sets the learning rate of an optimizer for each step."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, peak: float, steps: int, shape: str, warmup: float
    ) -> None:
        self._optimizer, self._peak = optimizer, peak
        self._steps, self._shape, self._warmup = steps, shape, warmup

    def step(self, number: int) -> None:
        """Set the rate of step `number`, 0 … steps-1."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._peak * rate(number, self._steps, self._shape, self._warmup)


class WeightAverage:
    """Exponential moving average of a network's parameters over the last `window` steps or so.

    It begins as the plain mean of the first weights, so that the random start is forgotten: after n
    updates the newest weights count max(1 / n, 1 / window).
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], window: float) -> None:
        self._parameters = list(parameters)
        self._window = max(1.0, window)
        self._values = [parameter.detach().clone() for parameter in self._parameters]
        self._updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of the step that has just been made."""
        self._updates += 1
        share = max(1 / self._updates, 1 / self._window)
        torch._foreach_lerp_(self._values, self._parameters, share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the network's weights; a second call undoes it."""
        for value, parameter in zip(self._values, self._parameters, strict=True):
            kept = parameter.clone()
            parameter.copy_(value)
            value.copy_(kept)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs after an interruption."""
        return {"values": self._values, "updates": self._updates}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        for value, kept in zip(self._values, state["values"], strict=True):
            value.copy_(kept)
        self._updates = int(state["updates"])
