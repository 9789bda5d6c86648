"""Labels and segmentations as DICOM SEG objects, beside the images that they were made on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from alunet.errors import InputError
from alunet.imaging.dicom.export import Algorithm, write_segmentation
from alunet.imaging.reading import EXACT_ENDING, grid_of, read_labels
from alunet.loop import outputs
from alunet.loop.loop import Loop
from alunet.project import Case
from alunet.schema import Event
from alunet.storage.files import sha256_file

ENDING = ".dcm"


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
    kind: Literal["MANUAL", "SEMIAUTOMATIC"] = "SEMIAUTOMATIC" if loop.rounds() else "MANUAL"
    cases = outputs.cases_of(project, names or annotated)
    return [
        _write(loop, case, project.annotations.read(case.name), source, folder, kind, version)
        for case in cases
    ]


def export_predictions(
    loop: Loop, names: Sequence[str], source: Path, folder: Path, version: str
) -> list[Path]:
    """Segment cases with the newest model and write SEG objects, as `export_labels` does.

    Raises:
        InputError: as `export_labels`, or there is no model.
    """
    cases = outputs.cases_of(loop.project, names)
    for case in cases:
        _check(loop, case)
    with tempfile.TemporaryDirectory(dir=loop.project.root) as place:
        files = outputs.predict(
            loop, [case.name for case in cases], Path(place), EXACT_ENDING, proposals=True
        )
        return [
            _write(loop, case, read_labels(file), source, folder, "AUTOMATIC", version)
            for case, file in zip(cases, files, strict=True)
        ]


def _check(loop: Loop, case: Case) -> None:
    if loop.project.cases.dicom(case.name) is None:
        raise InputError(
            f"Case '{case.name}' did not come from DICOM, so no DICOM segmentation can be made.",
            "Export it as nii.gz, nrrd or mha.",
        )


def _write(
    loop: Loop,
    case: Case,
    labels: np.ndarray,
    source: Path,
    folder: Path,
    kind: Literal["MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"],
    version: str,
) -> Path:
    _check(loop, case)
    identity = loop.project.cases.dicom(case.name)
    if identity is None:
        raise InputError(f"Case '{case.name}' did not come from DICOM.", "Leave it out.")
    weights = loop.weights(loop.last()) if loop.rounds() else None
    hash_ = sha256_file(weights) if weights is not None and weights.is_file() else ""
    structures = {name: value for name, value in loop.project.labels.items() if value}
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{case.name}{ENDING}"
    left_out = write_segmentation(
        labels,
        grid_of(case.images[0]),
        structures,
        source,
        identity,
        target,
        Algorithm(kind, "ALUNet", version, hash_),
        leave_out_open=True,
    )
    if left_out:
        text = f"{case.name}: {left_out:,} voxels are not annotated; in DICOM they are background."
        loop.emit(Event("message", {"text": text}))
    return target
