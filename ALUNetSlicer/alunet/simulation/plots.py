"""The picture of a study: learning curves of all strategies."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from alunet.model.metrics import DICE, MEAN, Metric, known
from alunet.simulation.tables import REFERENCE, comparable, metrics_in, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLES, MINUTES = "labelled_samples", "minutes"
"""Columns of the curves that can be along x."""
EFFORT = "effort"
"""The name of the picture of Dice over the effort."""

STYLES: dict[str, tuple[str, str]] = {
    "random": ("#7a7a7a", "o"),
    "random-fg33": ("#56b4e9", "v"),
    "random-fg66": ("#0072b2", "^"),
    "entropy": ("#e69f00", "s"),
    "mean-std": ("#999933", "h"),
    "bald": ("#882255", ">"),
    "core-set": ("#332288", "<"),
    "badge-ll": ("#117733", "p"),
    "stochastic-batches": ("#44aa99", "*"),
    "usimc": ("#009e73", "D"),
    "usimf": ("#d55e00", "P"),
}
"""Colour and marker of each strategy, the same in every picture. Okabe and Ito's colours, then
Tol's, told apart by colour-blind people; the markers tell them apart in print."""

SPARE: list[tuple[str, str]] = [
    ("#cc79a7", "X"),
    ("#ddaa33", "d"),
    ("#aa4499", "H"),
    ("#88ccee", "8"),
    ("#661100", "1"),
    ("#6699cc", "2"),
]
"""For strategies (and variants with options) that have no style of their own, in order of their
names.
"""

INK, FAINT = "#222222", "#d9d9d9"


def styles(strategies: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker for each strategy, independent of the order in which they are given."""
    others = sorted(set(strategies) - STYLES.keys() - {REFERENCE})
    return STYLES | {name: SPARE[index % len(SPARE)] for index, name in enumerate(others)}


def pictures(curves: pd.DataFrame, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Metric -> where it is drawn: `curves.png` and `curves.svg` of Dice, the like of each other
    with values; `EFFORT`: of Dice over the effort, where that was measured.
    """
    others = [
        metric.name
        for metric in metrics_in(curves)
        if metric.name != DICE and curves[metric.name].notna().any()
    ]
    stems = {DICE: "curves", **{name: f"curves_{name}" for name in others}}
    if MINUTES in curves and curves[MINUTES].notna().any():
        stems[EFFORT] = "curves_effort"
    return {name: (folder / f"{stem}.png", folder / f"{stem}.svg") for name, stem in stems.items()}


def plot_curves(curves: pd.DataFrame, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Draw the `pictures` into `folder` from the table of `tables.curves_table`.

    The foreground mean of a metric over labeled slices; a line is the mean over runs (folds x
    seeds), the band reaches from the worst to the best run. `full`, the model trained on all
    labels, is a dashed line across.
    """
    drawn = pictures(curves, folder)
    for metric, paths in drawn.items():
        over = MINUTES if metric == EFFORT else SAMPLES
        figure = draw_curves(curves, DICE if metric == EFFORT else metric, over)
        for path in paths:
            buffer = io.BytesIO()
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(buffer, format=path.suffix[1:], dpi=160, metadata=metadata)
            write_atomically(path, buffer.getvalue())
    return drawn


def draw_curves(curves: pd.DataFrame, metric: str = DICE, over: str = SAMPLES) -> Figure:
    """The figure of a metric, for a notebook or for other formats.

    Args:
        over: column of `curves` along x: `SAMPLES` or `MINUTES`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = known([metric])[0]
    shown_rows = (curves["label"] == MEAN) & curves[metric].notna()
    if over != SAMPLES:
        shown_rows &= curves[over].notna() | (curves["strategy"] == REFERENCE)
    mean = comparable(curves[shown_rows])
    figure = Figure(figsize=(8.6, 4.8), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    order = _best_first(mean, shown)
    style = styles(order)
    for depth, strategy in enumerate(reversed(order)):
        _draw_strategy(
            axes,
            mean[mean["strategy"] == strategy],
            (over, metric),
            strategy,
            style[strategy],
            depth,
        )
    _draw_reference(axes, mean[mean["strategy"] == REFERENCE], metric)
    _dress(axes, mean, over)
    axes.set_ylabel(f"Mean foreground {shown.heading} on the test cases", fontsize=11, color=INK)
    _legend(axes, mean, order)
    return figure


def _best_first(mean: pd.DataFrame, metric: Metric) -> list[str]:
    """The strategies, best last value first, so that the legend reads in the order of the lines'
    ends.
    """
    part = mean[mean["strategy"] != REFERENCE]
    last = part[part["round"] == part.groupby("strategy")["round"].transform("max")]
    means = last.groupby("strategy")[metric.name].mean()
    return list(means.sort_values(ascending=not metric.larger_is_better, kind="stable").index)


def _draw_strategy(
    axes: Axes,
    part: pd.DataFrame,
    columns: tuple[str, str],
    name: str,
    style: tuple[str, str],
    depth: int,
) -> None:
    """Draw the columns along x and y of one strategy."""
    rounds = part.groupby("round")
    samples, values = rounds[columns[0]].mean(), rounds[columns[1]]
    colour, marker = style
    if rounds.size().max() > 1:
        axes.fill_between(
            samples, values.min(), values.max(), color=colour, alpha=0.13, linewidth=0, zorder=2
        )
    axes.plot(
        samples,
        values.mean(),
        color=colour,
        marker=marker,
        label=name,
        linewidth=2,
        markersize=7,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=3 + depth / 100,
        clip_on=False,
    )


def _draw_reference(axes: Axes, part: pd.DataFrame, metric: str) -> None:
    final = part[part["round"] > 0]
    if final.empty:
        return
    final = final[final["round"] == final["round"].max()]
    count = f"{final['labelled_samples'].mean():,.0f}"
    axes.axhline(
        final[metric].mean(),
        color=INK,
        linestyle=(0, (6, 3)),
        linewidth=1.5,
        zorder=2.5,
        label=f"{REFERENCE} (all {count} labelled)",
    )


def _dress(axes: Axes, mean: pd.DataFrame, over: str) -> None:
    dataset = mean["dataset"].iloc[0] if len(mean) else ""
    axes.set_title(f"Learning curves: {dataset}", loc="left", fontsize=13, color=INK, pad=12)
    whole = (mean["labelled_samples"] == mean["labelled_slices"]).all()
    samples = "Labelled slices" if whole else "Labelled samples (tiles of slices)"
    minutes = "Estimated minutes of correcting proposals"
    axes.set_xlabel(samples if over == SAMPLES else minutes, fontsize=11, color=INK)
    axes.margins(y=0.08)
    axes.grid(axis="y", color=FAINT, linewidth=0.8, zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#8a8a8a")
    axes.tick_params(colors="#444444", labelsize=10)
    if over != SAMPLES:
        return
    points = mean[mean["strategy"] != REFERENCE]
    ticks = sorted(points.groupby("round")["labelled_samples"].mean().round())
    if 0 < len(ticks) <= 12:
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        _share_of_pool(axes, points)


def _share_of_pool(axes: Axes, points: pd.DataFrame) -> None:
    """A second scale at the top: the labelled share of the pool in percent."""
    pool = (points["labelled_samples"] / points["fraction"]).mean()
    top = axes.secondary_xaxis(
        "top", functions=(lambda x: 100 * x / pool, lambda x: x * pool / 100)
    )
    top.set_xlabel("Share of the pool (%)", fontsize=9, color="#666666")
    top.tick_params(colors="#666666", labelsize=9, length=2)
    top.spines["top"].set_visible(False)


def _legend(axes: Axes, mean: pd.DataFrame, order: list[str]) -> None:
    runs = mean.groupby("strategy")[["fold", "seed"]].apply(
        lambda part: len(part.drop_duplicates())
    )
    if not len(runs):
        title = "nothing finished yet"
    elif runs.max() == 1:
        title = "one run each"
    else:
        count = f"{runs.min()}" if runs.min() == runs.max() else f"{runs.min()} to {runs.max()}"
        title = f"mean of {count} runs,\nband: worst to best run"
    handles, labels = axes.get_legend_handles_labels()
    place = {label: index for index, label in enumerate(order)}
    pairs = sorted(zip(labels, handles, strict=True), key=lambda pair: place.get(pair[0], -1))
    legend = axes.legend(
        [handle for _, handle in pairs],
        [label for label, _ in pairs],
        title=title,
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        frameon=False,
        fontsize=10,
        title_fontsize=9,
        alignment="left",
        handlelength=2.6,
    )
    legend.get_title().set_color("#666666")
