"""Measure the engine against the naive way of doing the same.

    python3 Scripts/bench.py            all benchmarks, a few minutes
    python3 Scripts/bench.py --quick    small sizes, under a minute
    python3 Scripts/bench.py flqmi      only those whose name contains the word
    python3 Scripts/bench.py --check    exit code 1 where a bar is missed

Every figure is the least of at least three repetitions, in CPU seconds (user and system) on one
thread; ratios compare runs of one process. On a busy machine caches are shared and ratios move by a
quarter: bars leave room for that.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are loaded

INSIDE = "ALUNET_BENCH_INSIDE"
REPEATS = 3


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what is measured, with its size.
        ours: CPU seconds (or the unit that `note` names) of the engine.
        naive: the same of the naive way.
        ratio: the figure that the bar is about.
        bar: what the ratio has to reach; None where none is set.
        at_most: the ratio must not exceed the bar, instead of reaching it.
        note: what else a reader needs.
    """

    what: str
    ours: float
    naive: float
    ratio: float
    bar: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the bar is kept; true where there is none."""
        return self.bar is None or (
            self.ratio <= self.bar if self.at_most else self.ratio >= self.bar
        )


Benchmark = Callable[[bool], list[Row]]
BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(name: str) -> Callable[[Benchmark], Benchmark]:
    """Enter a function (quick: bool) -> rows under `name`; what it needs it imports itself."""

    def enter(function: Benchmark) -> Benchmark:
        BENCHMARKS[name] = function
        return function

    return enter


def cpu_seconds(function: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Least CPU time of some repetitions."""
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def peak_memory() -> int:
    """Largest resident size of this process so far, bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def kernel(n: int, queries: int) -> Any:
    """Clustered cosine similarities (n, queries), float32: as between slices of a few kinds."""
    import numpy as np

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(50, 64))
    points = (centres[rng.integers(0, 50, n)] + 1.2 * rng.normal(size=(n, 64))).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return np.ascontiguousarray(points @ points[rng.choice(n, queries, replace=False)].T)


@benchmark("flqmi-memory")
def flqmi_memory(quick: bool) -> list[Row]:
    """Memory on top of the kernel. First, because a peak never falls."""
    import psutil

    from alunet.query.flqmi import maximise

    n, queries = (8000, 1000) if quick else (20_000, 2000)
    maximise(kernel(50, 5), 3)  # compile
    similarity = kernel(n, queries)
    before = psutil.Process().memory_info().rss
    maximise(similarity, 100)
    extra = max(0, peak_memory() - before)  # at most this: an earlier peak counts too
    return [
        Row(
            f"FLQMI extra memory, {n} x {queries}",
            extra / 2**20,
            similarity.nbytes / 2**20,
            extra / similarity.nbytes,
            0.25,
            True,
            "MiB; against the kernel's size",
        )
    ]


@benchmark("flqmi")
def flqmi(quick: bool) -> list[Row]:
    """Choosing 100 samples, against submodlib's lazy greedy with its constructor, and against
    reading the kernel.
    """
    from alunet.query.flqmi import maximise

    rows = []
    for n, queries in [(2000, 300)] if quick else [(7662, 942), (20_000, 2000)]:
        similarity = kernel(n, queries)
        maximise(similarity, 2)  # compile
        ours = cpu_seconds(lambda: maximise(similarity, 100), 7)  # noqa: B023
        read = cpu_seconds(lambda: similarity.max(), 7)  # noqa: B023
        # Lazy greedy must touch about five kernels, row by row in no order; how much slower than
        # reading in order that is depends on the processor (seen: 15 to 33 reads in all).
        rows.append(
            Row(f"FLQMI lazy / one read, {n} x {queries}", ours, read, ours / read, 40, True)
        )
        rows += _against_submodlib(similarity, ours)
    return rows


def _against_submodlib(similarity: Any, ours: float) -> list[Row]:
    try:
        from submodlib import FacilityLocationVariantMutualInformationFunction as Flvmi
    except ImportError:
        return []
    from alunet.query.flqmi import maximise

    size = f"{similarity.shape[0]} x {similarity.shape[1]}"
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
        picks = function.maximize(budget=100, optimizer="LazyGreedy", show_progress=False)
        best, whole = (
            min(best, time.process_time() - built),
            min(whole, time.process_time() - start),
        )
        del function
    same = [row for row, _ in picks] == maximise(similarity, 100).rows.tolist()
    note = "same picks, same order" if same else "OTHER PICKS"
    return [
        Row(f"FLQMI / submodlib, all, {size}", ours, whole, whole / ours, 8, note=note),
        Row(f"FLQMI / submodlib, greedy alone, {size}", ours, best, best / ours, 2.5),
    ]


def factors(count: int, filters: int, channels: int, height: int, width: int, seed: int) -> Any:
    """Gradient factors of a bottleneck layer, of samples of ten kinds, float32."""
    import numpy as np

    from alunet.query import Factors

    rng = np.random.default_rng(0)  # the same ten kinds of slices, whatever the seed
    kinds = [
        rng.standard_normal((10, depth, height, width), np.float32) for depth in (filters, channels)
    ]
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 10, count)
    delta, inputs = (
        kind[which] + 0.7 * rng.standard_normal((count, *kind.shape[1:]), np.float32)
        for kind in kinds
    )
    return Factors(delta, inputs)


@benchmark("cosine")
def cosine(quick: bool) -> list[Row]:
    """USIMC's similarity at the two layers of docs/method.md, against explicit gradients one
    sample at a time.
    """
    layers = {"256 ch 7x5": (256, 256, 7, 5), "512 ch 4x4": (512, 512, 4, 4)}
    sizes = (64, 32) if quick else (512, 128)
    return [row for name, layer in layers.items() for row in _cosine(name, layer, *sizes)]


def _cosine(name: str, layer: tuple[int, int, int, int], n: int, queries: int) -> list[Row]:
    import numpy as np

    from alunet.query import Factors
    from alunet.query.similarity import CosineKernel

    pool, query = factors(n, *layer, seed=0), factors(queries, *layer, seed=1)
    few = max(8, n // 8)
    part = Factors(pool.delta[:few], pool.inputs[:few])
    columns = _explicit(query)
    naive = (
        cpu_seconds(
            lambda: [
                _explicit(Factors(part.delta[i : i + 1], part.inputs[i : i + 1])) @ columns.T
                for i in range(few)
            ]
        )
        * n
        / few
    )
    rows = []
    exact = CosineKernel(query).rows(part)
    for method, precision in [
        ("direct", "fp32"),
        ("gram", "fp32"),
        ("direct", "bf16"),
        ("gram", "bf16"),
    ]:
        found = CosineKernel(query, method=method, precision=precision)  # type: ignore[arg-type]
        ours = cpu_seconds(lambda: found.rows(pool))  # noqa: B023
        error = float(np.abs(found.rows(part) - exact).max())
        chosen = (
            ", the default" if (method, precision) == (CosineKernel(query).method, "fp32") else ""
        )
        note = f"{1e6 * ours / (n * queries):.1f} us a pair, error {error:.0e}{chosen}"
        rows.append(
            Row(
                f"cosine {method} {precision}, {name}, {n} x {queries}",
                ours,
                naive,
                naive / ours,
                1.5 if chosen else None,
                note=note,
            )
        )
    return rows


def _explicit(given: Any) -> Any:
    """(m, Cout Cin 9) normalised weight gradients, formed in full."""
    import torch

    delta, inputs = torch.as_tensor(given.delta), torch.as_tensor(given.inputs)
    seen = torch.nn.functional.unfold(inputs, 3, padding=1)
    return torch.nn.functional.normalize((delta.flatten(2) @ seen.transpose(1, 2)).flatten(1))


@benchmark("fisher")
def fisher(quick: bool) -> list[Row]:
    """USIMF's similarity, one product of scaled gradients, against one sample at a time."""
    import numpy as np

    from alunet.query.similarity import DotKernel, fisher_scale

    n, queries, size = (500, 100, 10_000) if quick else (4000, 600, 10_000)
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((n, size), np.float32)
    diagonal = rng.lognormal(size=size).astype(np.float32)
    ours = cpu_seconds(
        lambda: DotKernel(pool[:queries], scale=fisher_scale(diagonal, 1e-3)).rows(pool)
    )
    few = n // 20
    naive = (
        cpu_seconds(lambda: [(pool[:queries] / diagonal) @ row / size for row in pool[:few]])
        * n
        / few
    )
    return [Row(f"Fisher product, {n} x {queries} x {size}", ours, naive, naive / ours, 3)]


def hippocampus_model() -> Any:
    """A `Model` of the size that nnU-Net plans for the hippocampus (1.9 million parameters),
    random weights.
    """
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from torch import nn

    from alunet.model.network import Model

    torch.manual_seed(0)
    convolutions = {
        "conv_op": nn.Conv2d,
        "kernel_sizes": 3,
        "strides": [1, 2, 2, 2],
        "conv_bias": True,
    }
    norms = {
        "norm_op": nn.InstanceNorm2d,
        "norm_op_kwargs": {"affine": True},
        "dropout_op": nn.Dropout,
    }
    model = object.__new__(Model)
    model.network = PlainConvUNet(
        1,
        4,
        [32, 64, 128, 256],
        n_conv_per_stage=2,
        num_classes=3,
        n_conv_per_stage_decoder=2,
        deep_supervision=True,
        dropout_op_kwargs={"p": 0.01},
        nonlin=nn.LeakyReLU,
        **convolutions,
        **norms,
    )
    model.network.eval().requires_grad_(False)
    model.device, model.classes = torch.device("cpu"), 3
    return model


class RandomTiles:
    """Stands in for `TileReader`: slices of noise from memory."""

    def __init__(self, count: int, batch: int = 32) -> None:
        import numpy as np

        self.images = np.random.default_rng(0).normal(size=(count, 1, 56, 40)).astype(np.float32)
        self.batch = batch

    def batches(self, ids: Any) -> Any:
        """As `TileReader.batches`."""
        import numpy as np

        from alunet.model.reader import Tiles

        for start in range(0, len(ids), self.batch):
            images = self.images[ids[start : start + self.batch]]
            yield Tiles(
                np.arange(start, start + len(images)), images, np.ones((len(images), 56, 40), bool)
            )


@benchmark("model-dropout")
def dropout_passes(quick: bool) -> list[Row]:
    """Ten dropout passes of hippocampus slices: batches, common masks, bfloat16, against one
    slice at a time.
    """
    import numpy as np
    import torch

    from alunet.model.arithmetic import has_bfloat16_units
    from alunet.model.score import monte_carlo
    from alunet.model.settings import ScoringSettings
    from alunet.schema import ignore_events

    model, count = hippocampus_model(), 32 if quick else 96
    tiles, ids, few = RandomTiles(count), np.arange(count), 4
    rows = []

    def naive() -> None:
        model.network.train()
        with torch.no_grad():
            for image in torch.from_numpy(tiles.images[:few]):
                torch.stack([model.network(image[None])[0].softmax(1) for _ in range(10)]).var(
                    0
                ).mean()
        model.network.eval()

    slow = cpu_seconds(naive) / few * 1e3
    for precision, bar in (("fp32", 1.1), ("bf16", 2.0))[: 2 if has_bfloat16_units()[0] else 1]:
        settings = ScoringSettings(precision=precision)
        ours = cpu_seconds(lambda: monte_carlo(model, tiles, ids, settings, (0,), ignore_events))  # noqa: B023
        ours *= 1e3 / count
        rows.append(
            Row(f"Dropout, 10 passes, {precision}", ours, slow, slow / ours, bar, note="ms a slice")
        )
    return rows


@benchmark("model-gradients")
def sample_gradients(quick: bool) -> list[Row]:
    """Gradients of each sample, batched, against autograd one sample at a time."""
    import numpy as np
    import torch

    from alunet.model import gradients
    from alunet.schema import ignore_events

    model, count = hippocampus_model(), 32 if quick else 64
    reader = gradients.GradientReader(model, RandomTiles(count, 16), "training", ignore_events)
    ids, few, coordinates = (
        np.arange(count),
        4,
        np.sort(np.random.default_rng(0).choice(580_000, 10_000, False)),
    )

    def naive(layers: list[Any]) -> float:
        weights = [layer.weight.requires_grad_(True) for layer in layers]

        def run() -> None:
            for image in torch.from_numpy(reader.reader.images[:few]):
                loss = reader._loss(model.network(image[None]), torch.ones(1, 56, 40))
                torch.autograd.grad(loss, weights)

        milliseconds = cpu_seconds(run) / few * 1e3
        model.network.requires_grad_(False)
        return milliseconds

    ways = {
        "bottleneck": (reader.bottleneck, lambda: gradients.bottleneck_factors(reader, ids)),
        "decoder": (reader.decoder, lambda: gradients.decoder_gradients(reader, ids, coordinates)),
    }
    rows = []
    for name, (layers, run) in ways.items():
        ours, slow = cpu_seconds(run) / count * 1e3, naive(layers)
        # The arithmetic of the decoder's weight gradients is the same either way, and most of the
        # time on a CPU.
        rows.append(Row(f"Gradients, {name}", ours, slow, slow / ours, 1.0, note="ms a slice"))
    return rows


@benchmark("arithmetic")
def chosen_arithmetic(quick: bool) -> list[Row]:
    """The precision and memory format that a project chooses, against float32."""
    from bench_arithmetic import measure

    return [
        Row(what, ours, naive, ours / naive, 1.05, True, note)
        for what, ours, naive, note in measure(quick)
    ]


@benchmark("service")
def service(quick: bool) -> list[Row]:
    """What a person waits for at the service."""
    from bench_service import measure

    return [
        Row(what, ours, naive, ours / naive, note=note)
        for what, ours, naive, note in measure(quick)
    ]


@benchmark("service-large")
def large_files(quick: bool) -> list[Row]:
    """Saving a slice while others add, fetch and export a large CT: 99th percentile, in ms."""
    from bench_large import measure_large

    return _limited(measure_large(quick))


@benchmark("service-scale")
def many_projects(quick: bool) -> list[Row]:
    """A service with many projects, cases and rounds; in ms."""
    from bench_large import measure_scale

    return _limited(measure_scale(quick))


def _limited(rows: list[Any]) -> list[Row]:
    return [Row(what, ours, bar, ours / bar, 1.0, True, note) for what, ours, bar, note in rows]


@benchmark("slicer")
def slicer_side(quick: bool) -> list[Row]:
    """How long Slicer stands still between two slices."""
    from bench_slicer import measure

    return [
        Row(what, ours, naive, naive / ours, 1.0, note=note)
        for what, ours, naive, note in measure(quick)
    ]


def main(arguments: list[str]) -> int:
    """Run the chosen benchmarks in the environment and print the table."""
    if INSIDE not in os.environ:
        return _inside_environment(arguments)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only benchmarks whose name contains one of these")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a bar is missed")
    options = parser.parse_args(arguments)
    _one_thread()
    rows: list[Row] = []
    for name, function in BENCHMARKS.items():
        if not options.words or any(word in name for word in options.words):
            print(f"... {name}", file=sys.stderr, flush=True)
            rows += function(options.quick)
    _show(rows)
    return 1 if options.check and not all(row.passed for row in rows) else 0


def _inside_environment(arguments: list[str]) -> int:
    from environment import ROOT, SetupError, clean_environment, ensure

    try:
        python = ensure()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    environment = {**clean_environment(), INSIDE: "1"}
    return subprocess.run(
        [str(python), str(Path(__file__)), *arguments], cwd=ROOT, env=environment
    ).returncode


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    busy = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
    if busy > 0.8:
        print(
            f"Note: this machine is busy (load {busy:.1f} a core); ratios are less certain.",
            file=sys.stderr,
        )


def _show(rows: list[Row]) -> None:
    table = [("what", "ours", "against", "ratio", "bar", "", "")]
    for row in rows:
        bar = "" if row.bar is None else f"{'<=' if row.at_most else '>='} {row.bar:g}"
        verdict = "" if row.bar is None else "ok" if row.passed else "MISSED"
        table.append(
            (
                row.what,
                f"{row.ours:.4g}",
                f"{row.naive:.4g}",
                f"{row.ratio:.3g}",
                bar,
                verdict,
                row.note,
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    print("\nCPU seconds on one thread, the least of at least three; other units are named.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
