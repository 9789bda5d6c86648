"""The slice on screen, and who works on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ALUNetSlicerLib.annotate.worklist import Slice


@dataclass
class CurrentSlice:
    """The slice on screen: what it is, what it began with, and since when."""

    item: Slice
    base: int
    start: np.ndarray
    since: float
    spent: float


@dataclass(frozen=True)
class Person:
    """Who works here, with what: the author's name, and the folder for drafts and for labels on their way."""

    author: str
    folder: Path
