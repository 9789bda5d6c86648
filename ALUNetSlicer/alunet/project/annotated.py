"""How much of a project is annotated."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from alunet.pool import CaseGeometry
from alunet.project.cases import Cases
from alunet.project.samples import Samples
from alunet.schema import NOT_ANNOTATED
from alunet.storage.database import Database

Counts = tuple[list[int], int]
"""Voxels of a label map that a training sees, by number, and how many drawn ones none sees."""


@dataclass(frozen=True)
class Costs:
    """What has been annotated so far.

    Attributes:
        samples: labelled samples, the unit of the budget.
        slices: distinct slices with a labelled sample.
        voxels: distinct annotated voxels of the image files.
        fraction: labelled samples as a part of the pool, 0 to 1.
    """

    samples: int
    slices: int
    voxels: int
    fraction: float


class AnnotatedVoxels:
    """What has been annotated so far, as the database counts it."""

    def __init__(self, database: Database, cases: Cases, samples: Samples) -> None:
        self._db, self._cases, self._samples = database, cases, samples

    def class_voxels(self) -> np.ndarray:
        """Annotated voxels of each structure, background first, over all pool cases; int64 (K,)."""
        rows = self._db.rows(
            "SELECT CAST(v.key AS INTEGER), sum(v.value) FROM cases, json_each(cases.voxels) v"
            " WHERE role = 'pool' AND state = 'present' AND cases.voxels IS NOT NULL GROUP BY 1"
        )
        count = dict(rows)
        return np.array([count.get(one, 0) for one in self._cases.structures.numbers], np.int64)

    def case_voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the M pool cases with annotations, by name: annotated voxels of each structure,
        background first, (M, K), all voxels (M,); int64.
        """
        rows = self._db.rows(
            "SELECT voxels, shape FROM cases WHERE role = 'pool' AND state = 'present' "
            "AND voxels IS NOT NULL ORDER BY name"
        )
        numbers = self._cases.structures.numbers
        counts = [dict(enumerate(json.loads(row[0]))) for row in rows]
        voxels = [[count.get(number, 0) for number in numbers] for count in counts]
        return (
            np.array(voxels, np.int64).reshape(-1, len(numbers)),
            np.array([np.prod(json.loads(row[1])) for row in rows], np.int64),
        )

    def open_voxels(self) -> int:
        """How many voxels of the labeled samples are left open."""
        return self._samples.covered_voxels() - int(self.class_voxels().sum())

    def unseen_voxels(self) -> dict[str, int]:
        """How many drawn voxels of cases no training sees, by name: the image is 0 there."""
        return dict(
            self._db.rows(
                "SELECT name, unseen FROM cases WHERE unseen AND role = 'pool' "
                "AND state = 'present' ORDER BY name"
            )
        )

    def costs(self) -> Costs:
        """What has been annotated so far."""
        count = self._samples.counts()
        fraction = count.labelled / count.pool if count.pool else 0.0
        return Costs(count.labelled, count.slices, int(self.class_voxels().sum()), fraction)

    def cases(self) -> dict[str, int]:
        """Cases with annotated voxels, and how many labelled samples each has, by name."""
        rows = self._db.rows(
            "SELECT case_name, count(*), voxels FROM counted_samples s JOIN cases c ON c.name = "
            "case_name WHERE s.state = 'labelled' GROUP BY case_name ORDER BY case_name"
        )
        return {name: count for name, count, voxels in rows if sum(json.loads(voxels or "[]"))}

    def seconds_spent(self) -> float:
        """Seconds that people say they spent on annotating, all together."""
        return float(str(self._db.value("SELECT coalesce(sum(seconds), 0) FROM annotations")))


def counted_voxels(labels: np.ndarray, geometry: CaseGeometry | None) -> Counts:
    """Return how many voxels of a label map hold each number, by number, as far as a training sees
    them, and how many drawn ones none sees; open ones don't count.

    Args:
        geometry: of the case; None before preprocessing.
    """
    seen = labels if geometry is None else labels[geometry.raw_crop]
    counts = np.zeros(NOT_ANNOTATED + 1, np.int64)
    for layer in seen:  # stays in the processor's cache; all at once takes six times as long
        annotated = layer[layer != NOT_ANNOTATED]
        if annotated.size:
            counts += np.bincount(annotated, minlength=len(counts))
    known = [int(count) for count in np.trim_zeros(counts, "b")]
    if seen.shape == labels.shape:
        return known, 0
    drawn = sum(np.count_nonzero((layer != 0) & (layer != NOT_ANNOTATED)) for layer in labels)
    return known, int(drawn) - sum(known[1:])
