"""`alunet predict`, `uncertainty`, `export`: what leaves a project."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import alunet
from alunet.cli.opening import opened_to_read
from alunet.cli.project import PROJECT
from alunet.cli.rounds import DEVICE
from alunet.errors import InputError

if TYPE_CHECKING:
    from alunet.project import Project

PREDICT = """Segment cases of the project, or other images, with the newest model, each on exactly
the grid of its image.

    alunet predict liver p7 p8

    alunet predict liver --out segmentations --format nrrd

[bold]Images that are no cases[/bold], files or folders, DICOM too; the project stays as it is. One
that cannot be segmented is named, and the others go on:

    alunet predict liver new/scan.nrrd --out segmentations

    alunet predict liver ~/tomorrow --out segmentations

    alunet predict brain t1.nii.gz flair.nii.gz
"""

UNCERTAINTY = """Write how unsure the newest model is of each voxel of a case, as an image on
exactly its grid.

    alunet uncertainty liver p7

    alunet uncertainty liver p7 --measure bald --out p7_unsure.nrrd
"""

EXPORT = """Take the results out: the model, the labels, a data set for nnU-Net, or segmentations of
all cases.

[bold]The model[/bold] as a zip that nnU-Net installs with
nnUNetv2_install_pretrained_model_from_zip:

    alunet export liver model --out liver.zip

[bold]The labels[/bold] drawn so far, and what the model makes of every case:

    alunet export liver labels --out labels --format nii.gz

    alunet export liver predictions --out segmentations

[bold]A data set for nnU-Net[/bold]: images, labels and dataset.json of every annotated case;
voxels that are not annotated have its ignore label. nnU-Net wants the folder in its nnUNet_raw,
with a name like Dataset777_liver:

    alunet export liver dataset --out Dataset777_liver --with-tests

    nnUNetv2_plan_and_preprocess -d 777 --verify_dataset_integrity

[bold]As DICOM SEG[/bold], of cases that came from DICOM. Patient and study are read from the files
in --source at this moment; the project does not keep them:

    alunet export liver labels --out segmentations --format dcm --source ~/export
"""

FORMAT = Annotated[str, typer.Option("--format", help="nii.gz, nrrd or mha; dcm with --source.")]


class What(str, Enum):
    """What can be exported."""

    model = "model"
    labels = "labels"
    predictions = "predictions"
    dataset = "dataset"


def predict(
    project: PROJECT,
    cases: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CASE_OR_IMAGE…]",
            help="Cases, image files or folders of images. Without: all cases.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("predictions"),
    format_: FORMAT = "nii.gz",
    series: Annotated[
        str, typer.Option(help="DICOM series to take of each examination: number, modality or UID.")
    ] = "",
    device: DEVICE = None,
) -> None:
    """Segment cases; `PREDICT` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.loop import outputs, outside
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.project import Project

    with opened_to_read(project) as opened:
        images = _no_cases(opened, cases or [])
    with at_work() as emit, Project.open(project, read_only=bool(images)) as opened:
        loop = AnnotationLoop(opened, device=device, emit=emit).loop
        if not images:
            files, failed = outputs.predict(loop, cases or [], out, _ending(format_)), {}
        else:
            found = outside.predict_images(loop, images, out, _ending(format_), series)
            files, failed = found.files, found.failed
    typer.echo(f"{len(files)} segmentations in {out}")
    if failed:
        names = ", ".join(f"'{name}'" for name in list(failed)[:5])
        raise InputError(
            f"{len(failed)} of {len(failed) + len(files)} images could not be segmented: {names}.",
            "Above is why.",
        )


def _no_cases(project: Project, words: list[str]) -> list[Path]:
    """Return the images that words name; none where they name cases.

    Raises:
        InputError: they name both, or one names neither.
    """
    from alunet.imaging.reading import ending_of
    from alunet.loop.outputs import cases_of

    known = {case.name for case in project.cases.all()}
    paths = [Path(word) for word in words if word not in known]
    missing = [path for path in paths if not path.exists()]
    if missing and (ending_of(missing[0]) or len(missing[0].parts) > 1):
        raise InputError(f"There is no image {missing[0]}.", "Check the path.")
    if missing:
        cases_of(project, [str(missing[0])])  # refuses, with names that are alike
    if paths and len(paths) < len(words):
        raise InputError(
            f"{next(word for word in words if word in known)} is a case, {paths[0]} an image.",
            "Segment cases and other images one after the other.",
        )
    return paths


def uncertainty(
    project: PROJECT,
    case: Annotated[str, typer.Argument(metavar="CASE", help="Name of the case.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write. Without: CASE_uncertainty.nii.gz")
    ] = None,
    measure: Annotated[str, typer.Option(help="variance, std, bald or entropy.")] = "entropy",
    device: DEVICE = None,
) -> None:
    """Write an uncertainty map; `UNCERTAINTY` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.loop import outputs
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.project import Project

    file = out or Path(f"{case}_uncertainty.nii.gz")
    with at_work() as emit, Project.open(project) as opened:
        outputs.uncertainty(
            AnnotationLoop(opened, device=device, emit=emit).loop, case, file, measure
        )
    typer.echo(f"{measure} of {case} in {file}")


def export(
    project: PROJECT,
    what: Annotated[What, typer.Argument(help="What to take out.")],
    out: Annotated[Path, typer.Option(help="Zip file of the model, or folder of the images.")],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="nii.gz, nrrd or mha; dcm with --source. Without: nii.gz; of a data set, that of "
            "most images.",
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="Folder with the DICOM files of the cases; for dcm.")
    ] = None,
    with_tests: Annotated[
        bool, typer.Option("--with-tests", help="Data set: also the cases to evaluate on.")
    ] = False,
    device: DEVICE = None,
) -> None:
    """Take results out; `EXPORT` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.loop import dicom_export, outputs
    from alunet.loop.annotation_loop import AnnotationLoop
    from alunet.project import Project

    if with_tests and what is not What.dataset:
        raise InputError("--with-tests is for a data set.", "Leave it out.")
    if what is What.dataset:
        _export_dataset(project, out, format_, with_tests)
        return
    ending = _ending(format_ or "nii.gz")
    with at_work() as emit, Project.open(project) as opened:
        annotation = AnnotationLoop(opened, device=device, emit=emit)
        if what is What.model:
            files = [outputs.export_model(annotation.loop, out)]
        elif ending == dicom_export.ENDING:
            if source is None:
                raise InputError(
                    "No --source is given.", "Name the folder with the DICOM files of the cases."
                )
            write = (
                dicom_export.export_labels
                if what is What.labels
                else dicom_export.export_predictions
            )
            files = write(annotation.loop, [], source, out, alunet.__version__)
        elif what is What.labels:
            files = outputs.export_labels(opened, [], out, ending)
        else:
            files = outputs.predict(annotation.loop, [], out, ending)
    typer.echo(
        f"The model in {out}" if what is What.model else f"{len(files)} {what.value} in {out}"
    )


def _export_dataset(project: Path, out: Path, format_: str | None, with_tests: bool) -> None:
    """Write a data set for nnU-Net, and say what is in it and what is not."""
    from alunet.cli.progress import at_work
    from alunet.loop.dataset_export import export_dataset

    with at_work() as emit, opened_to_read(project) as opened:
        ending = None if format_ is None else _ending(format_)
        found = export_dataset(opened, out, ending, with_tests=with_tests, emit=emit)
    tests = f" and {len(found.tests)} to evaluate on" if found.tests else ""
    voxels = found.open_voxels
    open_ = f"; {voxels:,} voxels are not annotated: ignore" if voxels else ""
    typer.echo(f"{len(found.cases)} cases{tests} in {out}{open_}.")
    if found.left_out:
        some = ", ".join(found.left_out[:5]) + (", …" if len(found.left_out) > 5 else "")
        typer.echo(f"Nothing is annotated in {len(found.left_out)} cases, left out: {some}.")
    if not re.fullmatch(r"Dataset\d{3}_.+", out.absolute().name):
        typer.echo("nnU-Net finds it in its nnUNet_raw under a name like Dataset777_liver.")


def _ending(format_: str) -> str:
    return "." + format_.lower().lstrip(".")
