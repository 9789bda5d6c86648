"""Images that are no case of the project, segmented with its newest model; nothing is added to
it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.imaging.dataset import read_dataset_description
from alunet.imaging.folders import CaseFiles, LeftOut, grouped
from alunet.imaging.label_file import check_description, write_description
from alunet.imaging.labels import LabelSource, Structures, outside_values
from alunet.imaging.reading import stem_of
from alunet.imaging.writing import check_ending, write_like
from alunet.loop import outputs
from alunet.loop.loop import Loop
from alunet.model.interface import TrainedModel
from alunet.model.out_of_memory import is_cause
from alunet.project.importing import (
    Held,
    check_case,
    check_new_names,
    counted,
    say_left_out,
    store_case,
)
from alunet.schema import Emit, Event
from alunet.storage.failures import StorageFailure
from alunet.storage.files import sync_folder


@dataclass(frozen=True)
class Segmented:
    """What became of images.

    Attributes:
        files: the segmentations.
        failed: why the others could not be segmented, by name.
    """

    files: list[Path]
    failed: dict[str, str]


def outside_images(
    paths: Sequence[Path], channels: int, series: str = ""
) -> tuple[list[CaseFiles], list[LeftOut]]:
    """Return the images in files and folders, each with its name, and what is none.

    Args:
        paths: image files; folders as `read_dataset_description` takes them, DICOM among them.
        channels: of an image: one file each (``NAME_0000``, ``NAME_0001``, …), or as many files as
            channels, in their order; or in one file.
        series: which DICOM series of an examination.

    Raises:
        InputError: a path is neither file nor folder, a folder holds no image, or two images have
            one name.
    """
    files, cases, left_out = [], [], []
    for path in paths:
        if path.is_dir():
            found = read_dataset_description(path, channels, series)
            cases += found.cases
            left_out += list(found.left_out)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"There is no image {path}.", "Check the path.")
    single = [(name, own, None) for name, own in grouped(files, channels, Path(), False)]
    if channels > 1 and len(files) == channels == len(single):
        single = [(stem_of(files[0]), files, None)]
    cases = [(name, own, None) for name, own, _ in [*single, *cases]]
    check_new_names(cases)
    return cases, left_out


def predict_images(
    loop: Loop, paths: Sequence[Path], folder: Path, ending: str, series: str = ""
) -> Segmented:
    """Segment images that are no cases, each into ``folder/NAME.ENDING`` on its own grid.

    They are read as cases are, and the project may be open for reading only. An image that cannot
    be segmented is said, and the others go on. Voxels hold the values of the project's label files;
    a ``dataset.json`` beside the files names them.

    Args:
        paths, series: see `outside_images`.
        ending: one of `alunet.imaging.writing.WRITTEN_ENDINGS`.

    Raises:
        InputError: as `outside_images`, there is no model, or the folder cannot be written or holds
            what would be overwritten.
    """
    check_ending(ending)
    weights, structures = loop.newest_weights(), loop.project.cases.structures
    cases, left_out = outside_images(paths, len(loop.project.channels), series)
    say_left_out(left_out, loop.emit)
    folder = Path(folder).absolute()
    targets = {name: folder / f"{name}{ending}" for name, _, _ in cases}
    _keep_images(cases, list(targets.values()))
    log = weights.parent if os.access(weights.parent, os.W_OK) else folder
    with _described(folder, structures, list(targets.values())) as place:
        failed: dict[str, str] = loop.run_child(
            "alunet.loop.outside:segment_images",
            log / "predict.log",
            cases=[
                {"name": name, "images": [str(file) for file in files], "file": str(targets[name])}
                for name, files, _ in cases
            ],
            place=str(place),
            channels=len(loop.project.channels),
            names=list(structures.names),
            values=list(structures.values),
            numbers=list(structures.numbers),
            weights=str(weights),
            scoring=loop.scoring,
            device=loop.device,
            threads=loop.threads,
        )
    return Segmented([file for name, file in targets.items() if name not in failed], failed)


def _keep_images(cases: Sequence[CaseFiles], targets: Sequence[Path]) -> None:
    """Raise InputError where a segmentation would replace one of the images."""
    images = [file for _, files, _ in cases for file in files]
    for target in targets:
        if target.is_dir():
            raise InputError(f"{target} is a folder.", "Choose another folder.")
        if target.is_file() and any(target.samefile(image) for image in images):
            raise InputError(
                f"The segmentation {target} would replace the image.", "Choose another folder."
            )


@contextmanager
def _described(folder: Path, structures: Structures, targets: Sequence[Path]) -> Iterator[Path]:
    """Make the folder of the targets with its ``dataset.json``; give a passing folder in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = check_description(folder, structures.in_files)
        place = tempfile.TemporaryDirectory(prefix="tmp-", dir=folder)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}.", "Choose another folder."
        ) from error
    try:
        with place as name:
            write_description(folder, structures.in_files)
            yield Path(name)
    finally:
        if not there and not any(target.is_file() for target in targets):
            (folder / "dataset.json").unlink(missing_ok=True)


# --- inside the child -----------------------------------------------------------------------------


def segment_images(
    framework: str,
    folder: str,
    cases: list[dict[str, Any]],
    place: str,
    channels: int,
    names: list[str],
    values: list[int],
    numbers: list[int],
    weights: str,
    scoring: dict[str, Any],
    device: str,
    threads: int,
    emit: Emit,
) -> dict[str, str]:
    """Segment `cases` [{"name", "images", "file"}], each into its file on the grid of its image.

    Args:
        place: a passing folder on the disk of the files.
        names, values, numbers: of the structures, as of `Structures`.

    Returns:
        Why images could not be segmented, by name.
    """
    model = outputs.open_model(framework, folder, weights, scoring, device, threads, emit)
    known = Structures(tuple(names), tuple(values), tuple(numbers))
    failed = {}
    for case, _ in counted(cases, "predict", emit):
        try:
            with tempfile.TemporaryDirectory(dir=place) as own:
                _segment(model, case, channels, known, Path(own))
        except StorageFailure:
            raise
        except (InputError, RuntimeError, ValueError) as error:
            if is_cause(error):  # of all of them: it is tried again with less at a time
                raise
            failed[case["name"]] = str(error)
            emit(Event("message", {"text": f"'{case['name']}' was left out: {error}"}))
    return failed


def _segment(
    model: TrainedModel, entry: dict[str, Any], channels: int, structures: Structures, place: Path
) -> None:
    files, file = [Path(image) for image in entry["images"]], Path(entry["file"])
    labels = LabelSource(structures)
    case = check_case(entry["name"], files, None, channels, labels, held=Held())
    store_case(case, place, place, labels)
    images = [place / source.name for source in case.images]
    table = outside_values(structures.values, structures.numbers)[0]
    part = place / f"segmentation{file.name[len(entry['name']) :]}"
    write_like(table[model.segment_files(images)], images[0], part)
    part.replace(file)
    sync_folder(file.parent)
