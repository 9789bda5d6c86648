"""What each option of fidelity changes in the batch, on one trained model: the table of
docs/fidelity.md.

    python3 Scripts/fidelity.py STUDY                  all strategies with published options
    python3 Scripts/fidelity.py STUDY usimc            only these strategies
    python3 Scripts/fidelity.py STUDY --samples 1500   part of the pool: quicker, and rougher

STUDY is the folder of a finished `alunet simulate`. Its initial model chooses the batch of round 1
again and again, one option changed each time; nothing is trained, and nothing of the study is
touched but its cache of scores. The first line of each strategy is the yardstick: the default
options with another seed. Run it where alunet is installed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import AlunetError
from alunet.loop import Recipe, RoundRecord
from alunet.loop.model_outputs import ComputedOutputs
from alunet.model.interface import load_framework
from alunet.project import Project
from alunet.query import Factors, Query, Streams, canonical, parse
from alunet.query.usim import Clock, UsimOptions, draw_query_set
from alunet.schema import ignore_events

# Neighbours share embeddings: what changes the heads comes last, what changes the Fisher samples
# after what does not.
_PASSES = ("dropout=0.01", "dropout=0.2", "passes=10")
_USIM = (
    "elbow=kneedle",
    "query_size=200",
    "query_size=1000000",
    "draw=uniform",
    "draw=max",
    "optimizer=stochastic",
    "eta=0",
    "eta=10",
    "eta=100",
    "measure=std",
    "weights=per-case",
    "smoothing=0",
    *_PASSES,
)
_HEADS = ("heads=full-res", "heads=all-equal", "published")
OPTIONS: dict[str, tuple[str, ...]] = {
    "mean-std": ("measure=var", *_PASSES, "published"),
    "bald": (*_PASSES, "published"),
    "stochastic-batches": ("groups=ceil", "measure=variance", "published"),
    "usimc": (*_USIM, "embedding=coordinates", "embedding=first-10k", *_HEADS),
    "usimf": ("damping=0", *_USIM, "fisher_set=query-set", "fisher=first-sample", *_HEADS),
}


class Kept:
    """Model outputs that remember the last embeddings of each kind, computed once for several
    options.
    """

    def __init__(self, outputs: ComputedOutputs) -> None:
        self._outputs = outputs
        self._kept: dict[str, tuple[Any, dict[int, int], list[np.ndarray]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outputs, name)

    def bottleneck(self, rows: np.ndarray, heads: str = "training") -> Factors:
        """As `ComputedOutputs.bottleneck`."""

        def compute(missing: np.ndarray) -> list[np.ndarray]:
            factors = self._outputs.bottleneck(missing, heads)
            return [factors.delta, factors.inputs]

        return Factors(*self._rows("bottleneck", heads, rows, compute))

    def decoder_gradients(
        self, rows: np.ndarray, coordinates: np.ndarray, heads: str = "training"
    ) -> np.ndarray:
        """As `ComputedOutputs.decoder_gradients`."""

        def compute(missing: np.ndarray) -> list[np.ndarray]:
            return [self._outputs.decoder_gradients(missing, coordinates, heads)]

        return self._rows("decoder", (heads, coordinates.tobytes()), rows, compute)[0]

    def _rows(
        self,
        kind: str,
        key: Any,
        rows: np.ndarray,
        compute: Callable[[np.ndarray], list[np.ndarray]],
    ) -> list[np.ndarray]:
        if kind not in self._kept or self._kept[kind][0] != key:
            self._kept[kind] = (key, {}, [])
        _, places, arrays = self._kept[kind]
        missing = np.array([row for row in rows.tolist() if row not in places], np.int64)
        if len(missing):
            found = compute(missing)
            first = len(places)
            places.update({row: first + number for number, row in enumerate(missing.tolist())})
            arrays[:] = (
                [np.concatenate(pair) for pair in zip(arrays, found, strict=True)]
                if arrays
                else found
            )
        chosen = np.array([places[row] for row in rows.tolist()], np.int64)
        return [array[chosen] for array in arrays]


def question(
    project: Project, cache: Path, seed: int, device: str, budget: int, samples: int | None
) -> Query:
    """The question of round 1, asked of the initial model, with the randomness of `seed`; of
    `samples` candidates.
    """
    record = RoundRecord.from_json(project.rounds.finished()[0].record)
    settings = Recipe.from_json(record.recipe).scoring
    pool, labelled, streams = project.pool, project.samples.labelled(), Streams(seed, 1)
    ids = np.flatnonzero(~labelled)
    if samples is not None and samples < len(ids):
        ids = np.sort(np.random.default_rng(0).choice(ids, samples, replace=False))
    weights = project.rounds_dir / "000" / "weights.pth"
    model = load_framework().open(project.nnunet_dir, weights, device, settings, ignore_events)
    outputs = ComputedOutputs(
        model, weights, pool, ids, np.flatnonzero(labelled), streams, settings, cache
    )
    voxels, sizes = project.annotations.case_voxels()
    return Query(
        ids=ids,
        budget=budget,
        case=pool.case[ids],
        outputs=Kept(outputs),
        class_voxels=project.annotations.class_voxels(),
        streams=streams,
        labels=tuple(project.labels),
        device=device,
        case_voxels=voxels,
        case_sizes=sizes,
    )


def uncertainty(text: str, query: Query) -> np.ndarray:
    """What the strategy ranks the candidates by, in their order; NaN where it ranks none."""
    strategy = parse(text)
    if isinstance(strategy.options, UsimOptions):
        return draw_query_set(query, strategy.options, Clock()).uncertainty
    if strategy.name == "stochastic-batches":
        return np.full(len(query), np.nan)
    # the largest scores: all but the least
    found = strategy.select(replace(query, budget=len(query) - 1))
    scores = np.full(len(query), found.gains.min())
    scores[np.searchsorted(query.ids, found.ids)] = found.gains
    return scores


def compare(name: str, query: Query, other: Query) -> Iterator[list[str]]:
    """One line for each option: the option, shared samples, rank correlation, size of the query
    set, seconds.
    """
    from scipy.stats import spearmanr

    usual, ranks = set(parse(name).select(query).ids.tolist()), uncertainty(name, query)
    lines = [("(another seed)", name, other)]
    lines += [(option, canonical(f"{name}:{option}"), query) for option in OPTIONS[name]]
    for option, text, asked in lines:
        start = time.perf_counter()
        batch = parse(text).select(asked)
        seconds = time.perf_counter() - start
        shared = len(usual & set(batch.ids.tolist()))
        correlation = spearmanr(ranks, uncertainty(text, asked)).statistic
        shown = "–" if np.isnan(correlation) else f"{correlation:.3f}"
        size = batch.diagnostics.get("query_size", "–")
        yield [
            name,
            f"`{option}`",
            f"{shared} of {query.budget}",
            shown,
            str(size),
            f"{seconds:.0f}",
        ]


def main(arguments: list[str]) -> int:
    """Print the table as Markdown, line by line, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument(
        "strategies", nargs="*", metavar="strategy", help=f"of {', '.join(OPTIONS)}; all without"
    )
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--samples", type=int, help="a random part of the pool only")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.strategies) - set(OPTIONS)
    if unknown:
        parser.error(f"no options to compare for {', '.join(sorted(unknown))}")
    root = chosen.study / "runs" / f"fold{chosen.fold}_seed{chosen.seed}" / "initial"
    try:
        with Project.open(root, read_only=True) as project:
            cache = chosen.study / "data" / "cache"
            both = [
                question(
                    project, cache, chosen.seed + more, chosen.device, chosen.budget, chosen.samples
                )
                for more in (0, 1)
            ]
            print(f"{len(both[0])} candidates\n")
            print(
                "| strategy | option | same samples as default | rank correlation | query set | "
                "seconds |"
            )
            print("| --- | --- | ---: | ---: | ---: | ---: |")
            for name in chosen.strategies or OPTIONS:
                for line in compare(name, *both):
                    print(f"| {' | '.join(line)} |", flush=True)
    except AlunetError as error:
        print(f"{error.message} {error.hint}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
