"""`alunet case` and `alunet take-back`: what leaves a project, and comes back."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alunet.cli.opening import opened_to_read
from alunet.cli.project import PROJECT
from alunet.cli.rounds import CASE
from alunet.cli.terminal import flowing, person
from alunet.errors import InputError

if TYPE_CHECKING:
    from alunet.project import Project
    from alunet.project.case_changes import CaseRecord

_GROUP = """See, remove, restore and erase the cases of a project, or change what they are used for.

    alunet case list liver
    alunet case remove liver p7
"""

_LIST = """List all cases: what each is used for, how many samples are annotated, and which were
removed or erased, when and by whom.

    alunet case list liver

    alunet case list liver --json
"""

_REMOVE = """Remove cases: they are not suggested, learned from or evaluated on any more. All that
they have stays on disk, also their annotations, and comes back with "alunet case restore".

    alunet case remove liver p7 p8

Where the last model learned from a case, the next training starts anew, without it. To delete a
case for good, type: alunet case erase
"""

_RESTORE = """Take removed cases in again, with the annotations that they had.

    alunet case restore liver p7
"""

_ROLE = """Use cases to evaluate on ("test") or to learn from ("pool").

    alunet case role liver test p7 p8

    alunet case role liver pool p7

Annotations of a case to evaluate on count for nothing, and count again when it is used to learn
from; it is evaluated by its reference label. Where the last model learned from the case, the next
training starts anew, so that no model is measured on what it has seen. Results of earlier rounds
stay as they were measured; "alunet status" says from which round on the test set is another one.
"""

_ERASE = """Erase a case for good: images, reference, annotations with all versions, proposals,
preprocessed data, and exports in the project that hold it. A neutral name, the time and who did it
stay as a record. There is no way back.

    alunet case erase liver p7

    alunet case erase liver p7 --yes

[bold]Not reached[/bold]: backups, the folder that the case was added from, copies of the project,
and files that people downloaded or exported elsewhere; erase the case there, too. Models that
learned from it keep what they learned; the next training starts anew, without it. Adding the folder
again that it came from adds it again.
"""

TAKE_BACK = """Take annotations back: the slices are open again, and can be suggested. Every version
stays in the history, so that it can be undone.

    alunet take-back liver --case p7 --slice 12 --slice 13

    alunet take-back liver --case p7 --all-slices

    alunet take-back liver --case p7 --slice 12 --undo
"""

CASES = Annotated[list[str], typer.Argument(metavar="CASE…", help="Names of cases.")]
AUTHOR = Annotated[
    str,
    typer.Option(
        help="Who does it, for the record. Without: the name you are logged in by.",
        callback=person,
    ),
]

app = typer.Typer(
    help=flowing(_GROUP),
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list", help=flowing(_LIST))
def list_(
    project: PROJECT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the cases."""

    with opened_to_read(project) as opened:
        records = opened.case_changes.records()
    if as_json:
        typer.echo(json.dumps([asdict(own) for own in records], indent=1, ensure_ascii=False))
    else:
        _show(records)


@app.command(help=flowing(_REMOVE))
def remove(project: PROJECT, cases: CASES, author: AUTHOR = "") -> None:
    """Remove cases."""
    _change(project, cases, lambda opened, name: opened.case_changes.remove(name, _who(author)))


@app.command(help=flowing(_RESTORE))
def restore(project: PROJECT, cases: CASES, author: AUTHOR = "") -> None:
    """Take cases in again."""
    _change(project, cases, lambda opened, name: opened.case_changes.restore(name, _who(author)))


@app.command(help=flowing(_ROLE))
def role(
    project: PROJECT,
    role_: Annotated[str, typer.Argument(metavar="ROLE", help='"pool" or "test".')],
    cases: CASES,
    author: AUTHOR = "",
) -> None:
    """Change the role of cases."""
    _change(
        project,
        cases,
        lambda opened, name: opened.case_changes.set_role(name, role_, _who(author)),
    )


@app.command(help=flowing(_ERASE))
def erase(
    project: PROJECT,
    case: Annotated[str, typer.Argument(metavar="CASE", help="Name of the case.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, for scripts.")] = False,
    author: AUTHOR = "",
) -> None:
    """Erase a case for good."""
    from alunet.project import Project
    from alunet.serve.copies import forget_copies

    with Project.open(project) as opened:
        opened.cases.row(case)
        if not yes:
            _confirm(case)
        erased = opened.erasing.erase(
            case, _who(author), lambda uploads: forget_copies(opened.root.parent, uploads)
        )
        _follow(opened)
    typer.echo(" ".join(erased.says))


def take_back(
    project: PROJECT,
    case: CASE,
    slice_: Annotated[
        list[int] | None, typer.Option("--slice", help="The slice, all of it; repeat it.")
    ] = None,
    all_slices: Annotated[
        bool, typer.Option("--all-slices", help="All annotated slices of the case.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring back what was taken back.")] = False,
    author: AUTHOR = "",
) -> None:
    """Take annotations back; `TAKE_BACK` is what `--help` shows."""
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.project import Project

    with Project.open(project, shared=True) as opened:
        says = AnnotationLoop(opened).take_back(
            case, slice_ or [], all_slices=all_slices, undo=undo, author=_who(author)
        )
    typer.echo(" ".join(says))


def _change(project: Path, cases: list[str], change: Callable[[Project, str], list[str]]) -> None:
    """Change cases, all or none, and say what follows for each."""
    from alunet.project import Project

    with Project.open(project, shared=True) as opened:
        with opened.together():
            said = {name: change(opened, name) for name in cases}
        _follow(opened)
    for name, says in said.items():
        typer.echo(f"{name}: {' '.join(says)}")


def _follow(opened: Project) -> None:
    """Bring the printed worklist up to date."""
    from alunet.loop.annotation_loop import AnnotationLoop

    if opened.settings.annotation is not None:
        AnnotationLoop(opened).follow()


def _confirm(case: str) -> None:
    """Ask a person at a terminal; raises InputError where there is none, or for another answer."""
    if not sys.stdin.isatty():
        raise InputError(
            f"'{case}' would be erased for good, and no terminal can be asked.", "Add --yes."
        )
    if typer.prompt(f"Type the name of the case to erase it ({case})") != case:
        raise InputError("That is not its name, so nothing was erased.", "Type it again.")


def _who(author: str) -> str:
    if not author:
        with suppress(OSError, KeyError, ImportError):
            author = getpass.getuser()
    return author


def _show(records: list[CaseRecord]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "used for", "annotated", "since")
    use = {"pool": "learning", "test": "evaluation"}
    for own in records:
        since = ""
        if own.changed is not None:
            moment = datetime.fromtimestamp(own.changed).strftime("%Y-%m-%d %H:%M")
            since = f"{moment} by {own.changed_by}" if own.changed_by else moment
        words = use[own.role] if own.state == "present" else own.state
        table.add_row(own.name, words, str(own.annotated), since)
    width = None if sys.stdout.isatty() else 120
    Console(width=width, highlight=False, markup=False).print(table)
