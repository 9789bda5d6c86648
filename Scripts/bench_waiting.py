"""What a person waits for, and the choice of an arithmetic: benchmarks of Scripts/bench.py that
are measured in processes of their own, or by the clock.
"""

from __future__ import annotations

from typing import Any

from bench_registry import Row, Size, benchmark


@benchmark("arithmetic")
def chosen_arithmetic(size: Size) -> list[Row]:
    """The precision and memory format that a project chooses, against float32."""
    from bench_arithmetic import measure

    return [
        Row(what, ours, naive, ours / naive, 1.05, True, note)
        for what, ours, naive, note in measure(size.quick)
    ]


@benchmark("service")
def service(size: Size) -> list[Row]:
    """What a person waits for at the service."""
    from bench_service import measure

    return [
        Row(what, ours, naive, ours / naive, note=note)
        for what, ours, naive, note in measure(size.quick)
    ]


@benchmark("service-large")
def large_files(size: Size) -> list[Row]:
    """Saving a slice while others add, fetch and export a large CT: 99th percentile, in ms."""
    from bench_large import measure_large

    return _limited(measure_large(size.quick))


@benchmark("service-scale")
def many_projects(size: Size) -> list[Row]:
    """A service with many projects, cases and rounds; in ms."""
    from bench_large import measure_scale

    return _limited(measure_scale(size.quick))


def _limited(rows: list[Any]) -> list[Row]:
    return [Row(what, ours, bar, ours / bar, 1.0, True, note) for what, ours, bar, note in rows]


@benchmark("slicer")
def slicer_side(size: Size) -> list[Row]:
    """How long Slicer stands still between two slices."""
    from bench_slicer import measure

    return [
        Row(what, ours, naive, naive / ours, 1.0, note=note)
        for what, ours, naive, note in measure(size.quick)
    ]
