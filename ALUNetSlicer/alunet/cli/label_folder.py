"""`alunet annotate PROJECT FOLDER`: labels of many cases that exist already."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alunet.errors import InputError

if TYPE_CHECKING:
    from alunet.imaging.label_file import Meaning
    from alunet.loop.label_folder import FolderTaken, Which
    from alunet.project import Project

_SOME = 5
_WHICH = (
    "Say what counts: --all-slices takes every slice of each file, --drawn-slices those in which "
    "something is drawn."
)


def annotate_folder(
    project: Path,
    folder: Path,
    which: Which,
    author: str | None,
    ignore: int | None,
    meaning: Meaning | None,
    single: Mapping[str, object],
) -> None:
    """Take the labels of a folder and say what was taken.

    Args:
        single: options for one file, which must not be given.
    """
    from alunet.cli.progress import at_work
    from alunet.cli.rounds import still_open
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.loop.labelling import IMPORTED
    from alunet.project import Project

    for option, value in single.items():
        if value not in (None, []):
            raise InputError(
                f"{option} is given, but {folder} is a folder.", f"Leave it out. {_WHICH}"
            )
    if which.all_slices and which.drawn_slices:
        raise InputError("--all-slices is given beside --drawn-slices.", "Give one or the other.")
    with at_work() as emit, Project.open(project) as opened:
        annotation = AnnotationLoop(opened, emit=emit)
        found = annotation.annotate_folder(
            folder, which, author=author or IMPORTED, ignore=ignore, meaning=meaning
        )
        worklist = annotation.worklist()
    if not (which.all_slices or which.drawn_slices or found.samples or found.unchanged):
        raise InputError(
            f"Nothing was taken: no slice of these {len(found.files)} cases is suggested now.",
            _WHICH,
        )
    _show(found)
    typer.echo(_summary(found) + still_open(worklist))


def _show(found: FolderTaken) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("case", "file", "taken", "as before", "kept", "left open", "open voxels"):
        table.add_column(column, justify="left" if column in ("case", "file") else "right")
    for each in found.files:
        numbers = [each.taken.slices, each.taken.unchanged, each.kept, each.taken.empty]
        voxels = f"{each.taken.open_voxels:,}" if each.taken.open_voxels else ""
        table.add_row(
            each.taken.case,
            each.file.name,
            *(str(len(own)) if own else "" for own in numbers),
            voxels,
        )
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    console.print(table)
    for note in dict.fromkeys(note for each in found.files for note in each.taken.notes):
        typer.echo(note)
    for left in found.left_out[:_SOME]:
        typer.echo(f"{left.file.name} was left out: {left.reason}.")
    if len(found.left_out) > _SOME:
        typer.echo(f"{len(found.left_out) - _SOME} more files were left out.")
    if found.without:
        some = ", ".join(found.without[:_SOME]) + (", …" if len(found.without) > _SOME else "")
        typer.echo(f"{len(found.without)} cases have no file: {some}.")


def _summary(found: FolderTaken) -> str:
    slices = sum(len(each.taken.slices) for each in found.files)
    cases = sum(bool(each.taken.slices) for each in found.files)
    words = f"{slices:,} slices of {cases} cases taken" if slices else "Nothing new taken"
    replaced = sum(each.taken.replaced for each in found.files)
    notes = [f"{replaced:,} labelled before and replaced"] if replaced else []
    notes += [f"{found.unchanged:,} slices as before"] if found.unchanged else []
    if found.kept:
        notes.append(f"{found.kept:,} are annotated otherwise and stay so (--replace takes these)")
    return "; ".join([words, *notes]) + "."


def case_of(project: Project, file: Path) -> str:
    """Return the case that a label file is called like.

    Raises:
        InputError: there is none.
    """
    from alunet.imaging.folders import named_like

    names = [case.name for case in project.cases.all()]
    found = named_like(file, names)
    if found is None:
        some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise InputError(
            f"No case is called like {file.name}.",
            f"Name it: --case CASE ({some})." if names else "Add images first.",
        )
    return found
