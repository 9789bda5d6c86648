"""Typicality: the most typical sample of each large cluster that has no label yet."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query, checked_scores
from alunet.query.registry import register

Rows = npt.NDArray[np.int64]
Features = npt.NDArray[np.float32]
_SMALLEST = 5  # samples: smaller clusters are outliers (the published code's number)


@register(
    "typicality",
    title="Typicality",
    needs=[Need.FEATURES],
    source="Hacohen et al. 2022 (TypiClust)",
    summary="The most typical sample of each cluster, those without labels first; for few labels.",
)
@dataclass(frozen=True)
class Typicality:
    """Options of typicality (docs/method.md, 2.4).

    Attributes:
        neighbors: nearest neighbors whose mean distance is the inverse of the typicality.
        most: clusters at most.
    """

    neighbors: int = 20
    most: int = 500

    def __post_init__(self) -> None:
        for name in ("neighbors", "most"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}.", "Give 1 or more.")

    def select(self, query: Query) -> Batch:
        """Go round the clusters, those with the fewest labels and the most samples first."""
        own = np.asarray(query.outputs.features(), np.float32)
        checked_scores(np.square(own, dtype=np.float64).sum(axis=1), query.ids, "The embedding")
        labelled = np.asarray(query.outputs.labelled_features(), np.float32).reshape(
            -1, own.shape[1]
        )
        everything = np.concatenate([own, labelled])
        clusters = self._clusters(everything, min(len(labelled) + query.budget, self.most), query)
        members = {
            number: np.flatnonzero(clusters[: len(own)] == number)
            for number in self._order(clusters, len(own))
        }
        rows: list[int] = []
        gains: list[float] = []
        while len(rows) < query.budget:
            for number in [key for key, left in members.items() if len(left)]:
                if len(rows) == query.budget:
                    break
                row, gain = self._typical(own, members[number])
                members[number] = members[number][members[number] != row]
                rows.append(row)
                gains.append(gain)
        reasons = [f"typical of its cluster: typicality {gain:.3g}" for gain in gains]
        return query.batch(np.array(rows), np.array(gains), reasons, clusters=len(members))

    @staticmethod
    def _clusters(features: Features, number: int, query: Query) -> Rows:
        # slow to load, and listing strategies needs none
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        seed = int(query.streams.sequence("k-means").generate_state(1)[0])
        with warnings.catch_warnings():
            # fewer different samples than clusters: some clusters stay empty, and nothing is wrong
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = KMeans(min(number, len(features)), n_init=1, random_state=seed).fit(features)
        return np.asarray(found.labels_, np.int64)

    @staticmethod
    def _order(clusters: Rows, candidates: int) -> list[int]:
        """The clusters: large ones before outliers, then few labels first, then large first."""
        size = np.bincount(clusters)
        labels = np.bincount(clusters[candidates:], minlength=len(size))
        small = size <= _SMALLEST
        return [int(number) for number in np.lexsort((-size, labels, small))]

    def _typical(self, features: Features, rows: Rows) -> tuple[int, float]:
        """The row with the smallest mean distance to its nearest neighbors, and its inverse."""
        count = min(self.neighbors, max(1, len(rows) // 2))
        if len(rows) == 1:
            return int(rows[0]), 0.0
        part = features[rows].astype(np.float64)
        own = np.square(part).sum(axis=1)
        squares = np.maximum(own[:, None] + own - 2.0 * (part @ part.T), 0.0)
        np.fill_diagonal(squares, np.inf)
        near = np.sqrt(np.partition(squares, count - 1, axis=1)[:, :count])
        typicality = 1.0 / (near.mean(axis=1) + 1e-5)
        best = int(np.argmax(typicality))
        return int(rows[best]), float(typicality[best])
