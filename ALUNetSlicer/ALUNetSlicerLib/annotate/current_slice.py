"""The slice on screen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ALUNetSlicerLib.annotate.worklist import Slice


@dataclass
class CurrentSlice:
    """The slice on screen: what it is, what it began with, and when it was painted last."""

    item: Slice
    base: int
    start: np.ndarray
    painted: float = 0.0
