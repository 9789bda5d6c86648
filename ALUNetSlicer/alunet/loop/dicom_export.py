"""Labels and segmentations as DICOM SEG objects, for the images that they were made on. All of a
call's files, or none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from alunet.errors import InputError
from alunet.imaging.dicom.export import Algorithm, write_segmentation
from alunet.imaging.dicom.series import DicomFolder, SeriesIdentity
from alunet.imaging.foreign import list_series
from alunet.imaging.grids import Grid
from alunet.imaging.labels import Structures
from alunet.imaging.reading import EXACT_ENDING, grid_of, read_labels
from alunet.loop import outputs
from alunet.loop.loop import Loop
from alunet.project import Case
from alunet.project.importing import counted
from alunet.project.tidying import EXPORTING
from alunet.schema import DICOM_SEG, Emit, Event
from alunet.storage.files import sha256_file

ENDING = f".{DICOM_SEG}"

Kind = Literal["MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"]


@dataclass(frozen=True)
class Drawn:
    """Labels of a case, and the DICOM series that they were drawn on.

    Attributes:
        name: of the case.
        grid: of its image.
        labels: reads them, array (k, j, i).
    """

    name: str
    identity: SeriesIdentity
    grid: Grid
    labels: Callable[[], np.ndarray]


def export_labels(
    loop: Loop, names: Sequence[str], source: Path, folder: Path, version: str
) -> list[Path]:
    """Write what is annotated of cases as SEG objects, each into ``folder/NAME.dcm``.

    Voxels that are not annotated belong to no structure; how many there are is said.

    Args:
        names: of annotated cases that came from DICOM; none of them: all that are annotated.
        source: folder with the DICOM files that the cases came from; attributes of patient and
            study are read there, and kept nowhere else.
        version: of this program, for the record in the objects.

    Raises:
        InputError: nothing is annotated, a case did not come from DICOM, `source` lacks its series,
            or a file cannot be written.
    """
    drawn, algorithm = annotated_cases(loop, names), algorithm_of_labels(loop, version)
    return write_segmentations(
        drawn, drawn_structures(loop), list_series(source), folder, algorithm, loop.emit
    )


def annotated_cases(loop: Loop, names: Sequence[str]) -> list[Drawn]:
    """Return what is annotated of cases; see `export_labels`.

    Raises:
        InputError: as `export_labels`.
    """
    annotated = list(loop.project.annotations.cases())
    if not annotated:
        raise InputError("Nothing is annotated yet.", "Annotate a slice first.")
    for name in names:
        if name not in annotated:
            raise InputError(f"Nothing is annotated in case '{name}'.", "Leave it out.")
    read = loop.project.annotations.read
    return [
        Drawn(case.name, _identity(loop, case), grid_of(case.images[0]), partial(read, case.name))
        for case in outputs.cases_of(loop.project, names or annotated)
    ]


def export_predictions(
    loop: Loop, names: Sequence[str], source: Path, folder: Path, version: str
) -> list[Path]:
    """Segment cases with the newest model and write SEG objects, as `export_labels` does.

    Raises:
        InputError: as `export_labels`, or there is no model.
    """
    cases = outputs.cases_of(loop.project, names)
    identities = [_identity(loop, case) for case in cases]
    found = list_series(source)
    with tempfile.TemporaryDirectory(prefix=EXPORTING, dir=loop.project.root) as place:
        files = outputs.predict(
            loop, [case.name for case in cases], Path(place), EXACT_ENDING, proposals=True
        )
        drawn = [
            Drawn(case.name, identity, grid_of(case.images[0]), partial(read_labels, file))
            for case, identity, file in zip(cases, identities, files, strict=True)
        ]
        algorithm = algorithm_of_model(loop, version)
        return write_segmentations(
            drawn, drawn_structures(loop), found, folder, algorithm, loop.emit
        )


def segmented_cases(loop: Loop, names: Sequence[str]) -> list[Drawn]:
    """Return what the newest model made of cases, as it is stored; none of them: all.

    Raises:
        InputError: there is no model, or a case was not segmented by it or did not come from DICOM.
    """
    loop.last()
    drawn = []
    for case in outputs.cases_of(loop.project, names):
        file = loop.folder() / "proposals" / f"{case.name}{EXACT_ENDING}"
        if not file.is_file():
            raise InputError(
                f"Case '{case.name}' was not segmented by the newest model.", "Segment it first."
            )
        grid = grid_of(case.images[0])
        read = partial(_read_current, loop.project.cases.structures, file)
        drawn.append(Drawn(case.name, _identity(loop, case), grid, read))
    return drawn


def _read_current(structures: Structures, file: Path) -> np.ndarray:
    """Labels of a file as the structures are now."""
    return structures.current(read_labels(file))


@dataclass(frozen=True)
class DrawnStructures:
    """The structures of label maps.

    Attributes:
        numbers: of each in the label maps, by name, without the background.
        colors: #rrggbb by name, of those that have one of their own.
    """

    numbers: Mapping[str, int]
    colors: Mapping[str, str]


def drawn_structures(loop: Loop) -> DrawnStructures:
    """Return the structures of a project's label maps."""
    numbers = {name: number for name, number in loop.project.labels.items() if number}
    own = loop.project.settings.colors
    colors = {name: own[number] for name, number in numbers.items() if number in own}
    return DrawnStructures(numbers, colors)


def algorithm_of_labels(loop: Loop, version: str) -> Algorithm:
    """Return who drew what is annotated: a person, or a person with the model."""
    return _algorithm(loop, "SEMIAUTOMATIC" if loop.rounds() else "MANUAL", version)


def algorithm_of_model(loop: Loop, version: str) -> Algorithm:
    """Return the newest model, as who drew."""
    return _algorithm(loop, "AUTOMATIC", version)


def _identity(loop: Loop, case: Case) -> SeriesIdentity:
    identity = loop.project.cases.dicom(case.name)
    if identity is None:
        raise InputError(
            f"Case '{case.name}' did not come from DICOM, so no DICOM segmentation can be made.",
            "Export it as nii.gz, nrrd or mha.",
        )
    return identity


def _algorithm(loop: Loop, kind: Kind, version: str) -> Algorithm:
    """Who drew the labels, with the hash of the newest weights where there are any."""
    weights = loop.weights(loop.last()) if loop.rounds() else None
    hash_ = sha256_file(weights) if weights is not None and weights.is_file() else ""
    return Algorithm(kind, "ALUNet", version, hash_)


def write_segmentations(
    drawn: Sequence[Drawn],
    structures: DrawnStructures,
    source: DicomFolder,
    folder: Path,
    algorithm: Algorithm,
    emit: Emit,
) -> list[Path]:
    """Write SEG objects, each into ``folder/NAME.dcm``: all of them or none.

    Args:
        source: what `list_series` found in the folder with the images' DICOM.
        emit: hears the progress, and how many voxels are not annotated.

    Raises:
        InputError: `source` lacks a series, or a file cannot be written.
    """
    files = [folder / f"{case.name}{ENDING}" for case in drawn]
    with outputs.all_or_none(files) as (parts, targets):
        for (case, _), part in zip(counted(drawn, "export", emit), parts, strict=True):
            left_out = write_segmentation(
                case.labels(),
                case.grid,
                structures.numbers,
                source,
                case.identity,
                part,
                algorithm,
                leave_out_open=True,
                colors=structures.colors,
            )
            if left_out:
                emit(Event("message", {"text": _left_out(case.name, left_out)}))
    return targets


def _left_out(name: str, voxels: int) -> str:
    return f"{name}: {voxels:,} voxels are not annotated; in DICOM they are background."
