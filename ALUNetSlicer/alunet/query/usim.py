"""What USIMC and USIMF share: the query set, the similarity matrix, the batch (docs/method.md, 2.3
to 2.10).

Foellmer et al. 2024, "Active Learning with the nnUNet and Sample Selection with Uncertainty-Aware
Submodular Mutual Information Measure", algorithm 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.query.dropout_passes import PUBLISHED_PASSES, PassOptions
from alunet.query.elbow import Elbow, query_size
from alunet.query.flqmi import Optimizer, maximise
from alunet.query.problem import Batch, Factors, Heads, Query, checked_scores
from alunet.query.unstored import (
    ComputedRows,
    Embeddings,
    Kernel,
    embedding_bytes,
    fits,
    maximise_computed,
)
from alunet.query.weights import (
    class_weights,
    draw_with_replacement,
    per_case_class_weights,
    usual_smoothing,
    weighted_uncertainty,
)

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CHUNK_BYTES = 128 * 2**20
E = TypeVar("E", Factors, npt.NDArray[np.floating[Any]])


# What the code of the published experiments did in both strategies (its variance is the default
# here).
PUBLISHED = {
    **PUBLISHED_PASSES,
    "heads": "all-equal",
    "weights": "per-case",
    "elbow": "kneedle",
    "optimizer": "published",
}


@dataclass(frozen=True)
class UsimOptions(PassOptions):
    """Options of both strategies.

    Attributes:
        eta: weight of the similarity to the query set against covering it, >= 0.
        measure: of the uncertainty: "var" or "std" of the softmax over the dropout passes.
        weights: of the classes: inverse to their annotated "voxels", or to their shares "per-case".
        smoothing: of "voxels": so much of the mean count is added to each class's, at least a
            voxel; 0 as in the paper.
        prefilter: only so many samples of largest uncertainty, all classes equal, background
            included, are candidates (at least the budget); 0 for all.
        elbow: how the size of the query set is found.
        query_size: size of the query set; 0 to find it by the elbow.
        draw: of the query set: in proportion to the uncertainty with replacement, uniformly without
            replacement, or the most uncertain samples.
        heads: weights of the deep-supervision heads in the loss whose gradient is taken: nnU-Net's
            of the "training", the finest alone ("full-res"), or "all-equal", the one that is never
            trained too.
        optimizer: how the batch is found; "lazy" is exact.
    """

    eta: float = 1.0
    measure: Literal["var", "std"] = "var"
    weights: Literal["voxels", "per-case"] = "voxels"
    smoothing: float = 0.01
    prefilter: int = 0
    elbow: Elbow = "chord"
    query_size: int = 0
    draw: Literal["proportional", "uniform", "max"] = "proportional"
    heads: Heads = "training"
    optimizer: Optimizer = "lazy"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("eta", "smoothing"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(
                    f"{name} is {getattr(self, name)}.",
                    "Give a finite number that is not negative.",
                )
        for name in ("prefilter", "query_size"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"{name} is {getattr(self, name)}.",
                    "Give a number of samples; 0 switches it off.",
                )


@dataclass(frozen=True)
class QuerySet:
    """The samples that the batch has to speak for.

    Attributes:
        rows: positions of the distinct query elements, ascending.
        multiplicity: how often each was drawn.
        elbow: index of the elbow in the sorted uncertainties.
        uncertainty: (n,) weighted uncertainty of all candidates.
        per_class: (n, K) uncertainty of each class.
        weights: (K,) class weights.
    """

    rows: Ints
    multiplicity: Ints
    elbow: int
    uncertainty: Doubles
    per_class: Doubles
    weights: Doubles

    @property
    def size(self) -> int:
        """Number of draws Q."""
        return int(self.multiplicity.sum())


@dataclass
class Clock:
    """Seconds spent in each named step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Add the time spent inside the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start


def prefiltered(query: Query, options: UsimOptions) -> tuple[Query, dict[str, Any]]:
    """The question about the `prefilter` most uncertain candidates alone, and what to say of it in
    the diagnostics.

    Largest mean over all classes, background included, among equals the smallest id
    (docs/method.md, 2.4).
    """
    if not options.prefilter:
        return query, {}
    size = max(options.prefilter, query.budget)
    if size >= len(query):
        return query, {"prefilter_size": len(query)}
    rows = np.sort(np.argsort(-_per_class(query, options).mean(axis=1), kind="stable")[:size])
    part = query.only(rows)
    return part, {"prefilter_size": size, "prefilter_ids": [int(i) for i in part.ids]}


def draw_query_set(query: Query, options: UsimOptions, clock: Clock) -> QuerySet:
    """Weighted uncertainties, the size of the query set, and its draws (docs/method.md, 2.3, 2.8,
    2.9).

    Raises:
        InputError: scores that are not finite or are negative.
    """
    with clock("uncertainty"):
        per_class = _per_class(query, options)
    with clock("query set"):
        weights = _class_weights(query, options)
        if per_class.shape[1] != len(weights):
            raise ValueError(
                f"scores of {per_class.shape[1]} classes, voxel counts of {len(weights)}"
            )
        uncertainty = weighted_uncertainty(per_class, weights)
        size, index = query_size(uncertainty, query.budget, options.elbow)
        if options.query_size:
            size = min(options.query_size, len(query))
        draws = _draws(query, uncertainty, size, options)
        rows, multiplicity = np.unique(draws, return_counts=True)
    return QuerySet(rows, multiplicity, index, uncertainty, per_class, weights)


def _per_class(query: Query, options: UsimOptions) -> Doubles:
    scores = options.scores(query)
    if options.measure == "std":
        return checked_scores(scores.std, query.ids, "The Monte-Carlo standard deviation")
    return checked_scores(scores.var, query.ids, "The Monte-Carlo variance")


def _class_weights(query: Query, options: UsimOptions) -> Doubles:
    if options.weights == "voxels":
        return class_weights(
            query.class_voxels, usual_smoothing(query.class_voxels, options.smoothing)
        )
    if query.case_voxels is None or query.case_sizes is None:
        raise ValueError("per-case class weights need the voxel counts of the annotated cases")
    return per_case_class_weights(query.case_voxels, query.case_sizes)


def _draws(query: Query, uncertainty: Doubles, size: int, options: UsimOptions) -> Ints:
    """Positions of the query set: the paper's rule, or one of those it is compared with (its
    figure 4).
    """
    rng = query.streams["query-draw"]
    if options.draw == "uniform":
        return rng.choice(len(query), size, replace=False).astype(np.int64)
    if options.draw == "max":
        return np.argsort(-uncertainty, kind="stable")[:size]
    return draw_with_replacement(uncertainty, size, rng)


def similarity_matrix(
    query: Query,
    target: QuerySet,
    embed: Callable[[Ints], E],
    build: Callable[[E], Kernel[E]],
    clock: Clock,
    options: UsimOptions,
) -> npt.NDArray[np.float32] | ComputedRows[Any]:
    """S of all candidates to the distinct query elements, (n, Q) float32.

    Each candidate is embedded once, the query elements first, the others in blocks that are given
    up after use. Where S is larger than the memory, their embeddings are kept instead.

    Raises:
        InputError: neither fits into the memory.
    """
    with clock("gradients"):
        embedded = embed(target.rows)
    with clock("similarity"):
        kernel = build(embedded)
    shape = (len(query), len(target.rows))
    stored = fits(shape, embedded, query.memory, options.optimizer)
    similarity = np.empty(shape if stored else (0, 0), np.float32)
    embeddings = None if stored else Embeddings(embedded, len(query))

    def keep(rows: Ints, block: E) -> None:
        if embeddings is None:
            similarity[rows] = kernel.rows(block)
        else:
            embeddings.write(rows, block)

    with clock("similarity"):
        keep(target.rows, embedded)
    step = max(1, CHUNK_BYTES // max(1, embedding_bytes(embedded)))
    others = np.setdiff1d(np.arange(len(query)), target.rows, assume_unique=True)
    del embedded
    for start in range(0, len(others), step):
        rows = others[start : start + step]
        with clock("gradients"):
            block = embed(rows)
        with clock("similarity"):
            keep(rows, block)
    if embeddings is not None:
        return ComputedRows(kernel, embeddings, shape[1], query.memory)
    checked_scores(similarity.max(axis=1), query.ids, "The similarity")
    return similarity


def choose(
    query: Query,
    target: QuerySet,
    similarity: npt.NDArray[np.float32] | ComputedRows[Any],
    options: UsimOptions,
    clock: Clock,
    notes: dict[str, Any],
) -> Batch:
    """Maximise FLQMI and say why each sample was taken; `notes` go along with the diagnostics.

    The uncertainty of a sample is the weighted one, compared with the others that passed the
    prefilter.
    """
    with clock("selection"):
        # The exact optimizers take one after the other, whatever the number; a stochastic one draws
        # by the number.
        number = query.total if options.optimizer in ("lazy", "naive") else query.budget
        eta, often = options.eta, target.multiplicity
        if isinstance(similarity, ComputedRows):
            picks = maximise_computed(similarity, number, eta=eta, multiplicity=often)
            notes = {**notes, "kernel": similarity.described()}
        else:
            picks = maximise(
                similarity,
                number,
                eta=eta,
                multiplicity=often,
                optimizer=options.optimizer,
                rng=query.streams["stochastic-greedy"],
            )
    leading = np.argmax(target.per_class[:, 1:] * target.weights[1:], axis=1) + 1
    reasons = [
        f"uncertain: {query.label(int(leading[row]))}; rank {rank} by FLQMI gain {gain:.3g}"
        for rank, (row, gain) in enumerate(zip(picks.rows, picks.gains, strict=True), 1)
    ]
    own = picks.rows[: query.budget]
    return query.batch(
        picks.rows,
        picks.gains,
        reasons,
        target.uncertainty,
        query_size=target.size,
        elbow=target.elbow,
        query_unique=len(target.rows),
        query_duplicates=target.size - len(target.rows),
        class_weights=[float(weight) for weight in target.weights],
        batch_uncertainty=float(target.per_class[own, 1:].sum()),
        picks_in_query_set=int(np.isin(own, target.rows).sum()),
        seconds={step: round(seconds, 3) for step, seconds in clock.seconds.items()},
        **notes,
    )
