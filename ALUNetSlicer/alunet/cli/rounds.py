"""`alunet suggest`, `annotate`, `skip`, `next-round`: the loop by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alunet.cli.project import PROJECT, next_command
from alunet.cli.terminal import person
from alunet.cli.training import optional_seconds, train_for_option
from alunet.errors import InputError

if TYPE_CHECKING:
    from alunet.loop.labelling import Taken
    from alunet.loop.worklist import Item, RoundWorklist

SUGGEST = """Suggest which slices to annotate, and write the list to the project:
PROJECT/rounds/NNN/worklist.json.

Slices are voxel indices along the slice axis of the image file, from 0. Where there is a model, its
proposal for each of them is beside the list, to correct instead of drawing anew. The same command
again shows the same list.

    alunet suggest liver

    alunet suggest liver --strategy usimc --budget 20
"""

ANNOTATE = """Take labels that you drew, in any tool: of a slice, a case, or a folder of cases.

[bold]A label image of the whole case[/bold], on exactly the grid of the image: what is suggested of
this case is taken, the rest is left alone, because a slice that no one has looked at is no
background. A file that says what its values mean is read by that: the segments of a .seg.nrrd file,
a dataset.json beside it, label descriptions of ITK-SNAP. Else they are the values that "alunet
status" names.

    alunet annotate liver p7.nii.gz --case p7

[bold]Other slices[/bold] of it, also to replace earlier labels, or everything:

    alunet annotate liver p7.nii.gz --case p7 --slice 12 --slice 40

    alunet annotate liver p7.nii.gz --case p7 --all-slices

[bold]A label image of one slice[/bold]:

    alunet annotate liver slice12.png --case p7 --slice 12 --seconds 45

[bold]A folder of labels that exist already[/bold], each called like its case (p7.nii.gz,
p7-seg.nrrd), or a data set with labelsTr. Say what counts: every slice of each file, also where
nothing is drawn, or only the slices in which something is drawn; else what is suggested. All files
are checked before any is taken. Slices that are annotated otherwise stay as they are, unless you
--replace them:

    alunet annotate liver labelsTr --all-slices

    alunet annotate liver drawn_by_anna --drawn-slices --author Anna
"""

SKIP = """Never suggest slices again, or take that back. Annotating a skipped slice takes it back
too.

    alunet skip liver --case p7 --slice 3 --slice 4

    alunet skip liver --case p7 --slice 3 --undo
"""

NEXT_ROUND = """Train on all labels so far, evaluate on the test cases where there are any, and
suggest the next slices.

What was suggested and is still open goes back to the pool. It says first about how long it will
take, and "alunet status" does so before. Stop it at any moment with Ctrl-C: the
same command goes on where it was.

    alunet next-round liver

    alunet next-round liver --strategy usimf:eta=10 --budget 50

[bold]Train longer or shorter[/bold] this time. A training that was stopped goes on at the length
that it was begun with; another time begins it anew:

    alunet next-round liver --train-for 20m
"""

STRATEGY = Annotated[
    str | None,
    typer.Option(
        help="Strategy; see: alunet strategies. Without: as before; spread at first, then usimf."
    ),
]
BUDGET = Annotated[
    int | None, typer.Option(help="Samples to suggest. Without: as before; 100 at first.")
]
AHEAD = Annotated[
    int,
    typer.Option(
        help="Samples to suggest behind these, to annotate through the service "
        "while the model trains."
    ),
]
DEVICE = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or mps. Without: as chosen with init.")
]
CASE = Annotated[str, typer.Option(help="Name of the case.")]


def suggest(
    project: PROJECT,
    strategy: STRATEGY = None,
    budget: BUDGET = None,
    ahead: AHEAD = 0,
    device: DEVICE = None,
) -> None:
    """Suggest slices; `SUGGEST` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.project import Project

    with at_work() as emit, Project.open(project) as opened:
        worklist = AnnotationLoop(opened, device=device, emit=emit).suggest(strategy, budget, ahead)
    _show(project, worklist)


def annotate(
    project: PROJECT,
    label_image: Annotated[
        Path,
        typer.Argument(
            metavar="LABEL_IMAGE_OR_FOLDER",
            help="Labels of a case, of one slice, or a folder with those of many cases.",
        ),
    ],
    case: Annotated[
        str | None, typer.Option(help="Name of the case. Without: that of the file.")
    ] = None,
    slice_: Annotated[
        list[int] | None, typer.Option("--slice", help="Take this slice, all of it; repeat it.")
    ] = None,
    all_slices: Annotated[
        bool, typer.Option("--all-slices", help="Take every slice, also where nothing is drawn.")
    ] = False,
    drawn_slices: Annotated[
        bool, typer.Option("--drawn-slices", help="Take the slices in which something is drawn.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Of a folder: also where a slice is annotated otherwise."),
    ] = False,
    author: Annotated[
        str | None,
        typer.Option(
            help="Who drew it. Without: annotator; of a folder: imported.", callback=person
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Time it took.")] = None,
    ignore_value: Annotated[
        int | None, typer.Option(help="Value in the file that marks voxels left open.")
    ] = None,
    described_by: Annotated[
        Path | None,
        typer.Option(help="dataset.json or label descriptions of ITK-SNAP for the file."),
    ] = None,
) -> None:
    """Take labels; `ANNOTATE` is what `--help` shows."""
    from alunet.cli.label_folder import annotate_folder, case_of
    from alunet.imaging.label_file import read_description
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.loop.label_folder import Which
    from alunet.project import Project

    meaning = None if described_by is None else read_description(described_by)
    if label_image.is_dir():
        which = Which(all_slices, drawn_slices, replace)
        single = {"--case": case, "--slice": slice_, "--seconds": seconds}
        annotate_folder(project, label_image, which, author, ignore_value, meaning, single)
        return
    if replace:
        raise InputError(
            f"--replace is for a folder, and {label_image} is none.",
            "What --slice, --all-slices or --drawn-slices take of a file replaces earlier labels.",
        )
    with Project.open(project) as opened:
        annotation = AnnotationLoop(opened)
        taken = annotation.annotate(
            case or case_of(opened, label_image),
            label_image,
            slices=slice_ or [],
            all_slices=all_slices,
            drawn_slices=drawn_slices,
            author=author or "annotator",
            seconds=seconds,
            ignore=ignore_value,
            meaning=meaning,
        )
        worklist = annotation.worklist()
    typer.echo(_taken(taken) + still_open(worklist))


def still_open(worklist: RoundWorklist | None) -> str:
    """How much of the open batch is left, in words behind a sentence."""
    if worklist is None:
        return ""
    return f" {len(worklist.open())} of {len(worklist.items)} suggested are still open."


def skip(
    project: PROJECT,
    case: CASE,
    slice_: Annotated[list[int], typer.Option("--slice", help="The slice; repeat it.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let it be suggested again.")] = False,
) -> None:
    """Skip slices; `SKIP` is what `--help` shows."""
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.project import Project

    with Project.open(project) as opened:
        AnnotationLoop(opened).skip(case, slice_, undo=undo)
    state = "can be suggested again" if undo else "will not be suggested again"
    typer.echo(f"{case}: {slices_in_words(slice_)} {state}.")


def next_round(
    project: PROJECT,
    strategy: STRATEGY = None,
    budget: BUDGET = None,
    ahead: AHEAD = 0,
    train_for: Annotated[str | None, train_for_option("as chosen with init")] = None,
    device: DEVICE = None,
) -> None:
    """Train and suggest; `NEXT_ROUND` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.model.metrics import known
    from alunet.project import Project
    from alunet.schema import Event
    from alunet.schema.durations import duration

    seconds = optional_seconds(train_for)
    with at_work() as emit, Project.open(project) as opened:
        annotation = AnnotationLoop(opened, device=device, emit=emit)
        if seconds is not None:
            annotation.train_for(seconds)
        expected = annotation.forecast(strategy, budget)
        if expected is not None and opened.rounds.touched():
            emit(Event("message", {"text": f"This round will take {expected.words()}."}))
        done = annotation.next_round(strategy, budget, ahead)
    if done.record is None:
        typer.echo("Nothing new is annotated, so no model was trained.")
    else:
        means = [(metric, done.record.mean(metric.name)) for metric in known(done.record.metrics)]
        words = [metric.words(mean) for metric, mean in means if mean is not None]
        measured = f", {', '.join(words)} on the test cases" if words else ""
        back = f"; {done.released} that stayed open went back to the pool" if done.released else ""
        took = (
            ""
            if done.record.train_seconds is None
            else f" in {duration(done.record.train_seconds)}"
        )
        learned = (
            f"Round {done.record.number} learned from {done.record.labelled_samples} samples{took}"
        )
        typer.echo(f"{learned}{measured}{back}.")
    if done.worklist is None:
        typer.echo(
            f"Every sample is annotated or skipped. Next: {next_command(str(project), 'export')}"
        )
    else:
        _show(project, done.worklist)


def _taken(taken: Taken) -> str:
    what = slices_in_words(taken.slices) if taken.samples else "nothing new"
    if taken.in_parts and taken.samples:
        what += " (only the suggested parts of them; --slice takes whole slices)"
    elif len(taken.samples) > len(taken.slices):
        what += f" ({len(taken.samples)} samples: all tiles of each)"
    notes = [f"{taken.replaced} labelled before and replaced"] if taken.replaced else []
    notes += [f"{slices_in_words(taken.unchanged)} as before"] if taken.unchanged else []
    notes += (
        [f"{slices_in_words(taken.empty)} left open, because nothing is drawn there"]
        if taken.empty
        else []
    )
    notes += [f"{taken.open_voxels:,} voxels stay open"] if taken.open_voxels else []
    if taken.unseen_voxels:
        kept = "are where the image is 0: kept, but no training sees them"
        notes.append(f"{taken.unseen_voxels:,} drawn voxels {kept}")
    return " ".join([*taken.notes, "; ".join([f"{taken.case}: {what} taken", *notes]) + "."])


def slices_in_words(slices: list[int] | tuple[int, ...]) -> str:
    """Slices in words; long lists shortened."""
    if len(slices) > 12:
        return f"{len(slices)} slices from {min(slices)} to {max(slices)}"
    return f"slice{'s' if len(slices) > 1 else ''} {', '.join(map(str, slices))}"


def _show(project: Path, worklist: RoundWorklist) -> None:
    from rich.console import Console
    from rich.table import Table

    in_parts = any(item.in_parts for item in worklist.items)
    table = Table()
    for column in (
        "#",
        "case",
        "slice",
        *(["part"] if in_parts else []),
        "proposal",
        "status",
        "why",
    ):
        table.add_column(
            column, justify="right" if column in ("#", "slice") else "left", no_wrap=column != "why"
        )
    for item in worklist.items:
        table.add_row(
            str(item.rank),
            item.case,
            str(item.slice),
            *([_part(item)] if in_parts else []),
            "yes" if item.proposal else "no",
            _status(item),
            item.reason,
        )
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    console.print(table)
    cases = len({item.case for item in worklist.items})
    typer.echo(
        f"Round {worklist.number}: {_number(worklist)} in {cases} cases by {worklist.strategy}, "
        f"{len(worklist.open())} open. Also in "
        f"{project / worklist.file.relative_to(project.absolute())}"
    )
    waiting = [item.case for item in worklist.open()]
    step = "annotate" if waiting else "next-round"
    typer.echo(f"Next: {next_command(str(project), step, waiting[0] if waiting else None)}")


def _number(worklist: RoundWorklist) -> str:
    ahead = sum(item.ahead for item in worklist.items)
    return f"{len(worklist.items) - ahead} suggested" + (f" and {ahead} ahead" if ahead else "")


def _status(item: Item) -> str:
    return f"{item.status.value}, ahead" if item.ahead else item.status.value


def _part(item: Item) -> str:
    """The box in its slice, first to last voxel."""
    from alunet.loop.worklist import AXES

    ranges = zip(AXES, item.box, strict=True)
    return ", ".join(
        f"{axis} {low}-{high - 1}" for axis, (low, high) in sorted(ranges) if high - low > 1
    )
