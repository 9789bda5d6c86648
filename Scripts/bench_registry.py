"""The benchmarks of Scripts/bench.py: what one is, how they are entered, and how they are timed."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPEATS = 3
SCALES = ("hippocampus", "acdc", "ct", "liver")
"""Slices of 56 x 40, 256 x 224, 512 x 512; the pool of the paper, 104,133 slices, and ten times."""


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
        seconds: CPU seconds for which `operations` or `bytes` are counted, where `ours` is none.
        operations: floating-point operations that the result needs, 0 where nobody counted.
        bytes: memory that has to be read for it.
    """

    what: str
    ours: float
    naive: float
    ratio: float
    bar: float | None = None
    at_most: bool = False
    note: str = ""
    seconds: float | None = None
    operations: float = 0.0
    bytes: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the bar is kept; true where there is none."""
        if self.bar is None:
            return True
        kept = self.ratio <= self.bar if self.at_most else self.ratio >= self.bar
        return kept and math.isfinite(self.ratio)


@dataclass(frozen=True)
class Size:
    """How large a benchmark is.

    Attributes:
        scale: one of `SCALES`.
        quick: whether small sizes do, to see that everything works.
    """

    scale: str
    quick: bool


@dataclass(frozen=True)
class Benchmark:
    """A function that measures, and the scales at which it has something to say."""

    name: str
    measure: Callable[[Size], list[Row]]
    scales: tuple[str, ...]


BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(
    name: str, *scales: str
) -> Callable[[Callable[[Size], list[Row]]], Callable[[Size], list[Row]]]:
    """Enter a function under a name; what it needs it imports itself.

    Each runs in a process of its own, so that its peak memory is its own.

    Args:
        scales: some of `SCALES`; none: the first.
    """

    def enter(function: Callable[[Size], list[Row]]) -> Callable[[Size], list[Row]]:
        BENCHMARKS[name] = Benchmark(name, function, scales or SCALES[:1])
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


def in_turn(
    ours: Callable[[], Any], naive: Callable[[], Any], repeats: int = REPEATS
) -> tuple[float, float]:
    """Least CPU times of two functions that take turns, so that what else the computer does meets
    both.
    """
    pairs = [(cpu_seconds(ours, 1), cpu_seconds(naive, 1)) for _ in range(repeats)]
    first, second = (min(column) for column in zip(*pairs, strict=True))
    return first, second


def peak_memory(children: bool = True) -> int:
    """Largest resident size of this process so far, or of its largest child, bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    own = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status")
    if status.is_file():  # the figure above includes the process that started this one
        lines = status.read_text(encoding="ascii").splitlines()
        own = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    of_children = unit * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return int(max(own, of_children if children else 0))
