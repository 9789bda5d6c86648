"""The command `alunet`: experiments and helpers in a terminal.

Nothing heavy is imported before a command needs it, so that `alunet --help` answers at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import alunet
from alunet.errors import AlunetError, Cancelled

if TYPE_CHECKING:
    from alunet.simulation.study import SimulationResult

_HELP = """Active learning for slice-wise annotation of 3D medical images with nnU-Net.

[bold]Try it[/bold] on a data set that alunet makes, in some minutes:

    alunet phantom phantom
    alunet simulate phantom --strategy random --strategy usimf
           --initial 20 --budget 20 --out study
"""

_SIMULATE = """Play whole active-learning runs on a labelled data set.

The labels are hidden from the strategies and revealed slice by slice, as an annotator would draw them. For every
fold and seed one initial set is drawn and one model trained on it; from there each strategy goes its own way: choose
slices, label them, train on, measure Dice on the test cases. The folder --out gets curves.csv, rounds.csv, curves.png
and curves.svg.

Stop it at any moment with Ctrl-C: the same command goes on where it was. The same command with more strategies,
rounds, folds or seeds adds them.

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

[bold]Another data set[/bold], labelled too, as the test set:

    alunet simulate Hospital_A --test Hospital_B --strategy usimc
           --out study

[bold]A quick look[/bold] at whether everything fits, with hardly any training:

    alunet simulate Task04_Hippocampus --strategy random --limit 10
           --rounds 1 --initial 20 --budget 20
           --epochs 1 --iterations 5 --out try
"""


def _flowing(text: str) -> str:
    """Each paragraph on one line, so that it wraps as wide as the terminal is; indented examples stay as they are."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(part if part.startswith(" ") else part.replace("\n", " ") for part in paragraphs)


app = typer.Typer(
    name="alunet",
    help=_flowing(_HELP),
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"alunet {alunet.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an unexpected error.")] = False,
) -> None:
    if debug:
        os.environ["ALUNET_DEBUG"] = "1"


@app.command(help=_flowing(_SIMULATE))
def simulate(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Labelled data set, in Decathlon or nnU-Net form.")
    ],
    strategy: Annotated[
        list[str], typer.Option(help="Strategy, with options as in usimf:eta=10; repeat it. See: alunet strategies")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; new, or one to go on with.")],
    rounds: Annotated[int, typer.Option(help="Rounds after the initial one.")] = 3,
    budget: Annotated[int, typer.Option(help="Slices labelled in each round.")] = 100,
    initial: Annotated[int, typer.Option(help="Slices labelled at random before the first round.")] = 100,
    fold: Annotated[
        list[int] | None,
        typer.Option(help="Fold, 0 to 4, of nnU-Net's five whose cases are the test set; repeat it. Without: 0."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of everything random; repeat it. Without: 0.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Labelled data set to test on instead of a fold; all of DATASET is the pool.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Recipe: cpu (made for laptops) or paper (needs a GPU).")] = "cpu",
    mode: Annotated[str, typer.Option(help="finetune: train on from the round before; scratch: anew.")] = "finetune",
    epochs: Annotated[int | None, typer.Option(help="Epochs of every training, instead of the preset's.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Steps in an epoch, instead of the preset's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    jobs: Annotated[int, typer.Option(help="Runs played at a time; they share the processor cores.")] = 1,
    limit: Annotated[int | None, typer.Option(help="Use the first so many cases only, for a quick look.")] = None,
) -> None:
    """Play active-learning runs; `_SIMULATE` is what `--help` shows."""
    from rich.console import Console

    from alunet.simulation.progress import display
    from alunet.simulation.study import simulate as play

    _stop_on_terminate()
    with display(Console(stderr=True)) as emit:
        result = play(
            dataset, out, strategy, rounds, budget, initial, tuple(fold or (0,)), tuple(seed or (0,)), test,
            preset, mode, epochs, iterations, device, jobs, limit, emit,
        )  # fmt: skip
    _show_result(result)


@app.command()
def strategies(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the strategies: what each needs of the model, and where it comes from.

    Options are given after a colon, separated by commas: [bold]--strategy usimf:eta=10,elbow=kneedle[/bold]
    """
    from alunet.query import infos

    if as_json:
        typer.echo(json.dumps([_described(info) for info in infos()], indent=1, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_lines=True)
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it does", ratio=3)
    table.add_column("needs", ratio=2)
    table.add_column("source", ratio=2)
    table.add_column("options", ratio=2, style="dim")
    for info in infos():
        about = _described(info)
        options = "\n".join(f"{name}={value}" for name, value in about["options"].items())
        table.add_row(info.name, info.summary, ", ".join(about["needs"]) or "nothing", info.source, options)
    Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False).print(table)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; new or empty.")],
    cases: Annotated[int, typer.Option(help="How many cases.")] = 14,
    seed: Annotated[int, typer.Option(help="The same seed gives the same voxels.")] = 0,
) -> None:
    """Make a small labelled data set to try things on: a large organ, and a small lesion that is easily missed.

    [bold]Example:[/bold] alunet phantom demo/phantom
    """
    from alunet.simulation.phantom import make_phantom

    folder = make_phantom(out, cases=cases, seed=seed)
    typer.echo(f"{cases} cases in {folder}")


def _described(info: Any) -> dict[str, Any]:
    from alunet.query import parse

    return {
        "name": info.name,
        "title": info.title,
        "summary": info.summary,
        "needs": sorted(need.value for need in info.needs),
        "source": info.source,
        "options": parse(info.name).settings,
    }


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
            row.strategy, str(row.runs), str(row.round), f"{row.labelled_samples:,.0f}",
            _spread(row.dice_mean, row.dice_std), _spread(row.aubc_mean, row.aubc_std),
        )  # fmt: skip
    console.print(table)
    if result.summary["runs"].max() > 1:
        console.print("Mean ± standard deviation over runs (folds and seeds).", style="dim")
    for path in (result.curves_csv, result.rounds_csv, *result.pictures):
        console.print(str(path), markup=False, soft_wrap=True)


def _spread(mean: float, deviation: float) -> str:
    if mean != mean:  # NaN: there is no such number for this strategy
        return "–"
    return f"{mean:.3f}" if deviation != deviation else f"{mean:.3f} ± {deviation:.3f}"


def _stop_on_terminate() -> None:
    """Let a polite kill end a study as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def main() -> int:
    """The console script: run a command and return its exit code; errors meant for people take one line."""
    try:
        app(prog_name="alunet")
    except AlunetError as error:
        line = f"alunet: {error}" if not isinstance(error, Cancelled) else f"\nalunet: {error}"
        typer.echo(line, err=True)
        return error.exit_code
    except KeyboardInterrupt:
        typer.echo("\nalunet: Stopped.", err=True)
        return Cancelled.exit_code
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except Exception as error:  # noqa: BLE001  the last line of defence: people get one line, the log gets the rest
        return _unexpected(error)
    return 0


def _unexpected(error: Exception) -> int:
    if os.environ.get("ALUNET_DEBUG"):
        traceback.print_exc()
        return 1
    handle, name = tempfile.mkstemp(prefix="alunet-error-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        traceback.print_exc(file=log)
    words = f"{type(error).__name__}: {error}".splitlines()[0]
    typer.echo(f"alunet: unexpected error, a defect of alunet ({words}). The whole story is in {name}", err=True)
    return 1
