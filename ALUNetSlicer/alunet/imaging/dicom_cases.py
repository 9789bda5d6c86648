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
from alunet.imaging.folders import LeftOut, looked_at
from alunet.imaging.grids import Grid
from alunet.schema import Emit, ignore_events

if TYPE_CHECKING:
    from alunet.imaging.dicom.series import DamagedFile, DicomSeries


_NAMED = 3  # damaged files beside a series are named, so many
Scans = dict[Path, Grid]
"""First file of each series, and its grid."""


class SeveralSeries(InputError):
    """Several series of one examination, of which one must be chosen.

    Attributes:
        choices: what names each for `dicom_cases`, and a name for a person.
    """

    def __init__(self, message: str, choices: Sequence[tuple[str, str]]) -> None:
        super().__init__(message, "Name the one to take (series), by its number, modality or UID.")
        self.choices = tuple(choices)


def dicom_cases(
    folder: Path, wanted: str = "", emit: Emit = ignore_events
) -> tuple[dict[str, Path], Scans, list[LeftOut]]:
    """Return name and first file of each series below a folder that can be a case, and the others.

    A case is called like the folder of its files, with the number of the series where several
    are there.

    Args:
        wanted: UID, number, modality or label of the series to take; empty: all, where no two are
            of one examination.

    Raises:
        SeveralSeries: several series are of one examination (one frame of reference, or one
            folder), and none is named.
        InputError: no series has the name that is wanted.
    """
    from alunet.imaging.foreign import list_series

    found = list_series(folder, lambda done: emit(looked_at(done)))
    taken = [series for series in found.usable if not wanted or wanted in _names(series)]
    if wanted and found.usable and not taken:
        raise InputError(
            f"{folder} holds no series '{wanted}': {_listed(found.usable)}.", "Name one of these."
        )
    _refuse_several(folder, taken)
    left_out = [
        LeftOut(series.files[0], _reason(series, found.damaged), series.problem.hint)
        for series in found.series
        if series.problem is not None and series.files
    ]
    spread = [series for series in taken if len({file.parent for file in series.files}) > 1]
    left_out += [
        LeftOut(
            series.files[0],
            "of a series whose files are in several folders, not in one",
            "Move them into one folder.",
        )
        for series in spread
    ]
    taken = [series for series in taken if series not in spread]
    left_out += [
        LeftOut(series.files[0], f"another series than '{wanted}': {series.label}")
        for series in found.usable
        if wanted and wanted not in _names(series)
    ]
    left_out += [LeftOut(label.path, f"a {label.kind}, no image") for label in found.labels]
    left_out += [LeftOut(damaged.file, damaged.reason, damaged.hint) for damaged in found.damaged]
    grids = {series.files[0]: series.grid for series in taken if series.grid is not None}
    return _named(folder, taken), grids, left_out


def _reason(series: DicomSeries, damaged: Sequence[DamagedFile]) -> str:
    """Why a series is no case, with the damaged files beside it, which may be what it lacks."""
    words = series.problem.message.removesuffix(".") if series.problem is not None else ""
    return f"a series that is no volume: {words}{_beside(series, damaged)}"


def _beside(series: DicomSeries, damaged: Sequence[DamagedFile]) -> str:
    folders = {file.parent for file in series.files}
    beside = [each for each in damaged if each.file.parent in folders]
    named = "".join(f"; {each.file.name} is {each.reason}" for each in beside[:_NAMED])
    more = len(beside) - _NAMED
    return named + (f"; {more} more files are damaged" if more > 0 else "")


def series_of(file: Path) -> DicomSeries:
    """Return the series that a file belongs to, with its other files beside it; in this process.

    Raises:
        InputError: the file is no image, or the series cannot be a volume.
    """
    from alunet.imaging.dicom.series import find_series

    folder = find_series(file.parent)
    found = [series for series in folder.series if file in series.files]
    if not found:
        found = list(find_series(file).series)
    if len(found) != 1:
        raise InputError(f"{file} holds {len(found)} images.", "Give the file of one image.")
    problem = found[0].problem
    if problem is not None:
        words = problem.message.removesuffix(".") + _beside(found[0], folder.damaged)
        raise InputError(f"{words}.", problem.hint)
    return found[0]


def _names(series: DicomSeries) -> tuple[str, ...]:
    return series.uid, str(series.number), series.modality, series.label


def _listed(series: Sequence[DicomSeries]) -> str:
    return "; ".join(each.label for each in series[:8])


def _refuse_several(folder: Path, taken: Sequence[DicomSeries]) -> None:
    groups: dict[str, list[DicomSeries]] = defaultdict(list)
    for series in taken:
        groups[series.frame_of_reference_uid or str(series.files[0].parent)].append(series)
        groups[f"folder {series.files[0].parent}"].append(series)
    several = [group for group in groups.values() if len(group) > 1]
    if several:
        raise SeveralSeries(
            f"{folder} holds {len(several[0])} series of one examination: {_listed(several[0])}.",
            _choices(several),
        )


def _choices(several: Sequence[Sequence[DicomSeries]]) -> list[tuple[str, str]]:
    """Return what names the series of the examinations, and what they are to a person.

    A series is named by its label, so that one choice holds for examinations that were made alike;
    by its UID where another one of its examination has the same.
    """
    labels = [[series.label for series in group] for group in several]
    alike = all(len(set(group)) == len(group) for group in labels)
    pairs = [
        (series.label if alike else series.uid, series.label)
        for group in several
        for series in group
    ]
    return list(dict.fromkeys(pairs))


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
