"""The command `alunet`: the loop by hand, experiments, and helpers in a terminal.

Nothing heavy is imported before a command needs it, so that `alunet --help` answers at once.
"""

from __future__ import annotations

import copy
import gc
import os
import sys
import tempfile
import traceback
from typing import Annotated

import typer

import alunet
from alunet.cli import (
    agent,
    care,
    cases,
    images,
    outputs,
    project,
    rounds,
    serve,
    simulate,
    structure,
    tools,
)
from alunet.cli.terminal import flowing
from alunet.errors import AlunetError, Cancelled

_HELP = """Active learning for slice-wise annotation of 3D medical images with nnU-Net.

[bold]Try it[/bold] on a data set that alunet makes, in some minutes:

    alunet phantom phantom
    alunet simulate phantom --strategy random --strategy usimf
           --initial 20 --budget 20 --out study

[bold]Annotate yourself[/bold], in any tool that draws label images: "alunet status" always says
what comes next.

    alunet init liver --label liver --label tumour --channel CT
    alunet add liver my_scans
    alunet suggest liver --budget 20
    alunet annotate liver p7_labels.nii.gz --case p7
    alunet next-round liver
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
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and end."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an unexpected error.")
    ] = False,
) -> None:
    if debug:
        os.environ["ALUNET_DEBUG"] = "1"


_BY_HAND, _RESULTS, _CARE, _SERVICE, _TOOLS = (
    "The loop by hand",
    "Results",
    "Safe keeping",
    "For other programs",
    "Experiments and tools",
)
for _panel, _name, _run, _text in (
    (_BY_HAND, "init", project.init, project.INIT),
    (_BY_HAND, "add", project.add, project.ADD),
    (_BY_HAND, "plan", project.plan, project.PLAN),
    (_BY_HAND, "suggest", rounds.suggest, rounds.SUGGEST),
    (_BY_HAND, "annotate", rounds.annotate, rounds.ANNOTATE),
    (_BY_HAND, "skip", rounds.skip, rounds.SKIP),
    (_BY_HAND, "take-back", cases.take_back, cases.TAKE_BACK),
    (_BY_HAND, "next-round", rounds.next_round, rounds.NEXT_ROUND),
    (_BY_HAND, "status", project.status, project.STATUS),
    (_RESULTS, "predict", outputs.predict, outputs.PREDICT),
    (_RESULTS, "uncertainty", outputs.uncertainty, outputs.UNCERTAINTY),
    (_RESULTS, "export", outputs.export, outputs.EXPORT),
    (_CARE, "check", care.check, care.CHECK),
    (_CARE, "repair", care.repair, care.REPAIR),
    (_CARE, "backup", care.backup, care.BACKUP),
    (_CARE, "restore", care.restore, care.RESTORE),
    (_SERVICE, "serve", serve.serve, serve.HELP),
    (_SERVICE, "dicom-seg", images.dicom_seg, images.DICOM_SEG),
    (_TOOLS, "simulate", simulate.simulate, simulate.HELP),
    (_TOOLS, "strategies", tools.strategies, None),
    (_TOOLS, "devices", tools.devices, None),
    (_TOOLS, "phantom", tools.phantom, None),
    (_TOOLS, "folder", images.folder, images.FOLDER),
    (_TOOLS, "convert", images.convert, images.CONVERT),
):
    app.command(_name, help=_text and flowing(_text), rich_help_panel=_panel)(_run)
app.add_typer(structure.app, name="structure", rich_help_panel=_BY_HAND)
app.add_typer(cases.app, name="case", rich_help_panel=_BY_HAND)
app.command("agent", context_settings=agent.SETTINGS, rich_help_panel=_SERVICE)(agent.agent)


_COLLECTING = (50_000, 20, 20)
"""How rarely Python looks for garbage: by its own measure a command that imports and answers spends
a tenth of its time on that.
"""


def _asked() -> typer.Typer:
    """Return the app with the command that is asked for alone: typer builds all that it knows,
    which takes longer than a status.
    """
    name, only = sys.argv[1:2], copy.copy(app)
    only.registered_commands = [found for found in app.registered_commands if found.name in name]
    only.registered_groups = [found for found in app.registered_groups if found.name in name]
    return only if only.registered_commands or only.registered_groups else app


def main() -> int:
    """The console script: run a command and return its exit code; errors meant for people take
    one line.
    """
    gc.set_threshold(*_COLLECTING)
    try:
        ended = _asked()(prog_name="alunet", standalone_mode=False)
    except AlunetError as error:
        line = f"alunet: {error}" if not isinstance(error, Cancelled) else f"\nalunet: {error}"
        typer.echo(line, err=True)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):  # Typer makes the second of the first
        typer.echo("\nalunet: Stopped.", err=True)
        return Cancelled.exit_code
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except Exception as error:  # noqa: BLE001  the last line of defence: people get one line, the log gets the rest
        return _usage(error) if hasattr(error, "format_message") else _unexpected(error)
    finally:
        gc.freeze()  # at its end Python would look through everything once more
    return ended if isinstance(ended, int) else 0


def _usage(error: Exception) -> int:
    """A mistake in the words of the command, in one line. Typer keeps the classes of these
    errors to itself.
    """
    words, context = error.format_message(), getattr(error, "ctx", None)  # type: ignore[attr-defined]
    if words:  # none where nothing was given: then the help has been shown
        command = context.command_path if context is not None else "alunet"
        typer.echo(f"alunet: {' '.join(words.split())} See: {command} --help", err=True)
    return 2


def _unexpected(error: Exception) -> int:
    if os.environ.get("ALUNET_DEBUG"):
        traceback.print_exc()
        return 1
    from alunet.storage.failures import known_failure

    known = known_failure(error)
    if known is not None:
        typer.echo(f"alunet: {known}", err=True)
        return known.exit_code
    handle, name = tempfile.mkstemp(prefix="alunet-error-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        traceback.print_exc(file=log)
    words = f"{type(error).__name__}: {error}".splitlines()[0]
    typer.echo(
        f"alunet: unexpected error, a defect of alunet ({words}). The whole story is in {name}",
        err=True,
    )
    return 1
