"""The tables of a study: learning curves, costs of every step, and the summary.

A table is made from the manifests of the finished rounds alone, so that it can be rewritten at any
moment, and a study that was stopped in the middle has tables of what it finished.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alunet.model.metrics import DICE, MEAN, Metric, known
from alunet.proposals.effort import ASSUMED, Effort, TimeModel
from alunet.storage.files import atomic_path

INITIAL = "initial"
"""The name in `rounds.csv` of round 0, which all strategies of a fold and seed share."""

REFERENCE = "full"
"""The strategy that labels everything."""

KEYS = ["dataset", "strategy", "fold", "seed", "round"]
COSTS = ["labelled_samples", "labelled_slices", "labelled_voxels", "fraction"]
EFFORT = [
    "added_0",
    "added_1",
    "removed_0",
    "removed_1",
    "added_1_mm",
    "removed_1_mm",
    "voxels_changed",
    "accepted",
    "minutes",
]
"""What correcting cost so far, over all rounds (`alunet.proposals.effort`): path lengths, voxels,
the share of slices accepted unchanged, and minutes by the time model.
"""
CURVES = [*KEYS, *COSTS, *EFFORT, "label"]
DIAGNOSTICS = ["query_size", "elbow", "batch_uncertainty"]


@dataclass(frozen=True)
class RunRounds:
    """What is finished of one run: the manifests of its rounds, round 0 first."""

    fold: int
    seed: int
    strategy: str
    rounds: Sequence[Mapping[str, Any]]


def curves_table(
    dataset: str, runs: Iterable[RunRounds], times: TimeModel = ASSUMED
) -> pd.DataFrame:
    """Learning curves in tidy form, one row for each run, round and label; columns `CURVES` and one
    for each metric.

    Round 0 (the initial model) is repeated for every strategy; a metric is NaN where no test case
    has the label, and where an earlier version did not measure it; the rows with label `mean` hold
    the foreground mean.

    Args:
        times: seconds of the effort.
    """
    runs = list(runs)
    names = [name for run in runs for record in run.rounds for name in record["metrics"]]
    columns = [metric.name for metric in known([DICE, *names])]
    rows = [
        {
            "dataset": dataset,
            "strategy": run.strategy,
            "fold": run.fold,
            "seed": run.seed,
            "round": record["number"],
            **{cost: record[cost] for cost in COSTS},
            **effort,
            "label": label,
            **{name: _number(record["metrics"].get(name, {}).get(label)) for name in columns},
        }
        for run in runs
        for record, effort in zip(run.rounds, efforts_so_far(run.rounds, times), strict=True)
        for label in record["metrics"][DICE]
    ]
    return pd.DataFrame(rows, columns=[*CURVES, *columns])


def efforts_so_far(rounds: Sequence[Mapping[str, Any]], times: TimeModel) -> list[dict[str, float]]:
    """Return the columns `EFFORT` of each round of a run, all rounds before it included.

    NaN from the first round on whose effort was not measured.
    """
    found, sofar = [], Effort()
    known = True
    for record in rounds:
        known = known and record.get("effort") is not None
        if not known:
            found.append(dict.fromkeys(EFFORT, np.nan))
            continue
        sofar = sofar + Effort.from_json(record["effort"])
        paths = asdict(sofar.total)
        found.append(
            {
                **{name: paths[name] for name in EFFORT if name in paths},
                "voxels_changed": sofar.voxels,
                "accepted": sofar.accepted / sofar.slices if sofar.slices else np.nan,
                "minutes": times.seconds(sofar) / 60,
            }
        )
    return found


def metrics_in(curves: pd.DataFrame) -> list[Metric]:
    """The metrics of a table of `curves_table`, Dice first."""
    return known(column for column in curves.columns if column not in CURVES)


def rounds_table(dataset: str, runs: Iterable[RunRounds]) -> pd.DataFrame:
    """One row for each round: what the query looked like, and seconds and peak memory (MB) of each
    step.

    Round 0 stands once for each fold and seed, with the strategy `initial`, so that a sum over a
    column counts no work twice. Cells of steps that a strategy does not have are NaN.
    """
    rows: dict[tuple[int, int, str, int], dict[str, Any]] = {}
    steps: dict[str, None] = {}
    for run in runs:
        for record in run.rounds:
            strategy = run.strategy if record["number"] else INITIAL
            key = (run.fold, run.seed, strategy, record["number"])
            diagnostics = record.get("diagnostics") or {}
            rows[key] = {
                **dict(
                    zip(
                        KEYS, (dataset, strategy, run.fold, run.seed, record["number"]), strict=True
                    )
                ),
                **{name: _number(diagnostics.get(name)) for name in DIAGNOSTICS},
                **{_column("seconds", step): value for step, value in record["seconds"].items()},
                **{
                    _column("peak_memory_mb", step): value
                    for step, value in record["peak_memory_mb"].items()
                },
            }
            steps.update(dict.fromkeys([*record["seconds"], *record["peak_memory_mb"]]))
    measured = [_column(what, step) for what in ("seconds", "peak_memory_mb") for step in steps]
    return pd.DataFrame(list(rows.values()), columns=[*KEYS, *DIAGNOSTICS, *measured])


def _column(what: str, step: str) -> str:
    return f"{what}_{step}".replace(" ", "_")


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def area_under_budget_curve(budget: Sequence[float], dice: Sequence[float]) -> float:
    """AUBC: the trapezoid area under Dice over the budget, the budget scaled to 0..1; a constant c
    gives c.

    NaN with fewer than two points. Source: nnActive, `nnactive/analyze/metrics.py`.
    """
    x, y = np.asarray(budget, dtype=float), np.asarray(dice, dtype=float)
    if len(x) < 2 or x[-1] == x[0]:
        return float("nan")
    width = np.diff(x) / (x[-1] - x[0])
    return float(np.sum(width * (y[1:] + y[:-1]) / 2))


def comparable(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows of `curves` from which means over runs can be taken, while some runs are still
    behind.

    Of each strategy: the runs that have begun (all, where none has), up to the last round that all
    of them finished.
    """
    run = curves.groupby(["strategy", "fold", "seed"])["round"].transform("max")
    begun = curves[(run > 0) | (run.groupby(curves["strategy"]).transform("max") == 0)]
    last = run.loc[begun.index].groupby(begun["strategy"]).transform("min")
    return begun[begun["round"] <= last]


def summary_table(curves: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """One row for each strategy, best last Dice first: mean and standard deviation over its runs
    (folds x seeds).

    Columns: strategy, runs (that have begun), round (the last one that all of these finished),
    labelled_samples, dice_mean, dice_std, aubc_mean, aubc_std (of Dice), then mean and std of each
    other metric. Standard deviations are those of a sample (ddof 1), NaN for a single run. The
    `reference` has no budget curve, hence no AUBC, and stands last.
    """
    mean = comparable(curves[curves["label"] == MEAN]).sort_values("round")
    others = [metric.name for metric in metrics_in(curves) if metric.name != DICE]
    rows = [
        _summary_row(strategy, part, reference, others)
        for strategy, part in mean.groupby("strategy", sort=False)
    ]
    columns = [
        "strategy",
        "runs",
        "round",
        "labelled_samples",
        "dice_mean",
        "dice_std",
        "aubc_mean",
        "aubc_std",
    ]
    columns += [f"{name}_{what}" for name in others for what in ("mean", "std")]
    table = pd.DataFrame(rows, columns=columns)
    table["_last"] = table["strategy"] == reference
    table = table.sort_values(["_last", "dice_mean"], ascending=[True, False], kind="stable")
    return table.drop(columns="_last").reset_index(drop=True)


def _summary_row(
    strategy: str, part: pd.DataFrame, reference: str, others: Sequence[str]
) -> dict[str, Any]:
    last = int(part["round"].max())
    final = part[part["round"] == last]
    areas = [
        area_under_budget_curve(run["labelled_samples"], run["dice"])
        for _, run in part.groupby(["fold", "seed"])
    ]
    area = pd.Series([np.nan if strategy == reference else value for value in areas], dtype=float)
    return {
        "strategy": strategy,
        "runs": len(final),
        "round": last,
        "labelled_samples": final["labelled_samples"].mean(),
        "dice_mean": final["dice"].mean(),
        "dice_std": final["dice"].std(),
        "aubc_mean": area.mean(),
        "aubc_std": area.std(),
        **{f"{name}_mean": final[name].mean() for name in others},
        **{f"{name}_std": final[name].std() for name in others},
    }


def write_atomically(path: Path, content: bytes) -> bool:
    """Replace `path` as a whole; False where another program holds it open (a spreadsheet on
    Windows, say).
    """
    for pause in (0.2, 0.5, 0):
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
            return True
        except PermissionError:
            time.sleep(pause)
    return False


def write_csv(table: pd.DataFrame, path: Path) -> bool:
    """Write a table as UTF-8 CSV, atomically; False where the file could not be replaced."""
    text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return write_atomically(path, text.encode("utf-8"))
