"""Losses of a sample against the network's own prediction (docs/method.md, 2.4, 2.5), one value a
sample.

    l(x) = sum_h v_h l_h(x),   targets of head h: its arg-max, held constant

`Loss` is l_h: logits (b, K, h, w) and `inside` (b, h, w), 1 on the valid pixels and 0 on the
padding, to values (b,). Samples do not mix, so one backward of the sum yields the gradient of each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_SMOOTH = 1e-5  # nnU-Net's, in both parts of the Dice fraction


def log_likelihood(logits: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Mean over the valid pixels of log p of the arg-max class; for USIMC and USIMF, to whom
    sign and scale are one.
    """
    confident = functional.log_softmax(logits, 1).amax(1)
    return _mean(confident, inside)


def dice_and_cross_entropy(logits: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """nnU-Net's training loss with the arg-max as target; for BADGE-LL.

        l_h = -mean_{i} log p(y_i)
              - mean_{c>=1} (2 sum_i p_c [y_i = c] + s) / (sum_i p_c + sum_i [y_i = c] + s)

    nnU-Net sums Dice over a batch (`batch_dice`), which would make a sample's gradient depend on
    its neighbours; here a sample is a batch of its own. Same values as nnU-Net's `DC_and_CE_loss`
    on one sample whose padding is ignored.
    """
    probabilities = logits.softmax(1)
    target = functional.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    weights = inside[:, None]
    overlap = (probabilities * target * weights).sum((2, 3))
    total = ((probabilities + target) * weights).sum((2, 3))
    dice = (2 * overlap + _SMOOTH) / (total + _SMOOTH).clamp_min(1e-8)
    return -log_likelihood(logits, inside) - dice[:, 1:].mean(1)


def _mean(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return (values * inside).sum((1, 2)) / inside.sum((1, 2))
