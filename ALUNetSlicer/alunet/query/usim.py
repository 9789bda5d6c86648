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
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.query.dropout_passes import PUBLISHED_PASSES, PassOptions
from alunet.query.elbow import Elbow, query_size
from alunet.query.flqmi import Optimizer, maximise
from alunet.query.model_outputs import Factors, Heads, Need
from alunet.query.problem import Batch, Query, checked_scores
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
Similarity = tuple[npt.NDArray[np.float32] | ComputedRows[Any], dict[str, Any]]
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
# One pass in place of the dropout passes, and gradients of the more uncertain half: what it costs
# and changes is in docs/performance.md.
THRIFTY = {"measure": "one-pass", "gradient_share": 0.5}


@dataclass(frozen=True)
class UsimOptions(PassOptions):
    """Options of both strategies.

    Attributes:
        eta: weight of the similarity to the query set against covering it, >= 0.
        measure: of the uncertainty: "var" or "std" of the softmax over the dropout passes, or
            p (1 - p) of the softmax of "one-pass" without dropout, which costs a tenth.
        weights: of the classes: inverse to their annotated "voxels", or to their shares "per-case".
        smoothing: of "voxels": so much of the mean count is added to each class's, at least a
            voxel; 0 as in the paper.
        prefilter: only so many samples of largest uncertainty, all classes equal, background
            included, are candidates (at least the budget); 0 for all.
        gradient_share: share of the candidates, the most uncertain ones, whose gradients are
            computed and among which the batch is chosen; the query set always is among them.
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
    embedding_need: ClassVar[Need]  # what the strategy's similarity asks of the model

    measure: Literal["var", "std", "one-pass"] = "var"
    weights: Literal["voxels", "per-case"] = "voxels"
    smoothing: float = 0.01
    prefilter: int = 0
    gradient_share: float = 1.0
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
        if not 0 < self.gradient_share <= 1:
            raise InputError(
                f"gradient_share is {self.gradient_share}.",
                "Give a share above 0, at most 1; 1 takes all candidates.",
            )

    @property
    def needs(self) -> frozenset[Need]:
        """What the chosen measure and the similarity ask of the model."""
        measured = Need.ONE_PASS if self.measure == "one-pass" else Need.MC
        return frozenset([measured, self.embedding_need])

    def select(self, query: Query) -> Batch:
        """Choose the batch."""
        clock = Clock()
        query, notes = prefiltered(query, self)
        target = draw_query_set(query, self, clock)
        matrix, further = self.similarity(query, target, clock)
        return choose(query, target, matrix, self, clock, {**notes, **further})

    def similarity(self, query: Query, target: QuerySet, clock: Clock) -> Similarity:
        """Compute S of the candidates of `target` to its rows, (c, Q) float32, with notes for the
        diagnostics.
        """
        raise NotImplementedError


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
        candidates: (c,) positions of those that may be chosen, ascending; `rows` are among them.
    """

    rows: Ints
    multiplicity: Ints
    elbow: int
    uncertainty: Doubles
    per_class: Doubles
    weights: Doubles
    candidates: Ints

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
        candidates = np.union1d(rows, _most_uncertain(query, uncertainty, options.gradient_share))
    return QuerySet(rows, multiplicity, index, uncertainty, per_class, weights, candidates)


def _most_uncertain(query: Query, uncertainty: Doubles, share: float) -> Ints:
    """Positions of this share of the candidates, at least the budget; among equals the smallest."""
    size = max(math.ceil(share * len(query)), query.budget)
    return np.argsort(-uncertainty, kind="stable")[:size]


def _per_class(query: Query, options: UsimOptions) -> Doubles:
    if options.measure == "one-pass":
        found = query.outputs.one_pass_variance()
        return checked_scores(found, query.ids, "The variance of one pass")
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
    """S of the candidates of `target` to the distinct query elements, (c, Q) float32.

    Each candidate is embedded once, the query elements first, the others in blocks that are given
    up after use. Where S is larger than the memory, their embeddings are kept instead.

    Raises:
        InputError: neither fits into the memory.
    """
    candidates, members = target.candidates, np.isin(target.candidates, target.rows)
    with clock("gradients"):
        embedded = embed(target.rows)
    with clock("similarity"):
        kernel = build(embedded)
    shape = (len(candidates), len(target.rows))
    stored = fits(shape, embedded, query.memory, options.optimizer)
    similarity = np.empty(shape if stored else (0, 0), np.float32)
    embeddings = None if stored else Embeddings(embedded, len(candidates))

    def keep(places: Ints, block: E) -> None:
        if embeddings is None:
            similarity[places] = kernel.rows(block)
        else:
            embeddings.write(places, block)

    with clock("similarity"):
        keep(np.flatnonzero(members), embedded)
    step = max(1, CHUNK_BYTES // max(1, embedding_bytes(embedded)))
    others = np.flatnonzero(~members)
    del embedded
    for start in range(0, len(others), step):
        places = others[start : start + step]
        with clock("gradients"):
            block = embed(candidates[places])
        with clock("similarity"):
            keep(places, block)
    if embeddings is not None:
        return ComputedRows(kernel, embeddings, shape[1], query.memory)
    checked_scores(similarity.max(axis=1), query.ids[candidates], "The similarity")
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
        ahead = options.optimizer in ("lazy", "naive")
        number = min(query.total if ahead else query.budget, len(similarity))
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
    rows = target.candidates[picks.rows]
    leading = np.argmax(target.per_class[:, 1:] * target.weights[1:], axis=1) + 1
    reasons = [
        f"uncertain: {query.label(int(leading[row]))}; rank {rank} by FLQMI gain {gain:.3g}"
        for rank, (row, gain) in enumerate(zip(rows, picks.gains, strict=True), 1)
    ]
    own = rows[: query.budget]
    return query.batch(
        rows,
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
        cost=_cost(query, target, options),
        seconds={step: round(seconds, 3) for step, seconds in clock.seconds.items()},
        **notes,
    )


def _cost(query: Query, target: QuerySet, options: UsimOptions) -> str:
    """What was computed, in words: "one pass, 1,204 of 6,000 slices with gradients"."""
    passes = "one pass" if options.measure == "one-pass" else "dropout passes"
    return f"{passes}, {len(target.candidates):,} of {len(query):,} slices with gradients"
