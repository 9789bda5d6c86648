"""Measure what a cheaper USIM query costs and how it changes the batch, on one trained model: the
table of docs/performance.md.

    python3 Scripts/query_cost.py STUDY --results docs/results/query_cost.csv
    python3 Scripts/query_cost.py STUDY usimc --samples 300 --budget 20 --seed 0 --seed 1

STUDY is the folder of a finished `alunet simulate`. Its initial model is asked for the batch of
round 1. The cost is counted in plain passes: CPU seconds on one thread over those of one pass of
the network without dropout over the same samples. The objective is FLQMI of the batch under the
query set and the similarities of the exact query, over that of the exact query's own batch. The
first line of each strategy is the yardstick, the exact query with another seed. A line that is in
the results already is left out, so a stopped run goes on. Run it where alunet is installed.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alunet.errors import AlunetError
from alunet.project import Project
from alunet.query import Query, parse
from alunet.query.flqmi import objective
from alunet.query.usim import Clock, UsimOptions, draw_query_set
from fidelity import question

EXACT = "passes=10"
ANOTHER_SEED = "(another seed)"
QUERIES = (
    ANOTHER_SEED,
    "passes=5",
    "measure=one-pass",
    "measure=one-pass,gradient_share=0.7",
    "thrifty",
    "measure=one-pass,gradient_share=0.3",
    f"{EXACT},gradient_share=0.5",
    "(random batch)",
)
OWN = {"usimf": ("thrifty,fisher_samples=50", "thrifty,fisher_samples=20")}
COLUMNS = (
    "study",
    "strategy",
    "query",
    "samples",
    "budget",
    "seed",
    "passes",
    "objective",
    "shared",
    "cost",
    "capability",
)


class Reference:
    """The exact query's own batch, query set and similarities to all candidates."""

    def __init__(self, name: str, query: Query) -> None:
        self.batch = parse(f"{name}:{EXACT}").select(query)
        options = parse(f"{name}:{EXACT}").options
        if not isinstance(options, UsimOptions):
            raise TypeError(f"{name} is no USIM strategy")
        self.target = draw_query_set(query, options, Clock())
        self.matrix = np.asarray(options.similarity(query, self.target, Clock())[0])
        self.query = query

    def objective(self, ids: Any) -> float:
        """FLQMI of the samples `ids`, as a share of that of the reference's batch."""
        return self._value(ids) / self._value(self.batch.ids)

    def _value(self, ids: Any) -> float:
        rows = np.searchsorted(self.query.ids, ids)
        return objective(self.matrix, rows, multiplicity=self.target.multiplicity)


def lines(
    study: Path, name: str, seed: int, done: set[tuple[str, ...]], chosen: argparse.Namespace
) -> Any:
    """Yield the rows of the table of one strategy and seed that are not done yet."""
    wanted = [
        query
        for query in (*QUERIES, *OWN.get(name, ()))
        if (study.name, name, query, str(chosen.samples), str(chosen.budget), str(seed)) not in done
    ]
    if not wanted:
        return
    root = study / "runs" / "fold0_seed0" / "initial"
    with (
        Project.open(root, read_only=True) as project,
        tempfile.TemporaryDirectory() as folder,
    ):
        asked = project, Path(folder), seed, "cpu", chosen.budget, chosen.samples
        query = question(*asked)
        one = _cpu_seconds(lambda: query.outputs.one_pass_variance())[1]
        reference = Reference(name, query)
        for text in wanted:
            # scores are kept on disk for all who share a model: here each pays for its own
            with tempfile.TemporaryDirectory() as fresh:
                changed = seed + 1000 if text == ANOTHER_SEED else seed
                other = question(project, Path(fresh), changed, *asked[3:])
                strategy = (
                    "random"
                    if text == "(random batch)"
                    else f"{name}:{EXACT if text == ANOTHER_SEED else text}"
                )
                batch, seconds = _cpu_seconds(lambda: parse(strategy).select(other))  # noqa: B023
            shared = len(set(batch.ids.tolist()) & set(reference.batch.ids.tolist()))
            yield (
                study.name,
                name,
                text,
                chosen.samples,
                chosen.budget,
                seed,
                round(seconds / one, 2),
                round(reference.objective(batch.ids), 4),
                round(shared / chosen.budget, 3),
                batch.diagnostics.get("cost", ""),
                torch.backends.cpu.get_cpu_capability(),
            )


def _cpu_seconds(function: Any) -> tuple[Any, float]:
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def main(arguments: list[str]) -> int:
    """Append the missing lines to the results and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("strategies", nargs="*", default=["usimf"], help="usimf, usimc")
    parser.add_argument("--results", type=Path, required=True, help="CSV file to append to")
    parser.add_argument("--samples", type=int, default=400, help="so many candidates")
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--seed", type=int, action="append", help="repeat it; without: 0")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    new = not chosen.results.is_file()
    done = set()
    if not new:
        with chosen.results.open(encoding="utf-8", newline="") as stream:
            done = {tuple(row[name] for name in COLUMNS[:6]) for row in csv.DictReader(stream)}
    try:
        with chosen.results.open("a", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if new:
                writer.writerow(COLUMNS)
            for name in chosen.strategies:
                for seed in chosen.seed or [0]:
                    for row in lines(chosen.study, name, seed, done, chosen):
                        writer.writerow(row)
                        stream.flush()
                        print(*row, sep="  ", flush=True)
    except AlunetError as error:
        print(f"{error.message} {error.hint}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
