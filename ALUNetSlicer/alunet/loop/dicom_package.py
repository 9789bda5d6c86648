"""Labels on their way to DICOM SEG objects: packed where the project is, written where the images'
DICOM is. No attribute of a patient or a study is in the package.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.imaging.dicom.export import Algorithm
from alunet.imaging.dicom.series import SeriesIdentity, check_identity
from alunet.imaging.foreign import list_series
from alunet.imaging.reading import EXACT_ENDING, grid_of, read_labels
from alunet.imaging.writing import write_like
from alunet.loop.dicom_export import (
    Drawn,
    DrawnStructures,
    algorithm_of_labels,
    algorithm_of_model,
    annotated_cases,
    drawn_structures,
    segmented_cases,
    write_segmentations,
)
from alunet.loop.loop import Loop
from alunet.schema import Emit
from alunet.schema.names import CASE, usable_name
from alunet.storage.files import atomic_path

_DESCRIPTION = "segmentations.json"


def pack_labels(loop: Loop, names: Sequence[str], file: Path, version: str) -> Path:
    """Write what is annotated of cases as a zip file, of which `write_package` makes SEG objects.

    It holds labels, names of structures, UIDs, and who drew the labels.

    Args:
        names, version: see `alunet.loop.dicom_export.export_labels`.

    Raises:
        InputError: as `export_labels`, or the file cannot be written.
    """
    return _pack(loop, annotated_cases(loop, names), algorithm_of_labels(loop, version), file)


def pack_predictions(loop: Loop, names: Sequence[str], file: Path, version: str) -> Path:
    """Write what the newest model made of cases, as `pack_labels` does.

    Raises:
        InputError: there is no model, a case was not segmented by it or did not come from DICOM, or
            the file cannot be written.
    """
    return _pack(loop, segmented_cases(loop, names), algorithm_of_model(loop, version), file)


def _pack(loop: Loop, drawn: Sequence[Drawn], algorithm: Algorithm, file: Path) -> Path:
    images = {case.name: case.images[0] for case in loop.project.cases.all()}
    about = {
        **asdict(drawn_structures(loop)),
        "algorithm": asdict(algorithm),
        "cases": [{"name": case.name, **asdict(case.identity)} for case in drawn],
    }
    with (
        tempfile.TemporaryDirectory(dir=file.parent) as folder,
        atomic_path(file) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive,
    ):
        for number, case in enumerate(drawn):
            labels = Path(folder) / f"{number}{EXACT_ENDING}"
            write_like(case.labels(), images[case.name], labels)
            archive.write(labels, labels.name)
        archive.writestr(_DESCRIPTION, json.dumps(about, ensure_ascii=False))
    return file


def write_package(package: Path, source: Path, folder: Path, emit: Emit) -> list[Path]:
    """Write the labels of a package as SEG objects, each into ``folder/NAME.dcm``.

    Args:
        package: see `pack_labels`.
        source: folder with the DICOM files that the cases came from; attributes of patient and
            study are read there.
        emit: hears the progress.

    Raises:
        InputError: it is no such package, `source` lacks a series, or a file cannot be written.
    """
    with tempfile.TemporaryDirectory() as place:
        try:
            with zipfile.ZipFile(package) as archive:
                about = json.loads(archive.read(_DESCRIPTION))
                drawn = [
                    _drawn(case, Path(archive.extract(f"{number}{EXACT_ENDING}", place)))
                    for number, case in enumerate(about["cases"])
                ]
                numbers = {str(name): int(number) for name, number in about["numbers"].items()}
                colors = {str(name): str(color) for name, color in about["colors"].items()}
                structures = DrawnStructures(numbers, colors)
                algorithm = Algorithm(**about["algorithm"])
        except OSError as error:
            raise InputError(
                f"{package} cannot be read: {error.strerror or error}.", "Fetch it again."
            ) from error
        except (zipfile.BadZipFile, LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{package} is no package of labels for DICOM.",
                "Give the file of an export of labels with the format dcm.",
            ) from error
        if not drawn:
            raise InputError(f"{package} holds no case.", "Export annotated cases.")
        return write_segmentations(drawn, structures, list_series(source), folder, algorithm, emit)


def _drawn(about: dict[str, Any], file: Path) -> Drawn:
    usable_name(about["name"], CASE, known=True)
    identity = SeriesIdentity(
        about["series_uid"], tuple(about["instance_uids"]), about["frame_of_reference_uid"]
    )
    check_identity(identity)
    return Drawn(about["name"], identity, grid_of(file), lambda: read_labels(file))
