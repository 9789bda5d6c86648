"""DICOM series as cases: one of its files stands for a series, wherever an image file is asked
for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alunet.errors import InputError
from alunet.imaging.folders import LeftOut
from alunet.imaging.grids import Grid

if TYPE_CHECKING:
    import SimpleITK as sitk

    from alunet.imaging.dicom.series import DicomSeries, SeriesIdentity


Scans = dict[Path, Grid]
"""First file of each series, and its grid."""


def dicom_cases(folder: Path, wanted: str = "") -> tuple[dict[str, Path], Scans, list[LeftOut]]:
    """Return name and first file of each series below a folder that can be a case, and the others.

    A case is called like the folder of its files, with the number of the series where several
    are there.

    Args:
        wanted: UID, number, modality or label of the series to take; empty: all, where no two are
            of one examination.

    Raises:
        InputError: several series are of one examination (one frame of reference, or one folder),
            and none is named.
    """
    from alunet.imaging.dicom.series import find_series

    found = find_series(folder)
    taken = [series for series in found.usable if not wanted or wanted in _names(series)]
    if wanted and found.usable and not taken:
        raise InputError(
            f"{folder} holds no series '{wanted}': {_listed(found.usable)}.", "Name one of these."
        )
    _refuse_several(folder, taken)
    left_out = [
        LeftOut(
            series.files[0],
            f"a series that is no volume: {series.problem.message.removesuffix('.')}",
        )
        for series in found.series
        if series.problem is not None and series.files
    ]
    left_out += [LeftOut(label.path, f"a {label.kind}, no image") for label in found.labels]
    left_out += [LeftOut(folder, error.message) for error in found.damaged]
    grids = {series.files[0]: series.grid for series in taken if series.grid is not None}
    return _named(folder, taken), grids, left_out


def series_of(file: Path) -> DicomSeries:
    """Return the series that a file belongs to, with its other files beside it.

    Raises:
        InputError: the file is no image, or the series cannot be a volume.
    """
    from alunet.imaging.dicom.series import find_series

    found = [series for series in find_series(file.parent).series if file in series.files]
    if not found:
        found = list(find_series(file).series)
    if len(found) != 1:
        raise InputError(f"{file} holds {len(found)} images.", "Give the file of one image.")
    if found[0].problem is not None:
        raise found[0].problem
    return found[0]


def read_series_of(file: Path) -> tuple[sitk.Image, SeriesIdentity]:
    """Read the series that a file belongs to.

    Raises:
        InputError: see `series_of`, or a file is damaged.
    """
    from alunet.imaging.dicom.volume import read_series

    return read_series(series_of(file))


def _names(series: DicomSeries) -> tuple[str, ...]:
    return series.uid, str(series.number), series.modality, series.label


def _listed(series: Sequence[DicomSeries]) -> str:
    return "; ".join(each.label for each in series[:8])


def _refuse_several(folder: Path, taken: Sequence[DicomSeries]) -> None:
    groups: dict[str, list[DicomSeries]] = defaultdict(list)
    for series in taken:
        groups[series.frame_of_reference_uid or str(series.files[0].parent)].append(series)
        groups[f"folder {series.files[0].parent}"].append(series)
    several = next((group for group in groups.values() if len(group) > 1), None)
    if several is not None:
        raise InputError(
            f"{folder} holds {len(several)} series of one examination: {_listed(several)}.",
            "Name the one to take (series), by its number, modality or UID.",
        )


def _named(folder: Path, taken: Sequence[DicomSeries]) -> dict[str, Path]:
    cases: dict[str, Path] = {}
    for series in taken:
        file = series.files[0]
        name = _case_name(file.parent.name or folder.absolute().name)
        if name in cases:
            name = f"{_case_name(file.parent.parent.name)}_{name}"
        if name in cases:
            name = f"{name}_{len(cases)}"
        cases[name] = file
    return cases


def _case_name(text: str) -> str:
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]+', "_", text).strip(" .") or "case"
