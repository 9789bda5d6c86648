"""Measure the engine against the naive way of doing the same, and against what this computer can.

    python3 Scripts/bench.py                    all benchmarks of small slices, some minutes
    python3 Scripts/bench.py --quick            small sizes, to see that everything works
    python3 Scripts/bench.py flqmi model        only those whose name contains a word
    python3 Scripts/bench.py --scale ct         slices of 512 x 512
    python3 Scripts/bench.py --scale liver      the pool of the paper; needs 8 GiB, half an hour
    python3 Scripts/bench.py --list             what there is
    python3 Scripts/bench.py --json             for programs

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python3 Scripts/bench.py
                                                as on a processor that has no more than AVX2

Every figure is the least of at least three repetitions (of runs of minutes: of one), in CPU seconds
(user and system) on one thread; ratios compare runs of one process. The limit is what the
operations would take at the rate of a float32 matrix product, or the reading at that of memory,
both measured first. On a busy machine caches are shared and ratios move by a quarter: bars leave
room for that. The exit code is 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_registry import BENCHMARKS, SCALES, Benchmark, Row, Size, peak_memory

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are loaded
if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":  # which MKL does not read
    os.environ.setdefault("MKL_ENABLE_INSTRUCTIONS", "AVX2")

INSIDE = "ALUNET_BENCH_INSIDE"
_MODULES = ("selection", "similarity", "model", "query", "proposal", "fixed_costs", "waiting")


def main(arguments: list[str]) -> int:
    """Run the chosen benchmarks in the environment and print the table."""
    if INSIDE not in os.environ:
        return _inside_environment(arguments)
    for module in _MODULES:
        __import__(f"bench_{module}")
    options = _parser().parse_args(arguments)
    size = Size(options.scale, options.quick)
    chosen = [
        one
        for one in BENCHMARKS.values()
        if options.scale in one.scales
        and (not options.words or any(word in one.name for word in options.words))
    ]
    if options.child is not None:
        _measure(BENCHMARKS[options.words[0]], size, options.child)
        return 0
    if options.list:
        for one in BENCHMARKS.values():
            print(f"{one.name:20}{', '.join(one.scales)}")
        return 0
    if not chosen:
        print(f"There is no such benchmark at the scale '{options.scale}'. See --list.")
        return 2
    return _run(chosen, size, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only benchmarks whose name contains one of these")
    parser.add_argument("--scale", choices=SCALES, default=SCALES[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--list", action="store_true", help="name the benchmarks, run none")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser


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


def _run(chosen: list[Benchmark], size: Size, as_json: bool) -> int:
    from bench_machine import measure_machine

    machine = measure_machine()
    if machine.busy > 0.8:
        note = f"Note: this machine is busy (load {machine.busy:.1f} a core)"
        print(f"{note}; ratios are less certain.", file=sys.stderr)
    rows: list[tuple[Row, int]] = []
    failed = []
    for one in chosen:
        print(f"... {one.name}", file=sys.stderr, flush=True)
        found = _in_child(one, size)
        if found is None:
            failed.append(one.name)
        else:
            rows += [(row, found[1]) for row in found[0]]
    if as_json:
        entries = [
            {**asdict(row), "limit": machine.limit(row), "passed": row.passed, "peak_bytes": peak}
            for row, peak in rows
        ]
        print(json.dumps({"machine": asdict(machine), "rows": entries, "failed": failed}, indent=1))
    else:
        _show(rows, machine)
        for name in failed:
            print(f"{name} FAILED; its error is above.")
    return 0 if not failed and all(row.passed for row, _ in rows) else 1


def _in_child(one: Benchmark, size: Size) -> tuple[list[Row], int] | None:
    """The rows of a benchmark and its peak memory; None where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, __file__, one.name, "--scale", size.scale, "--child", str(out)]
        quick = ["--quick"] if size.quick else []
        done = subprocess.run([*command, *quick], stdout=sys.stderr)
        if done.returncode or not out.is_file():
            return None
        found = json.loads(out.read_text(encoding="utf-8"))
    return [Row(**row) for row in found["rows"]], found["peak"]


def _measure(one: Benchmark, size: Size, out: Path) -> None:
    """What the process of one benchmark does."""
    import torch

    torch.set_num_threads(1)
    rows = [asdict(row) for row in one.measure(size)]
    out.write_text(json.dumps({"rows": rows, "peak": peak_memory()}), encoding="utf-8")


def _show(rows: list[tuple[Row, int]], machine: Any) -> None:
    print(f"{machine.processor}; {machine.arithmetic}")
    rates = (
        f"{machine.gigaflops:.0f} GFLOP/s (float32 product), {machine.gigabytes:.1f} GB/s (read)"
    )
    print(f"One thread: {rates}; load {machine.busy:.1f} a core\n")
    table = [("what", "ours", "against", "ratio", "bar", "", "limit", "peak MiB", "")]
    for row, peak in rows:
        bar = "" if row.bar is None else f"{'<=' if row.at_most else '>='} {row.bar:g}"
        verdict = "" if row.bar is None else "ok" if row.passed else "MISSED"
        limit, own = machine.limit(row), row.ours if row.seconds is None else row.seconds
        share = "" if limit is None else f"{limit:.3g} s ({limit / own:.0%})"
        numbers = (f"{value:.4g}" for value in (row.ours, row.naive))
        memory = f"{peak >> 20}"
        table.append(
            (row.what, *numbers, f"{row.ratio:.3g}", bar, verdict, share, memory, row.note)
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    print(
        "\nCPU seconds on one thread; other units are named. Limit: of the time, its share of it."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
