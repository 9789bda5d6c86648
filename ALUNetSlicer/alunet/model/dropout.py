"""Monte Carlo dropout with common masks: every sample is seen by the same T thinned networks
(docs/method.md, 2.1).

The masks depend on (seed, round, pass, place in the network) and on nothing else, so a score does
not depend on the batch size, on the order of the pool or on the device; samples are compared under
the same noise (common random numbers), and no time is spent on random numbers. Only dropout modules
are touched; norm layers stay in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from alunet.errors import InputError

_KEPT_ELEMENTS = 1 << 28  # masks kept in memory; beyond, they are drawn again for each batch


class MonteCarloDropout:
    """Thins `network` (in evaluation mode) with fixed masks, pass by pass.

    Args:
        rate: share of activations set to 0, element-wise, the rest scaled by 1/(1 - rate).
        entropy: integers that seed the masks, e.g. (seed, round).

    Raises:
        InputError: the rate is not in (0, 1), or the network has no dropout module: all passes
            would be equal.
    """

    def __init__(self, network: nn.Module, rate: float, entropy: tuple[int, ...]) -> None:
        self.sites = [module for module in network.modules() if isinstance(module, _DropoutNd)]
        if not self.sites:
            raise InputError(
                "The network has no dropout module, so Monte Carlo dropout would measure nothing.",
                "Plan with a dropout rate above 0 and train again.",
            )
        if not 0 < rate < 1:
            raise InputError(
                f"The dropout rate {rate} is not between 0 and 1.", "Use a rate like 0.1."
            )
        self.rate = rate
        self.entropy = entropy
        self._pass = 0
        self._kept: dict[tuple[int, int], torch.Tensor] = {}
        self._room = _KEPT_ELEMENTS

    @contextmanager
    def active(self) -> Iterator[MonteCarloDropout]:
        """Within this context each forward of the network is thinned by the masks of the current
        pass.
        """
        hooks = [
            site.register_forward_hook(
                lambda _m, _i, output, place=place: output * self._mask(place, output)
            )
            for place, site in enumerate(self.sites)
        ]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def select(self, number: int) -> None:
        """Choose the pass, 0 … T-1."""
        self._pass = number

    def _mask(self, place: int, like: torch.Tensor) -> torch.Tensor:
        key = (self._pass, place)
        if key in self._kept:
            return self._kept[key]
        generator = np.random.default_rng((*self.entropy, *key))
        kept = generator.random(tuple(like.shape[1:]), dtype=np.float32) >= self.rate
        mask = torch.from_numpy(kept).to(like.device, like.dtype) / (1 - self.rate)
        if mask.numel() <= self._room:
            self._room -= mask.numel()
            self._kept[key] = mask
        return mask
