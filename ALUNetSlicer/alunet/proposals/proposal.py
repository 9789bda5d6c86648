"""What a proposal is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.schema import ProposalSource

LabelMap = npt.NDArray[np.unsignedinteger[Any]]
"""Structures of a slice, (h, w); 0 is background."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """Labels with which a slice may begin.

    Attributes:
        labels: of the slice.
        quality: expected mean Dice of its structures, 0 to 1; None where nothing says it.
        source: where they come from.
    """

    labels: LabelMap
    quality: float | None
    source: ProposalSource
