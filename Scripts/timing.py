"""Wall-clock figures that the parts of Scripts/bench.py share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

Measured = list[tuple[str, float, float, str]]
"""What, ours, the naive way (both of one unit), and a note."""


def median(action: Callable[[], Any], repeats: int) -> float:
    """Median wall-clock milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
