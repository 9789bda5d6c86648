"""`alunet structure`: add, rename, recolor and remove structures of a project."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from alunet.cli.opening import opened_to_read
from alunet.cli.project import PROJECT
from alunet.cli.terminal import flowing, person
from alunet.errors import InputError

if TYPE_CHECKING:
    from alunet.project.changes import Change
    from alunet.project.structures import ProjectStructures

HELP = """Change what is segmented: list, add, rename, recolor and remove structures.

What is annotated keeps its meaning: each structure has a number of its own in the project, which
never changes and is never given again. The images are not preprocessed again, and the next training
goes on from the model's weights.

    alunet structure list liver

    alunet structure add liver vessel --earlier open

    alunet structure rename liver tumour tumor

    alunet structure recolor liver tumor "#e0a040"

    alunet structure remove liver cyst --voxels background
"""

LIST = """Show the structures with their numbers, values in label files, colors and voxels.

    alunet structure list liver

    alunet structure list liver --json
"""

ADD = """Add a structure. What is annotated so far says nothing of it, so say it.

[bold]--earlier open[/bold]: the background of slices annotated so far counts as not annotated, and
these slices come back into the worklist. What is drawn of other structures stays:

    alunet structure add liver vessel --earlier open

[bold]--earlier absent[/bold]: the new structure is in none of the slices annotated so far:

    alunet structure add liver clip --earlier absent --color "#40c0e0"

Reference labels of test cases say nothing of it either: on those that were added before, it is not
measured.
"""

RENAME = """Give a structure another name. Nothing else changes, also not in earlier rounds.

    alunet structure rename liver tumour tumor
"""

RECOLOR = """Give a structure a color, or with "usual" the usual one again.

    alunet structure recolor liver tumor "#e0a040"

    alunet structure recolor liver tumor usual
"""

REMOVE = """Remove a structure. Say what its drawn voxels become.

    alunet structure remove liver cyst --voxels background

[bold]Not annotated[/bold]: slices that show it come back into the worklist:

    alunet structure remove liver cyst --voxels open

[bold]Another structure[/bold]:

    alunet structure remove liver cyst --voxels tumor

Earlier versions of the labels stay in the history. Labels that still hold the structure and arrive
later are refused by its name.
"""

app = typer.Typer(
    help=flowing(HELP),
    rich_markup_mode="rich",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

NAME = Annotated[str, typer.Argument(metavar="NAME", help="Name of the structure.")]
AUTHOR = Annotated[str, typer.Option(help="Who changes it.", callback=person)]


class Earlier(str, Enum):
    """What slices annotated so far say of a new structure."""

    open = "open"
    absent = "absent"


def list_structures(
    project: PROJECT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the structures; `LIST` is what `--help` shows."""
    from rich.console import Console
    from rich.table import Table

    with opened_to_read(project) as opened:
        found = opened.structures.all()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
        return
    table = Table()
    for column in ("name", "number", "value in files", "color", "annotated voxels"):
        table.add_column(column, justify="left" if column in ("name", "color") else "right")
    for one in found:
        color = one.color or "usual"
        table.add_row(one.name, str(one.number), str(one.value), color, f"{one.voxels:,}")
    Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False).print(table)


def add(
    project: PROJECT,
    name: NAME,
    earlier: Annotated[
        Earlier | None,
        typer.Option(help="What slices annotated so far say of it: open, or absent."),
    ] = None,
    color: Annotated[str | None, typer.Option(help="Its color, #rrggbb.")] = None,
    author: AUTHOR = "annotator",
) -> None:
    """Add a structure; `ADD` is what `--help` shows."""
    from alunet.project.changes import Asked

    with _changing(project) as structures:
        said = None if earlier is None else earlier.value
        _say(structures.add(name, said, color, Asked(author)))


def rename(
    project: PROJECT,
    name: NAME,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    author: AUTHOR = "annotator",
) -> None:
    """Rename a structure; `RENAME` is what `--help` shows."""
    from alunet.project.changes import Asked

    with _changing(project) as structures:
        _say(structures.edit(name, new, asked=Asked(author)))


def recolor(
    project: PROJECT,
    name: NAME,
    color: Annotated[str, typer.Argument(metavar="COLOR", help="#rrggbb, or: usual.")],
    author: AUTHOR = "annotator",
) -> None:
    """Recolor a structure; `RECOLOR` is what `--help` shows."""
    from alunet.project.changes import Asked

    with _changing(project) as structures:
        _say(structures.edit(name, color="" if color == "usual" else color, asked=Asked(author)))


def remove(
    project: PROJECT,
    name: NAME,
    voxels: Annotated[
        str | None,
        typer.Option(
            metavar="background|open|NAME", help="What its voxels become, where any are drawn."
        ),
    ] = None,
    author: AUTHOR = "annotator",
) -> None:
    """Remove a structure; `REMOVE` is what `--help` shows."""
    from alunet.project.changes import Asked

    with _changing(project) as structures:
        _say(structures.remove(name, voxels, Asked(author)))


@contextmanager
def _changing(project: PROJECT) -> Iterator[ProjectStructures]:
    """The structures of a project; what only a person can say is asked for by its option."""
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.project import Project
    from alunet.project.changes import AnswerNeeded

    try:
        with Project.open(project) as opened:
            yield opened.structures
            AnnotationLoop(opened).structures_changed()
    except AnswerNeeded as error:
        words = [
            f"--{error.about} {f'{choice!r}' if ' ' in choice else choice} ({meaning})"
            for choice, meaning in error.choices.items()
        ]
        raise InputError(error.message, f"Add {', or '.join(words)}.") from error


def _say(change: Change) -> None:
    for note in change.notes:
        typer.echo(note)


for _name, _run, _text in (
    ("list", list_structures, LIST),
    ("add", add, ADD),
    ("rename", rename, RENAME),
    ("recolor", recolor, RECOLOR),
    ("remove", remove, REMOVE),
):
    app.command(_name, help=flowing(_text))(_run)
