"""`alunet folder`, `convert`, `dicom-seg`: images on this computer, without a project."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from alunet.errors import AlunetError, InputError
from alunet.schema import (
    ConvertedImage,
    DicomIdentity,
    Emit,
    Event,
    FolderCase,
    FolderFile,
    FolderListing,
    SeriesChoice,
    WrittenSegmentations,
    to_data,
)

FOLDER = """Show which cases the images of a folder make, and which files are left out and why.

Nothing is written; "alunet add" and 3D Slicer take the same.

    alunet folder my_scans

    alunet folder study --series 4
"""

CONVERT = """Write an image, or the DICOM series that a file belongs to, as one file without loss.

No attribute of DICOM comes along. With --json its UIDs are printed, which a service keeps with the
case.

    alunet convert study/IM0001 scan.mha
"""

DICOM_SEG = """Write DICOM SEG objects of labels that a service exported with the format dcm.

Patient and study are read from the files in --source at this moment; the service never has them.

    alunet dicom-seg labels.zip --source ~/export --out segmentations
"""

_MOST = 20  # cases and files that are named
JSON_LINES = Annotated[
    bool, typer.Option("--json", help="Print progress and result as lines of JSON, for programs.")
]


def folder(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with images.")],
    channels: Annotated[
        int | None, typer.Option(help="Channels of a case. Without: as the files are named.")
    ] = None,
    series: Annotated[
        str, typer.Option(help="DICOM series to take: number, modality, UID or name.")
    ] = "",
    as_json: JSON_LINES = False,
) -> None:
    """List the cases of a folder; `FOLDER` is what `--help` shows."""
    with _told(as_json) as (emit, tell):
        found = _listing(path, channels, series, emit, ask=as_json)
        tell(found, _listed(found))


def convert(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image, or file of a series.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; it ends in .mha.")],
    as_json: JSON_LINES = False,
) -> None:
    """Write an image as one file; `CONVERT` is what `--help` shows."""
    from alunet.imaging.foreign import read_foreign
    from alunet.imaging.reading import EXACT_ENDING, ending_of, without_entries, write_image

    with _told(as_json) as (_emit, tell):
        if ending_of(out) != EXACT_ENDING:
            raise InputError(f"{out.name} does not end in {EXACT_ENDING}.", "Let it end so.")
        found = read_foreign(image)
        write_image(without_entries(found.image), out)
        uids, series = None, found.series
        if series is not None:
            uids = DicomIdentity(
                series.series_uid, list(series.instance_uids), series.frame_of_reference_uid
            )
        tell(ConvertedImage(str(out.absolute()), uids), [f"{image.name} in {out}"])


def dicom_seg(
    package: Annotated[Path, typer.Argument(metavar="ZIP", help="What the service exported.")],
    source: Annotated[Path, typer.Option(help="Folder with the DICOM files of the cases.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; it is made where missing.")],
    as_json: JSON_LINES = False,
) -> None:
    """Write SEG objects; `DICOM_SEG` is what `--help` shows."""
    from alunet.loop.dicom_package import write_package

    notes: list[str] = []
    with _told(as_json) as (emit, tell):

        def hear(event: Event) -> None:
            notes.extend([str(event.data["text"])] if event.kind == "message" else [])
            emit(event)

        files = write_package(package, source, out, hear)
        written = WrittenSegmentations([str(file) for file in files], notes)
        tell(written, [f"{len(files)} segmentations in {out}"])


@contextmanager
def _told(as_json: bool) -> Iterator[tuple[Emit, Callable[[Any, list[str]], None]]]:
    """Give what hears the progress, and what tells the result, as data and as lines for a person.

    With `as_json` both, and an error, are lines ``{"kind": …, "data": …}`` on standard output.
    """

    def line(kind: str, data: Any) -> None:
        typer.echo(json.dumps({"kind": kind, "data": data}))

    if not as_json:
        from alunet.cli.progress import at_work

        said: list[str] = []
        with at_work() as emit:
            yield emit, lambda _result, lines: said.extend(lines)
        for text in said:
            typer.echo(text)
        return
    try:
        yield (
            lambda event: line(event.kind, event.data),
            lambda result, _lines: line("result", to_data(result)),
        )
    except AlunetError as error:
        line("error", {"message": error.message, "hint": error.hint})
        raise typer.Exit(error.exit_code) from error


def _listing(
    path: Path, channels: int | None, series: str, emit: Emit, *, ask: bool
) -> FolderListing:
    """Read what a folder holds; with `ask` several series of an examination are an answer."""
    from alunet.imaging.dataset import read_dataset_description
    from alunet.imaging.dicom_cases import SeveralSeries

    try:
        found = read_dataset_description(path.absolute(), channels, series, emit)
    except SeveralSeries as several:
        if not ask:
            raise
        return FolderListing(choices=[SeriesChoice(*choice) for choice in several.choices])
    if channels is not None and len(found.channels) != channels:
        raise InputError(
            f"{path} has cases of {len(found.channels)} image(s), not of {channels}.",
            "Name the files CASE_0000, CASE_0001, …, one a channel.",
        )
    return FolderListing(
        [
            FolderCase(name, [str(file) for file in files], None if label is None else str(label))
            for name, files, label in found.cases
        ],
        [FolderFile(str(each.file), each.reason) for each in found.left_out],
    )


def _listed(found: FolderListing) -> list[str]:
    lines = [f"{len(found.cases)} cases"]
    for case in found.cases[:_MOST]:
        files = ", ".join(Path(file).name for file in case.images)
        label = f", label {Path(case.label).name}" if case.label else ""
        lines.append(f"  {case.name}: {files}{label}")
    lines += [f"  and {len(found.cases) - _MOST} more"] if len(found.cases) > _MOST else []
    lines += [f"{len(found.left_out)} files left out"] if found.left_out else []
    lines += [f"  {Path(each.file).name}: {each.reason}" for each in found.left_out]
    return lines
