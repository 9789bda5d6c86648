"""Choosing a batch by FLQMI, part of Scripts/bench.py."""

from __future__ import annotations

import time
from typing import Any

from bench_registry import REPEATS, Row, Size, benchmark, cpu_seconds, peak_memory

_BATCH = 100
_BLOCK = 4096


def kernel(n: int, queries: int) -> Any:
    """Clustered cosine similarities (n, queries), float32: as between slices of a few kinds."""
    import numpy as np

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(50, 64))
    points = (centres[rng.integers(0, 50, n)] + 1.2 * rng.normal(size=(n, 64))).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return np.ascontiguousarray(points @ points[rng.choice(n, queries, replace=False)].T)


@benchmark("flqmi-memory")
def flqmi_memory(size: Size) -> list[Row]:
    """Memory on top of the kernel."""
    import psutil

    from alunet.query.flqmi import maximise

    n, queries = (8000, 1000) if size.quick else (20_000, 2000)
    maximise(kernel(50, 5), 3)  # compile
    similarity = kernel(n, queries)
    before = psutil.Process().memory_info().rss
    seconds = cpu_seconds(lambda: maximise(similarity, _BATCH), 1)
    extra = max(0, peak_memory(children=False) - before)  # at most this: making it counts, too
    return [
        Row(
            f"FLQMI extra memory, {n} x {queries}",
            extra / 2**20,
            similarity.nbytes / 2**20,
            extra / similarity.nbytes,
            0.25,
            True,
            "MiB; against the kernel's size",
            seconds=seconds,
            bytes=similarity.nbytes,
        )
    ]


@benchmark("flqmi")
def flqmi(size: Size) -> list[Row]:
    """Choosing 100 samples, against submodlib's lazy greedy with its constructor, and against
    reading the kernel.
    """
    from alunet.query.flqmi import maximise

    rows = []
    for n, queries in [(2000, 300)] if size.quick else [(7662, 942), (20_000, 2000)]:
        similarity = kernel(n, queries)
        maximise(similarity, 2)  # compile
        ours = cpu_seconds(lambda: maximise(similarity, _BATCH), 7)  # noqa: B023
        read = cpu_seconds(lambda: similarity.max(), 7)  # noqa: B023
        # Lazy greedy must touch about five kernels, row by row in no order; how much slower than
        # reading in order that is depends on the processor (seen: 15 to 33 reads in all).
        what = f"FLQMI lazy / one read, {n} x {queries}"
        rows.append(Row(what, ours, read, ours / read, 40, True, bytes=similarity.nbytes))
        rows += _against_submodlib(similarity, ours, 8 if size.quick else 12)
    return rows


def _against_submodlib(similarity: Any, ours: float, bar: float) -> list[Row]:
    try:
        from submodlib import FacilityLocationVariantMutualInformationFunction as Flvmi
    except ImportError:
        return []
    from alunet.query.flqmi import maximise, objective

    shape = f"{similarity.shape[0]} x {similarity.shape[1]}"
    best, whole, picks = float("inf"), float("inf"), []
    for _ in range(REPEATS):
        start = time.process_time()
        function = Flvmi(
            n=similarity.shape[0],
            num_queries=similarity.shape[1],
            query_sijs=similarity,
            queryDiversityEta=1.0,
        )
        built = time.process_time()
        picks = function.maximize(budget=_BATCH, optimizer="LazyGreedy", show_progress=False)
        best, whole = (
            min(best, time.process_time() - built),
            min(whole, time.process_time() - start),
        )
        del function
    theirs, own = [row for row, _ in picks], maximise(similarity, _BATCH).rows
    values = [objective(similarity, rows) for rows in (theirs, own)]
    equal = theirs == own.tolist() or abs(values[0] / values[1] - 1) < 1e-6
    note = "same picks, same order" if theirs == own.tolist() else f"objectives {values}"
    ratio = whole / ours if equal else float("nan")  # another answer is no comparison
    return [
        Row(f"FLQMI / submodlib, all, {shape}", ours, whole, ratio, bar, note=note),
        Row(f"FLQMI / submodlib, greedy alone, {shape}", ours, best, best / ours, 2.5),
    ]


# --- the scale of the paper -----------------------------------------------------------------------


class Gradients:
    """Stands in for a network: embeddings of clustered slices, made anew whenever they are asked;
    the time that this takes is not counted.
    """

    def __init__(self, n: int, length: int) -> None:
        import numpy as np

        rng = np.random.default_rng(0)
        self._centres = rng.standard_normal((50, 64), np.float32)
        self._spread = rng.standard_normal((64, length), np.float32) / 8
        self._n, self.seconds = n, 0.0

    def __call__(self, rows: Any) -> Any:
        """(m, length) float32 of unit length, of the candidates at `rows`."""
        import numpy as np

        start = time.process_time()
        found = np.empty((len(rows), self._spread.shape[1]), np.float32)
        for first in range(0, len(rows), _BLOCK):
            own = rows[first : first + _BLOCK]
            kinds = self._centres[own % 50]
            points = np.stack([_noise(int(row)) for row in own]) * np.float32(1.2) + kinds
            part = found[first : first + _BLOCK]
            np.matmul(points, self._spread, out=part)
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        self.seconds += time.process_time() - start
        return found


def _noise(row: int) -> Any:
    import numpy as np

    return np.random.Generator(np.random.SFC64(row)).standard_normal(64, np.float32)


def _select(n: int, queries: int, length: int, memory: int | None) -> tuple[Any, ...]:
    """Choose as USIMF does, from embeddings to batch: seconds, seconds of the product alone, its
    operations, and what the record says of the kernel.
    """
    import numpy as np
    import torch

    from alunet.query import Query, Streams
    from alunet.query.similarity import DotKernel
    from alunet.query.strategies.usimf import Usimf
    from alunet.query.usim import Clock, QuerySet, choose, similarity_matrix

    rng = np.random.default_rng(1)
    rows = np.sort(rng.choice(n, queries, replace=False))
    uncertainty = rng.random(n)
    query = Query(
        np.arange(n),
        _BATCH,
        np.zeros(n, np.int64),
        np.ones(2, np.int64),
        None,  # type: ignore[arg-type]  # the embeddings are given
        Streams(0, 1),
        memory=memory,
    )
    per_class = np.stack([uncertainty, uncertainty], axis=1)
    once = np.ones(queries, np.int64)
    target = QuerySet(rows, once, queries, uncertainty, per_class, np.ones(2), np.arange(n))
    _compile()
    gradients, options, clock = Gradients(n, length), Usimf(), Clock()
    start = time.process_time()
    similarity = similarity_matrix(query, target, gradients, DotKernel, clock, options)
    batch = choose(query, target, similarity, options, clock, {})
    ours = time.process_time() - start - gradients.seconds
    block = torch.from_numpy(gradients(np.arange(min(n, _BLOCK))))
    columns = torch.from_numpy(gradients(rows)).T.contiguous()
    product = cpu_seconds(lambda: block @ columns) * n / len(block)
    return ours, product, 2.0 * n * queries * length, batch.diagnostics.get("kernel", "stored")


def _compile() -> None:
    """Let numba compile, or read what it compiled."""
    import numpy as np

    from alunet.query.flqmi import maximise
    from alunet.query.similarity import DotKernel
    from alunet.query.unstored import ComputedRows, Embeddings, maximise_computed

    few = np.eye(5, dtype=np.float32)
    embeddings = Embeddings(few, len(few))
    embeddings.write(np.arange(len(few)), few)
    maximise(few, 2)
    maximise_computed(ComputedRows(DotKernel(few), embeddings, len(few)), 2, eta=1.0)


@benchmark("selection", "liver")
def selection(size: Size) -> list[Row]:
    """Exact greedy at the size of the paper's liver pool, against the matrix product alone."""
    n, queries, length = (10_000, 700, 2000) if size.quick else (104_133, 6606, 10_000)
    ours, product, operations, kept = _select(n, queries, length, None)
    what = f"{n} x {queries}, embeddings of {length}"
    return [
        Row(f"selection, {what}", ours, product, ours / product, 1.5, True, kept, None, operations),
        _memory(f"selection, memory, {what}", 7, ours),
    ]


@benchmark("selection-unstored", "liver")
def selection_unstored(size: Size) -> list[Row]:
    """The same of ten times the pool, of which the kernel is not stored."""
    n, queries, length = (20_000, 700, 256) if size.quick else (1_041_330, 6606, 1024)
    memory = 4 * n * length + (8 << 20 if size.quick else 2 << 30)
    ours, product, operations, kept = _select(n, queries, length, memory)
    what = f"{n} x {queries}, embeddings of {length}, kernel not stored"
    return [
        Row(
            f"selection, {what}", ours, product, ours / product, None, False, kept, None, operations
        ),
        _memory(f"selection, memory, {what}", 12, ours),
    ]


def _memory(what: str, bar: float, seconds: float) -> Row:
    peak = peak_memory(children=False) / 2**30
    return Row(what, peak, bar, peak, bar, True, "GiB", seconds)
