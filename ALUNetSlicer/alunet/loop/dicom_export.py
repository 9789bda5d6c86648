"""Labels and segmentations as DICOM SEG objects, for the images that they were made on. All of a
call's files, or none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from alunet.errors import InputError
from alunet.imaging.dicom.export import Algorithm, write_segmentation
from alunet.imaging.dicom.series import DicomFolder, SeriesIdentity, find_series
from alunet.imaging.reading import EXACT_ENDING, grid_of, read_labels
from alunet.loop import outputs
from alunet.loop.loop import Loop
from alunet.project import Case
from alunet.schema import Event
from alunet.storage.files import sha256_file

ENDING = ".dcm"

Kind = Literal["MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"]


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
    project = loop.project
    annotated = list(project.annotations.cases())
    if not annotated:
        raise InputError("Nothing is annotated yet.", "Annotate a slice first.")
    kind: Kind = "SEMIAUTOMATIC" if loop.rounds() else "MANUAL"
    cases = outputs.cases_of(project, names or annotated)
    identities = [_identity(loop, case) for case in cases]
    labels = (project.annotations.read(case.name) for case in cases)
    return _write(
        loop,
        cases,
        identities,
        labels,
        find_series(source),
        folder,
        _algorithm(loop, kind, version),
    )


def export_predictions(
    loop: Loop, names: Sequence[str], source: Path, folder: Path, version: str
) -> list[Path]:
    """Segment cases with the newest model and write SEG objects, as `export_labels` does.

    Raises:
        InputError: as `export_labels`, or there is no model.
    """
    cases = outputs.cases_of(loop.project, names)
    identities = [_identity(loop, case) for case in cases]
    found = find_series(source)
    with tempfile.TemporaryDirectory(dir=loop.project.root) as place:
        files = outputs.predict(
            loop, [case.name for case in cases], Path(place), EXACT_ENDING, proposals=True
        )
        algorithm = _algorithm(loop, "AUTOMATIC", version)
        return _write(loop, cases, identities, map(read_labels, files), found, folder, algorithm)


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


def _write(
    loop: Loop,
    cases: Sequence[Case],
    identities: Sequence[SeriesIdentity],
    labels: Iterable[np.ndarray],
    source: DicomFolder,
    folder: Path,
    algorithm: Algorithm,
) -> list[Path]:
    structures = {name: value for name, value in loop.project.labels.items() if value}
    own = loop.project.settings.colors
    colors = {name: own[value] for name, value in structures.items() if value in own}
    files = [folder / f"{case.name}{ENDING}" for case in cases]
    with outputs.all_or_none(files) as (parts, targets):
        for case, identity, array, part in zip(cases, identities, labels, parts, strict=True):
            left_out = write_segmentation(
                array,
                grid_of(case.images[0]),
                structures,
                source,
                identity,
                part,
                algorithm,
                leave_out_open=True,
                colors=colors,
            )
            if left_out:
                loop.emit(Event("message", {"text": _left_out(case, left_out)}))
    return targets


def _left_out(case: Case, voxels: int) -> str:
    return f"{case.name}: {voxels:,} voxels are not annotated; in DICOM they are background."
