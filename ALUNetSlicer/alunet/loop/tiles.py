"""What a strategy picks from: the tiles of the plan, also where people are asked for whole slices.

A network reads one tile, so uncertainties and gradients are those of tiles. In a project of whole
slices each sample is a slice, and picking any of its tiles asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.pool import Pool
from alunet.project import Project
from alunet.schema import TILE

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tiling:
    """The tiles of a project.

    Attributes:
        pool: all of them.
        sample: (n,) the sample of the project's pool that each tile is a part of, or is.
    """

    pool: Pool
    sample: Ids

    @classmethod
    def of(cls, project: Project) -> Tiling:
        """Return the tiles of a project; raises InputError where it is not planned."""
        samples = project.pool
        if project.settings.unit == TILE:
            return cls(samples, np.arange(len(samples)))
        known = project.cases.geometries()
        # case by case, so that the order is that of the samples, whatever the names
        first, *others = (known[name] for name in samples.cases)
        pool = Pool.build([first], samples.patch)
        for geometry in others:
            pool = pool.extended([geometry])
        # both are sorted by case and slice, and every slice has at least one tile
        new = np.flatnonzero(
            np.diff(pool.case, prepend=-1).astype(bool)
            | np.diff(pool.slice, prepend=-1).astype(bool)
        )
        counts = np.diff(np.append(new, len(pool)))
        return cls(pool, np.repeat(np.arange(len(samples)), counts))

    def of_samples(self, samples: npt.ArrayLike) -> Ids:
        """Return the tiles of some samples, ascending."""
        return np.flatnonzero(np.isin(self.sample, samples))

    def enough(self, budget: int, ahead: int) -> int:
        """Return how many tiles to choose behind `budget` ones, so that they are of `budget` and
        `ahead` different samples, whichever they are.
        """
        most = int(np.bincount(self.sample).max(initial=1))
        return (budget + ahead) * most - budget

    def asked_for(self, batch: dict[str, Any], number: int) -> dict[str, Any]:
        """Return the batch with samples in place of tiles: each once, with what was said of its
        first tile.

        Args:
            batch: ``ids`` of tiles in the order of the picks, ``gains``, ``reasons`` and
                ``uncertainty`` (may be None) of each.
            number: how many samples at most.
        """
        samples = self.sample[np.asarray(batch["ids"], np.int64)]
        _, first = np.unique(samples, return_index=True)
        kept = np.sort(first)[:number]
        columns = {
            name: [batch[name][place] for place in kept]
            for name in ("gains", "reasons", "uncertainty")
            if batch.get(name) is not None
        }
        return {**batch, **columns, "ids": [int(sample) for sample in samples[kept]]}
