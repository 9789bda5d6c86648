"""What `alunet status` shows of a project."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from alunet.loop.status import ProjectOverview, RoundLine

_NOTES = 5


def show(found: ProjectOverview, command: str) -> None:
    """Show how a project stands, and the next command to type."""
    from rich.console import Console
    from rich.table import Table

    console = Console(
        width=None if sys.stdout.isatty() else 120, highlight=False, markup=False, soft_wrap=True
    )
    words = ", ".join(f"{value} {name}" for name, value in found.label_values.items())
    console.print(
        f"{found.project}: {words}; {', '.join(found.channels)}; preset {found.setup['preset']}"
    )
    unplanned = f", {len(found.unplanned)} not planned yet" if found.unplanned else ""
    removed = f", {len(found.removed)} removed" if found.removed else ""
    console.print(
        f"{len(found.cases)} cases, {len(found.test_cases)} to evaluate on{removed}{unplanned}"
    )
    if found.pool:
        console.print(
            f"{found.labelled:,} of {found.pool:,} samples labelled ({found.slices} slices), "
            f"{found.open} open, "
            f"{found.skipped} skipped, {found.minutes:g} minutes spent"
        )
    if found.open_voxels:
        console.print(f"{found.open_voxels:,} voxels of the labelled samples are left open")
    for case, voxels in list(found.unseen_voxels.items())[:_NOTES]:
        console.print(f"{case}: no training sees {voxels:,} drawn voxels, its image is 0 there")
    _show_notes(console, [note for notes in found.notes.values() for note in notes])
    if found.rounds:
        table = Table()
        for column in (
            "round",
            "state",
            "strategy",
            "suggested",
            "labelled",
            "Dice",
            "on",
            "trained",
        ):
            table.add_column(
                column, justify="left" if column in ("state", "strategy", "on") else "right"
            )
        for line in found.rounds:
            dice = "" if line.dice is None else f"{line.dice:.3f}"
            table.add_row(
                str(line.number),
                line.state,
                line.strategy,
                str(line.suggested),
                str(line.labelled),
                dice,
                line.dice_on or "",
                _trained(line),
            )
        console.print(table)
        _show_other_metrics(console, found.rounds)
        for line in found.rounds:
            if line.note:
                console.print(f"Round {line.number}: {line.note}")
    for said in [*_ahead(found), f"Next: {command}"]:
        console.print(said)


def _ahead(found: ProjectOverview) -> list[str]:
    """Say what the next round will take, and how it would take less."""
    from alunet.schema.durations import duration

    lines, forecast = [], found.forecast
    if found.train_for is not None:
        lines.append(f"Training: about {duration(found.train_for)} a round")
    if forecast is None:
        return lines
    lines += [f"Next round: {forecast.words()}"]
    if forecast.shorter():
        lines.append(f"Shorter: {forecast.shorter()}: --strategy {forecast.quicker}")
    if forecast.training > forecast.total / 2:
        lines.append("Shorter: a training of another length: --train-for")
    return lines


def _show_notes(console: Console, notes: Sequence[str]) -> None:
    """What was said of the files, the first of it."""
    for note in notes[:_NOTES]:
        console.print(f"Note: {note}")
    if len(notes) > _NOTES:
        console.print(f"{len(notes) - _NOTES} more notes: --json has them all")


def _show_other_metrics(console: Console, rounds: Sequence[RoundLine]) -> None:
    """A second table, where more than Dice was measured."""
    from rich.table import Table

    from alunet.model.metrics import DICE, known

    shown = [
        metric
        for metric in known(name for line in rounds for name in line.metrics)
        if metric.name != DICE
    ]
    if not shown:
        return
    table = Table("round", *(metric.heading for metric in shown))
    for line in rounds:
        values = [line.metrics.get(metric.name) for metric in shown]
        table.add_row(
            str(line.number), *("" if value is None else f"{value:.3f}" for value in values)
        )
    console.print(table)


def _trained(line: RoundLine) -> str:
    """How long the training of a round took."""
    from alunet.schema.durations import duration

    if line.train_seconds is None:
        return ""
    return duration(line.train_seconds) + (f", {line.steps:,} steps" if line.steps else "")
