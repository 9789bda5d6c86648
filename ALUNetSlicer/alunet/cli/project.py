"""`alunet init`, `add`, `plan`, `status`: a project and what is in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alunet.cli.label_use import LabelPurpose, ask, said
from alunet.cli.opening import opened_to_read
from alunet.cli.training import PRESET, optional_seconds, train_for_option
from alunet.errors import InputError
from alunet.schema import SLICE, Emit, Event

if TYPE_CHECKING:
    from alunet.project import Project

PROJECT = Annotated[Path, typer.Argument(metavar="PROJECT", help="Folder of the project.")]

INIT = """Make a project: what to segment in which kind of image, and how to train.

Structures get the values 1, 2, … in label images in the order in which they are named; 0 is the
background. CT as a channel's name makes nnU-Net normalise Hounsfield units; other names are free.

    alunet init liver --label liver --label tumour --channel CT

    alunet init brain --label tumour --channel T1 --channel FLAIR

[bold]How long a round trains[/bold], where the preset's time does not suit:

    alunet init liver --label liver --channel CT --train-for 20m

[bold]As a data set says it[/bold] in its dataset.json:

    alunet init hippocampus --like Task04_Hippocampus
"""

ADD = """Add images: a data set folder, or the files of one case, one a channel. They are copied and
checked.

[bold]A folder[/bold], in the form of the Medical Segmentation Decathlon or of nnU-Net, or a plain
folder of images; the same command again adds what is new in it:

    alunet add liver ~/scans

[bold]DICOM[/bold]: the folder of a series, of an examination, or of many. No patient's name or
other attribute is kept:

    alunet add liver ~/export --series 4

[bold]One case[/bold] with two channels:

    alunet add brain t1.nii.gz flair.nii.gz --name patient_7

[bold]Labels that the images come with[/bold] are kept hidden, to simulate with, or become
annotations to learn from; where neither is said, a terminal asks:

    alunet add liver ~/labelled --labels train

[bold]Labelled cases to evaluate on[/bold], which are never suggested:

    alunet add liver ~/labelled --test

    alunet add liver p8.nrrd --name p8 --label-file p8_label.nrrd --test

[bold]What values of label files mean[/bold] is said by the segments of a .seg.nrrd file, by a
dataset.json beside the file, or by label descriptions of ITK-SNAP there; else they are the values
that "alunet status" names.
"""

PLAN = """Plan nnU-Net for the images and preprocess them, each once. Cases added later are
preprocessed with the same plan; no number of a slice or sample ever changes.

    alunet plan liver
"""

STATUS = """Show where a project stands, and the next command to type.

    alunet status liver

    alunet status liver --json
"""


def init(
    project: PROJECT,
    label: Annotated[
        list[str] | None, typer.Option(help="Structure to segment; repeat it.")
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="Channel of the images, like CT or T1; repeat it.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Take labels and channels from this data set.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the project. Without: that of its folder.")
    ] = None,
    preset: PRESET = "cpu",
    train_for: Annotated[str | None, train_for_option("the preset's time")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every training, instead of a time.")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Steps in an epoch, instead of a time.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    unit: Annotated[
        str,
        typer.Option(
            help="What you are asked to annotate: tile (the part of a slice that the network reads "
            "at once) or slice (whole slices). It cannot be changed later."
        ),
    ] = "tile",
) -> None:
    """Make a project; `INIT` is what `--help` shows."""
    from alunet.loop.setup import Setup, create

    labels, channels = _described(label or [], channel or [], like)
    setup = Setup(preset, epochs, iterations, seed, device, optional_seconds(train_for))
    with create(
        project,
        name=name or project.absolute().name,
        labels=labels,
        channels=channels,
        setup=setup,
        unit=unit,
    ) as made:
        words = made.cases.structures.in_words()
        typer.echo(
            f"Project {made.name} in {project}: {words}; {', '.join(made.channels)}; "
            f"preset {preset}."
        )


def _described(
    labels: list[str], channels: list[str], like: Path | None
) -> tuple[dict[str, int], list[str]]:
    if like is not None:
        from alunet.imaging.dataset import read_dataset_description

        if labels or channels:
            raise InputError(
                "--like is given beside --label or --channel.", "Give one or the other."
            )
        found = read_dataset_description(like)
        if not found.labels:
            raise InputError(
                f"{like} has no dataset.json that names labels.",
                "Name them: --label liver --label …",
            )
        return dict(zip(found.labels, found.values, strict=True)), found.channels
    if not labels or not channels:
        missing = "--label" if not labels else "--channel"
        raise InputError(
            f"No {missing} is given.", "For instance: --label liver --label tumour --channel CT"
        )
    for index, name in enumerate(labels):
        if name.casefold() in [other.casefold() for other in ("background", *labels[:index])]:
            raise InputError(
                f"--label {name} is there twice.",
                "Name each structure once; background is there anyway.",
            )
    return {"background": 0, **{name: value for value, name in enumerate(labels, 1)}}, channels


def add(
    project: PROJECT,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="A data set folder, or the files of a case."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the case. Without: that of its first file.")
    ] = None,
    label_file: Annotated[Path | None, typer.Option(help="Reference label of the case.")] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Cases to evaluate on; they are never suggested.")
    ] = False,
    ignore_value: Annotated[
        int | None, typer.Option(help="Value in label files that marks voxels left open.")
    ] = None,
    series: Annotated[
        str, typer.Option(help="DICOM series to take of each examination: number, modality or UID.")
    ] = "",
    labels: Annotated[
        LabelPurpose | None,
        typer.Option(
            help="What labels are for: hidden (to evaluate and simulate), train (annotations to "
            "learn from) or none. Without: a terminal asks, else hidden."
        ),
    ] = None,
) -> None:
    """Add images; `ADD` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.imaging.dataset import read_dataset_description
    from alunet.project import Project

    role = "test" if test else "pool"
    if test and labels is LabelPurpose.train:
        raise InputError(
            "--labels train is given beside --test.",
            "Labels to evaluate on are never learned from.",
        )
    if paths[0].is_dir() and (len(paths) > 1 or name or label_file):
        raise InputError(
            f"{paths[0]} is a folder.", "Give it alone, without --name and --label-file."
        )
    with Project.open(project) as opened:
        before, found = {case.name for case in opened.cases.all()}, None
        labelled = [name or _name_of(paths[0])] if label_file else []
        if paths[0].is_dir():
            with at_work():
                found = read_dataset_description(paths[0], len(opened.channels), series)
            labelled = [own for own, _, label in found.cases if label]
        use = labels or ask(0 if test else len(set(labelled) - before))
        with at_work() as emit:
            if found is not None:
                opened.cases.import_dataset(
                    paths[0],
                    role=role,
                    ignore=ignore_value,
                    label_use=use.value,
                    found=found,
                    emit=emit,
                )
            else:
                opened.cases.import_case(
                    name or _name_of(paths[0]),
                    paths,
                    label_file,
                    role=role,
                    ignore=ignore_value,
                    label_use=use.value,
                    emit=emit,
                )
            cases = opened.cases.all(role)
            new = [case for case in cases if case.name not in before]
            blind = sum(case.label is None for case in new)
            if new:
                _warn_of_one_patient(opened, emit)
        pending = len(opened.cases.to_learn())
    what = "cases to evaluate on" if test else "cases"
    note = f"; {blind} of them without a label cannot be evaluated" if test and blind else ""
    typer.echo(f"{len(new)} new {what} in {project}, {len(cases)} in all{note}.")
    hidden = 0 if test or labels else sum(case.label is not None for case in new)
    for line in said(use, hidden, pending, next_command(str(project), "plan")):
        typer.echo(line)


def _warn_of_one_patient(project: Project, emit: Emit) -> None:
    """Say so where a patient seems to have cases to learn from and to evaluate on."""
    from alunet.imaging.patients import same_patients

    names = [[case.name for case in project.cases.all(role)] for role in ("pool", "test")]
    found = same_patients(*names)
    if found:
        pool, test = found[1]
        text = (
            f"'{test}' (to evaluate on) and '{pool}' (to learn from) look like one patient; "
            f"Dice would be too high."
        )
        emit(
            Event("message", {"text": f"{text} If so, start again with each patient on one side."})
        )


def _name_of(file: Path) -> str:
    from alunet.imaging.reading import stem_of

    return stem_of(file)


def plan(project: PROJECT) -> None:
    """Plan and preprocess; `PLAN` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.project import Project

    with at_work() as emit, Project.open(project) as opened:
        AnnotationLoop(opened, emit=emit).plan()
        pool, samples = opened.pool, int(opened.samples.counted().sum())
        cases, whole = len(opened.cases.all("pool")), opened.settings.unit == SLICE
    rows, columns = pool.patch
    size = "each a whole slice" if whole else f"each up to {rows} x {columns} pixels"
    typer.echo(f"{cases} cases, {samples:,} samples to choose from, {size}.")


def status(
    project: PROJECT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show where a project stands; `STATUS` is what `--help` shows."""
    from alunet.cli.overview import show
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.loop.status import status as overview_of

    with opened_to_read(project) as opened:
        found = overview_of(AnnotationLoop(opened))
    command = next_command(str(project), found.step, found.case)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "next": command}, indent=1, ensure_ascii=False))
    else:
        show(found, command)


def next_command(project: str, step: str, case: str | None = None) -> str:
    """What to type next."""
    project = f'"{project}"' if " " in project else project
    case = f'"{case}"' if case and " " in case else case
    return {
        "add": f"alunet add {project} FOLDER_OR_IMAGES",
        "annotate": f"alunet annotate {project} LABEL_IMAGE --case {case}",
        "export": f"alunet export {project} model --out model.zip",
    }.get(step, f"alunet {step} {project}")
