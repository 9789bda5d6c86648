"""Foreground-aware random: the strongest simple baseline; it looks at hidden labels, so it exists
in simulation only.

nnActive (MIC-DKFZ), strategies "random-label" (66 %) and "random-label2" (33 %), on slices: for
each place of the batch the next case of a shuffled, endless round over the cases, then an area of
it:

* all: any unlabelled sample of the case;
* seg: a foreground class of the case, uniformly, then a voxel of it, uniformly, and the sample that
  holds the voxel;
* border: the same with voxels on the border of the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.query.model_outputs import Need, Truth
from alunet.query.problem import Batch, Query
from alunet.query.registry import register

Rows = npt.NDArray[np.int64]
SOURCE = "nnActive (MIC-DKFZ)"
AREAS_33 = ("all", "all", "all", "all", "seg", "border")
AREAS_66 = ("all", "seg", "border")


@register(
    "random-fg33",
    title="Random, 33 % foreground",
    needs=[Need.TRUTH],
    source=SOURCE,
    summary="Random; a third of the batch is drawn on structures or their borders "
    "(simulation only).",
)
@dataclass(frozen=True)
class RandomFg33:
    """No options."""

    def select(self, query: Query) -> Batch:
        """Draw the batch."""
        return draw(query, hidden(query), AREAS_33)


@register(
    "random-fg66",
    title="Random, 66 % foreground",
    needs=[Need.TRUTH],
    source=SOURCE,
    summary="Random; two thirds of the batch are drawn on structures or their borders "
    "(simulation only).",
)
@dataclass(frozen=True)
class RandomFg66:
    """No options."""

    def select(self, query: Query) -> Batch:
        """Draw the batch."""
        return draw(query, hidden(query), AREAS_66)


def hidden(query: Query) -> Truth:
    """Return the hidden labels of the candidates; raises InputError where there are none."""
    if query.truth is None:
        raise InputError(
            "Foreground-aware random needs the hidden labels of the pool, which only "
            "a simulation has.",
            "For a project that people annotate choose random-predicted-fg66.",
        )
    return query.truth


def draw(query: Query, truth: Truth, areas: tuple[str, ...]) -> Batch:
    """Fill the batch, case after case; a case without unlabelled samples left is passed over.

    Args:
        truth: labels of the candidates, hidden or predicted.
        areas: of which one is drawn for each place.
    """
    rng = query.streams["random-strategy"]
    left = {
        case: np.flatnonzero(query.case == case)
        for case in rng.permutation(np.unique(query.case)).tolist()
    }
    rows: list[int] = []
    reasons: list[str] = []
    while len(rows) < query.total:
        for case in left:
            if len(left[case]) and len(rows) < query.total:
                row, reason = _sample(query, truth, left[case], str(rng.choice(areas)), rng)
                left[case] = left[case][left[case] != row]
                rows.append(row)
                reasons.append(reason)
    return query.batch(np.array(rows), np.zeros(len(rows)), reasons)


def _sample(
    query: Query, truth: Truth, members: Rows, area: str, rng: np.random.Generator
) -> tuple[int, str]:
    """One of a case's samples. Drawing it in proportion to its voxels is drawing a voxel uniformly.

    Classes of which the case's unlabelled samples show nothing cannot be drawn: the original draws
    again there.
    """
    counts: npt.NDArray[np.integer[Any]] = truth.border if area == "border" else truth.voxels
    counts = counts[members]
    present = np.flatnonzero(counts[:, 1:].sum(axis=0)) + 1
    if area == "all" or len(present) == 0:
        return int(rng.choice(members)), "drawn anywhere in its case"
    label = int(rng.choice(present))
    weights = counts[:, label] / counts[:, label].sum()
    place = "border of" if area == "border" else "inside"
    return int(rng.choice(members, p=weights)), f"drawn {place} {query.label(label)}"
