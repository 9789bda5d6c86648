"""What is annotated as a data set for nnU-Net, which trains on it without this program."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.labels import Structures
from alunet.imaging.reading import copy_file, ending_of, read_labels
from alunet.imaging.writing import WRITTEN_ENDINGS, check_ending, write_converted, write_like
from alunet.project import Case, Project
from alunet.project.importing import counted
from alunet.schema import NOT_ANNOTATED, Emit
from alunet.storage.files import sync_folder, write_json


@dataclass(frozen=True)
class ExportedDataset:
    """A data set that was written.

    Attributes:
        cases: names of those to train on.
        tests: names of those to evaluate on.
        left_out: names of pool cases in which nothing is annotated.
        open_voxels: voxels of the cases to train on that are not annotated.
    """

    cases: list[str]
    tests: list[str]
    left_out: list[str]
    open_voxels: int


def export_dataset(
    project: Project,
    folder: Path,
    ending: str | None = None,
    *,
    with_tests: bool = False,
    emit: Emit,
) -> ExportedDataset:
    """Write all annotated cases in nnU-Net's form: ``imagesTr/CASE_0000.ENDING``,
    ``labelsTr/CASE.ENDING``, ``dataset.json``.

    Structures have the numbers 1, 2, … there, because nnU-Net takes no others; voxels that are not
    annotated have the next one, its ignore label, where there are any. Images are the project's,
    byte for byte or, in another format, voxel for voxel.

    Args:
        folder: a new one, or an empty one; it is there when everything is written, or not at all.
        ending: one of `alunet.imaging.writing.WRITTEN_ENDINGS`; None: that of most images.
        with_tests: write the cases to evaluate on too, to ``imagesTs`` and, where they have a
            reference, ``labelsTs``.

    Raises:
        InputError: nothing is annotated, the folder is taken, or an image cannot be written in that
            format.
    """
    annotated = project.annotations.cases()
    if not annotated:
        raise InputError("Nothing is annotated yet.", "Annotate a slice first.")
    everything = project.cases.all()
    cases = [case for case in everything if case.name in annotated]
    tests = [case for case in everything if case.role == "test"] if with_tests else []
    ending = _usual_ending(cases) if ending is None else check_ending(ending)
    with _new_folder(Path(folder)) as place:
        writer = _Writer(project, place, ending)
        left_open = {
            case.name: writer.write(case) for case, _ in counted([*cases, *tests], "export", emit)
        }
        writer.describe(len(cases), any(left_open.values()))
    return ExportedDataset(
        [case.name for case in cases],
        [case.name for case in tests],
        [case.name for case in everything if case.role == "pool" and case.name not in annotated],
        sum(left_open[case.name] for case in cases),
    )


class _Writer:
    """Writes cases to a folder, their labels with consecutive numbers."""

    def __init__(self, project: Project, folder: Path, ending: str) -> None:
        self._project, self._folder, self._ending = project, folder, ending
        structures = project.cases.structures
        self._names, self._numbers = structures.names, _consecutive(structures)

    def write(self, case: Case) -> int:
        """Write images and labels of a case; return how many voxels are left open."""
        files = [*case.images, *([case.label] if case.label else [])]
        self._project.cases.files.check_case(case.name, files)
        part = "Ts" if case.role == "test" else "Tr"
        images = [
            self._place(f"images{part}") / f"{case.name}_{channel:04d}{self._ending}"
            for channel in range(len(case.images))
        ]
        for source, target in zip(case.images, images, strict=True):
            if ending_of(source) == self._ending:
                copy_file(source, target, sync=False)
            else:
                write_converted(source, target)
        if case.role == "test" and case.label is None:
            return 0
        classes = (
            self._project.annotations.read(case.name)
            if case.label is None or case.role == "pool"
            else read_labels(case.label)
        )
        file = self._place(f"labels{part}") / f"{case.name}{self._ending}"
        write_like(self._numbers[classes], images[0], file)
        return int(np.count_nonzero(classes == NOT_ANNOTATED))

    def _place(self, name: str) -> Path:
        (self._folder / name).mkdir(exist_ok=True)
        return self._folder / name

    def describe(self, cases: int, has_open: bool) -> None:
        """Write ``dataset.json``, and make all files durable."""
        labels = {name: number for number, name in enumerate(self._names)}
        content = {
            "name": self._project.name,
            "channel_names": {str(i): name for i, name in enumerate(self._project.channels)},
            "labels": {**labels, **({"ignore": len(labels)} if has_open else {})},
            "numTraining": cases,
            "file_ending": self._ending,
        }
        for folder in self._folder.iterdir():
            sync_folder(folder)
        write_json(self._folder / "dataset.json", content)


def _consecutive(structures: Structures) -> npt.NDArray[np.uint8]:
    """Return the number of each voxel in the data set, by its number in the project: those of
    nnU-Net, without gaps; voxels left open have the one behind the last.
    """
    table = np.full(NOT_ANNOTATED + 1, len(structures.names), np.uint8)
    table[list(structures.numbers)] = np.arange(len(structures.names))
    return table


def _usual_ending(cases: Sequence[Case]) -> str:
    """Return the ending of most images, so that few change their format."""
    counts = Counter(ending_of(case.images[0]) for case in cases)
    known = [ending for ending, _ in counts.most_common() if ending in WRITTEN_ENDINGS]
    return known[0] if known else WRITTEN_ENDINGS[0]


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which becomes `folder` where the block ends well."""
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already.", "Give a new folder for the data set.")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}.", "Choose another folder."
        ) from error
    try:
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(folder.parent)
