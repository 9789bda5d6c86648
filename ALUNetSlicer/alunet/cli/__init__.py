"""The command `alunet`: experiments and helpers in a terminal.

Nothing heavy is imported before a command needs it, so that `alunet --help` answers at once.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from typing import Annotated

import typer

import alunet
from alunet.cli import serve, simulate, tools
from alunet.cli.terminal import flowing
from alunet.errors import AlunetError, Cancelled

_HELP = """Active learning for slice-wise annotation of 3D medical images with nnU-Net.

[bold]Try it[/bold] on a data set that alunet makes, in some minutes:

    alunet phantom phantom
    alunet simulate phantom --strategy random --strategy usimf
           --initial 20 --budget 20 --out study
"""

app = typer.Typer(
    name="alunet",
    help=flowing(_HELP),
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


app.command(help=flowing(simulate.HELP))(simulate.simulate)
app.command(help=flowing(serve.HELP))(serve.serve)
app.command()(tools.strategies)
app.command()(tools.phantom)


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
