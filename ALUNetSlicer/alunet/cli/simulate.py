"""`alunet simulate`: whole active-learning runs with a simulated annotator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alunet.cli.terminal import stop_on_terminate
from alunet.cli.training import PRESET

if TYPE_CHECKING:
    from rich.console import Console

    from alunet.imaging.patients import Guess
    from alunet.simulation.split import Group
    from alunet.simulation.study import SimulationResult

HELP = """Play whole active-learning runs on a labelled data set.

The labels are hidden from the strategies and revealed slice by slice, as an annotator would draw
them. For every fold and seed one initial set is drawn and one model trained on it; from there each
strategy goes its own way: choose slices, label them, train on, measure Dice on the test cases. The
folder --out gets curves.csv, rounds.csv, curves.png, curves.svg, and splits.json with the test
cases.

Stop it at any moment with Ctrl-C: the same command goes on where it was. The same command with more
strategies, rounds, folds or seeds adds them.

[bold]Two strategies[/bold], three rounds of 100 slices, nnU-Net's fold 0:

    alunet simulate Task04_Hippocampus --strategy usimf
           --strategy random --out study

[bold]Three seeds[/bold], two runs at a time, everything labelled as a reference:

    alunet simulate Task04_Hippocampus --strategy usimf
           --strategy random --strategy full
           --seed 0 --seed 1 --seed 2 --jobs 2 --out study

[bold]An option[/bold] of a strategy:

    alunet simulate Task04_Hippocampus --strategy usimf:eta=10
           --out study

[bold]As the code of the published experiments[/bold] chose and trained; it picks models on the test
cases:

    alunet simulate Task04_Hippocampus --strategy usimf
           --as-published --out study

[bold]Another data set[/bold], labelled too, as the test set:

    alunet simulate Hospital_A --test Hospital_B --strategy usimc
           --out study

[bold]Several cases of each patient[/bold], here end-diastole and end-systole, named
patient001_frame01 and so on: no patient is on both sides. A data set may say it itself, as "groups"
in dataset.json:

    alunet simulate ACDC --group "(patient\\d+)" --strategy usimf
           --out study

[bold]A quick look[/bold] at whether everything fits, with hardly any training:

    alunet simulate Task04_Hippocampus --strategy random --limit 10
           --rounds 1 --initial 20 --budget 20
           --epochs 1 --iterations 5 --out try
"""


def simulate(
    dataset: Annotated[
        Path,
        typer.Argument(metavar="DATASET", help="Labelled data set, in Decathlon or nnU-Net form."),
    ],
    strategy: Annotated[
        list[str],
        typer.Option(
            help="Strategy, with options as in usimf:eta=10; repeat it. See: alunet strategies"
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; new, or one to go on with.")],
    rounds: Annotated[int, typer.Option(help="Rounds after the initial one.")] = 3,
    budget: Annotated[int, typer.Option(help="Slices labelled in each round.")] = 100,
    initial: Annotated[
        int, typer.Option(help="Slices labelled at random before the first round.")
    ] = 100,
    fold: Annotated[
        list[int] | None,
        typer.Option(
            help="Fold, 0 to 4, of nnU-Net's five whose cases are the test set; repeat "
            "it. Without: 0."
        ),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of everything random; repeat it. Without: 0.")
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Labelled data set to test on instead of a fold; all of DATASET is the pool."
        ),
    ] = None,
    preset: PRESET = "cpu",
    mode: Annotated[
        str, typer.Option(help="finetune: train on from the round before; scratch: anew.")
    ] = "finetune",
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every training, instead of the preset's.")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Steps in an epoch, instead of the preset's.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    jobs: Annotated[
        int, typer.Option(help="Runs played at a time; they share the processor cores.")
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(help="Use the first so many cases only, for a quick look.")
    ] = None,
    as_published: Annotated[
        bool,
        typer.Option(
            "--as-published", help="Choose and train as the code of the published experiments did."
        ),
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Regular expression that captures the patient in a case name; none: each case is "
            "another patient.",
        ),
    ] = None,
    unit: Annotated[
        str,
        typer.Option(help="What is labelled at once: tile (the plan's patch) or slice (whole)."),
    ] = "tile",
) -> None:
    """Play active-learning runs; `HELP` is what `--help` shows."""
    from alunet.imaging.patients import PatientsUnclear
    from alunet.simulation.study import simulate as play

    stop_on_terminate()
    run = partial(
        play,
        dataset,
        out,
        strategy,
        rounds,
        budget,
        initial,
        tuple(fold or (0,)),
        tuple(seed or (0,)),
        test,
        preset,
        mode,
        epochs,
        iterations,
        device,
        jobs,
        limit,
        as_published=as_published,
        unit=unit,
    )
    try:
        result = _displayed(run, group)
    except PatientsUnclear as unclear:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        result = _displayed(run, _asked(unclear.guess))
    _show_result(result)


def _displayed(run: Callable[..., SimulationResult], group: Group | None) -> SimulationResult:
    from rich.console import Console

    from alunet.simulation.progress import display

    with display(Console(stderr=True)) as emit:
        return run(emit=emit, group=group)


def _asked(guess: Guess) -> Group:
    """How the cases group, as the person at the terminal says."""
    from alunet.imaging.patients import NONE

    several = [
        f"{patient} ({', '.join(cases)})"
        for patient, cases in guess.groups.items()
        if len(cases) > 1
    ]
    shown = ", ".join(several[:3]) + (", …" if len(several) > 3 else "")
    typer.echo(f"Several cases look like one patient ({guess.counts}): {shown}.", err=True)
    together = typer.confirm(
        "Keep the cases of each of these patients together?", default=True, err=True
    )
    group = (guess.pattern or guess.groups) if together else NONE
    if isinstance(group, str):
        typer.echo(f'To say so beforehand: --group "{group}"', err=True)
    return group


def _show_result(result: SimulationResult) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title="Mean foreground Dice on the test cases", title_justify="left")
    table.add_column("strategy", style="bold", no_wrap=True)
    for name in ("runs", "rounds", "labelled", "last Dice", "area under budget curve"):
        table.add_column(name, justify="right")
    for row in result.summary.itertuples():
        table.add_row(
            row.strategy,
            str(row.runs),
            str(row.round),
            f"{row.labelled_samples:,.0f}",
            _spread(row.dice_mean, row.dice_std),
            _spread(row.aubc_mean, row.aubc_std),
        )
    console.print(table)
    _show_other_metrics(console, result)
    if result.summary["runs"].max() > 1:
        console.print("Mean ± standard deviation over runs (folds and seeds).", style="dim")
    for path in (result.curves_csv, result.rounds_csv, result.splits_json, *result.pictures):
        console.print(str(path), markup=False, soft_wrap=True)


def _show_other_metrics(console: Console, result: SimulationResult) -> None:
    """A second table, where more than Dice was measured."""
    from rich.table import Table

    from alunet.model.metrics import DICE
    from alunet.simulation.tables import metrics_in

    shown = [metric for metric in metrics_in(result.curves) if metric.name != DICE]
    if not shown:
        return
    table = Table(
        "strategy",
        *(metric.heading for metric in shown),
        title="Other metrics",
        title_justify="left",
    )
    for row in result.summary.to_dict("records"):
        cells = (_spread(row[f"{metric.name}_mean"], row[f"{metric.name}_std"]) for metric in shown)
        table.add_row(row["strategy"], *cells)
    console.print(table)


def _spread(mean: float, deviation: float) -> str:
    if mean != mean:  # NaN: there is no such number for this strategy
        return "–"
    return f"{mean:.3f}" if deviation != deviation else f"{mean:.3f} ± {deviation:.3f}"
