"""What the labels that images come with are for: asked in a terminal, said elsewhere."""

from __future__ import annotations

import sys
from enum import Enum

import typer


class LabelPurpose(str, Enum):
    """What labels are for, see `alunet.project.cases`."""

    hidden = "hidden"
    train = "train"
    none = "none"


def ask(labelled: int) -> LabelPurpose:
    """Return what the labels of so many new cases are for, as a person at the terminal says;
    hidden where no person is there.
    """
    if not labelled or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return LabelPurpose.hidden
    typer.echo(f"{labelled} cases come with labels. Use them")
    typer.echo("  [h] hidden, to evaluate and simulate")
    typer.echo("  [t] as annotations to learn from")
    typer.echo("  [n] not at all")
    first = {use.value[0]: use for use in LabelPurpose}
    answer = ""
    while answer[:1] not in first:
        answer = str(typer.prompt("h, t or n", default="h")).strip().lower() or "h"
    return first[answer[0]]


def said(use: LabelPurpose, hidden: int, pending: int, command: str) -> list[str]:
    """Return what becomes of the labels, in lines.

    Args:
        hidden: new cases to learn from with labels, where nothing was said about these.
        pending: cases whose labels are to become annotations.
        command: that makes them so.
    """
    lines = []
    if use is LabelPurpose.hidden and hidden:
        lines.append(
            f"Labels of {hidden} cases are hidden, to evaluate and simulate. To learn from them, "
            "repeat this with --labels train."
        )
    if use is LabelPurpose.train and pending:
        lines.append(f"Labels of {pending} cases become annotations with: {command}")
    return lines
