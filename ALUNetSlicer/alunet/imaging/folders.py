"""Which files of a folder are images, which are their labels, and which are neither."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alunet.errors import InputError
from alunet.imaging.foreign import read_foreign, read_foreign_grid
from alunet.imaging.grids import Grid
from alunet.imaging.itk import sitk
from alunet.imaging.reading import (
    ENDINGS,
    ending_of,
    is_series,
    stem_of,
)
from alunet.schema import SEGMENTATION_ENDING, Emit, Event, ignore_events
from alunet.schema.names import compared, composed

CaseFiles = tuple[str, list[Path], Path | None]
"""Case name, image files in channel order, reference label."""

_CHANNEL = re.compile(r"(.+)_(\d{4})")  # how nnU-Net names the file of a channel
_LABEL_SUFFIX = re.compile(r"(.+)[-_. ](?:seg|segmentation|labels?|labelmap|mask)", re.IGNORECASE)
_BROKEN_LINK = "a link to a file that is missing"
_FLAT = 0.9  # share of neighbors in a row that are equal: label maps have more, images far less
_FEWER = 4  # a label map has so many times fewer values than its image
_MOST_STRUCTURES = 256
_ADD = "Add the images too."


@dataclass(frozen=True)
class LeftOut:
    """A file that is no case and no label of one, and why.

    Attributes:
        hint: what to do where the folder holds nothing else.
    """

    file: Path
    reason: str
    hint: str = _ADD


@dataclass(frozen=True)
class FolderCases:
    """The cases of a folder, and what else is in it."""

    cases: list[CaseFiles]
    left_out: list[LeftOut]


def existing(file: Path) -> Path:
    """Return the file as its folder names it, which may be another Unicode form; else the path
    itself.
    """
    if file.is_file() or not file.parent.is_dir():
        return file
    same = [other for other in file.parent.iterdir() if composed(other.name) == composed(file.name)]
    return same[0] if len(same) == 1 else file


def looked_at(done: int, total: int | None = None) -> Event:
    """Return the event that says how many files of a folder were looked at."""
    return Event("progress", {"phase": "look", "done": done, "total": total, "unit": "files"})


def folder_cases(
    images: Path,
    labels: Path,
    channels: int | None,
    *,
    described: bool = False,
    series: str = "",
    emit: Emit = ignore_events,
) -> FolderCases:
    """Return the cases of a folder of images, with labels of the same names in another.

    ``NAME_0000``, ``NAME_0001``, … are the channels of a case where there is one for each channel,
    from 0000 on; any other file is a case of its own.

    Args:
        channels: of a case; None: as the files are named.
        described: a ``dataset.json`` says that the files are named so; then a case that lacks a
            channel is refused, no file is taken for a mask, and no DICOM is looked for.
        series: which series of an examination in DICOM, see `alunet.imaging.dicom_cases`.
        emit: hears how many files were looked at.

    Raises:
        InputError: two files are one case, or a case lacks a channel.
    """
    files, left_out = _image_files(images)
    cases = grouped(files, channels, images, described)
    if not described:
        from alunet.imaging.dicom_cases import dicom_cases

        scans, grids, others = dicom_cases(images, series, emit)
        scanned = [(name, [file]) for name, file in scans.items()]
        cases = sorted(_each_once([*cases, *scanned], images))
        left_out += others
        masks = _masks([paths[0] for _, paths in cases if len(paths) == 1], grids, emit)
        cases = [(name, paths) for name, paths in cases if paths[0] not in masks]
        left_out += [
            LeftOut(mask, f"a label map of {image.name}, no image") for mask, image in masks.items()
        ]
    known, unused = labels_by_name([name for name, _ in cases], labels)
    left_out += [
        LeftOut(file, _BROKEN_LINK if is_broken_link(file) else "a label without an image")
        for file in unused
    ]
    return FolderCases([(name, paths, known.get(name)) for name, paths in cases], left_out)


def _image_files(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """Return the image files of a folder by name; hidden files are passed over."""
    found, left_out = [], []
    for path in sorted(folder.iterdir(), key=lambda path: composed(path.name)):
        if path.name.startswith(".") or not ending_of(path):
            continue
        if is_broken_link(path):
            left_out.append(LeftOut(path, _BROKEN_LINK))
        elif not path.is_file():
            continue
        elif ending_of(path) == SEGMENTATION_ENDING:
            left_out.append(LeftOut(path, "a segmentation, no image"))
        elif not _is_text(path):
            left_out.append(LeftOut(path, "its name is not UTF-8", "Rename it."))
        else:
            found.append(path)
    # An .img is the other half of an .hdr, no case of its own.
    return [path for path in found if not _second_half(path, found)], left_out


def _is_text(path: Path) -> bool:
    """Return whether libraries of C++ can open a file: they take UTF-8 alone."""
    try:
        return bool(str(path).encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _second_half(path: Path, files: Sequence[Path]) -> bool:
    header = path.with_name(stem_of(path) + ".hdr")
    return ending_of(path) in (".img", ".img.gz") and header in files


def grouped(
    files: Sequence[Path], channels: int | None, folder: Path, described: bool
) -> list[tuple[str, list[Path]]]:
    """Return the names of cases and their files; ``NAME_0000``, ``NAME_0001``, … are one case where
    there is one for each channel.

    Args:
        folder: they are in, for errors.
        described: whether a case that lacks a channel is refused.

    Raises:
        InputError: two files are one case, or a case lacks a channel.
    """
    groups: dict[str, dict[int, Path]] = defaultdict(dict)
    alone = []
    for path in files:
        match = _CHANNEL.fullmatch(composed(stem_of(path)))
        if match and int(match.group(2)) not in groups[match.group(1)]:
            groups[match.group(1)][int(match.group(2))] = path
        else:
            alone.append(path)
    whole = {name: group for name, group in groups.items() if _is_whole(group, channels)}
    if channels is None and len({len(group) for group in whole.values()}) > 1:
        whole = {}
    for name, group in groups.items():
        if name in whole or not group:
            continue
        if described and 0 in group:
            raise InputError(
                f"Case {name} in {folder} has {len(group)} image file(s) for {channels} "
                f"channel(s).",
                f"Name the files {name}_0000, {name}_0001, …, one a channel.",
            )
        alone += group.values()
    cases = [(name, [group[index] for index in sorted(group)]) for name, group in whole.items()]
    cases += [(composed(stem_of(path)), [path]) for path in alone]
    return sorted(_each_once(cases, folder))


def _is_whole(group: dict[int, Path], channels: int | None) -> bool:
    """Whether the files are numbered as the channels 0, 1, … of one case."""
    count = len(group) if channels is None else channels
    return sorted(group) == list(range(count))


def _each_once(
    cases: Iterable[tuple[str, list[Path]]], folder: Path
) -> list[tuple[str, list[Path]]]:
    seen: dict[str, list[Path]] = {}
    for name, paths in cases:
        if name in seen:
            names = ", ".join(path.name for path in (*seen[name], *paths))
            raise InputError(
                f"{folder} holds the case {name!r} twice ({names}).", "Keep one of the files."
            )
        seen[name] = paths
    return list(seen.items())


def is_broken_link(path: Path) -> bool:
    """Whether a path is a link whose file is missing, as in data sets that are fetched in parts."""
    return path.is_symlink() and not path.exists()


def labels_by_name(names: Sequence[str], folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Return the label file of each case that has one, and the other label files of a folder.

    A label file is called like its case, maybe with "seg", "label" or the like behind:
    ``c1.nii.gz`` or ``c1-seg.nii.gz``. Where several files are called so, the only one that looks
    like a label map is it.

    Raises:
        InputError: a case has two label files.
    """
    if not folder.is_dir():
        return {}, []
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    files = [path for path in files if _may_be_label(path)]
    by_case: dict[str, list[Path]] = defaultdict(list)
    others: list[Path] = []
    for path in files:
        if not _second_half(path, files):
            name = named_like(path, names)
            (others if name is None else by_case[name]).append(path)
    found = {}
    for name in names:
        own = _only_label(by_case[name])
        if len(own) > 1:
            twice = ", ".join(path.name for path in own)
            raise InputError(
                f"{folder} holds the label of {name!r} twice ({twice}).", "Keep one of the files."
            )
        if own:
            found[name] = own[0]
        others += [path for path in by_case[name] if path not in own]
    return found, sorted(others)


def named_like(file: Path, names: Sequence[str]) -> str | None:
    """Return the case that a label file is called like, see `labels_by_name`; else None."""
    stem = compared(stem_of(file))
    match = _LABEL_SUFFIX.fullmatch(stem)
    known = {compared(name): name for name in names}
    return known.get(stem) or (known.get(match.group(1)) if match else None)


def _may_be_label(path: Path) -> bool:
    if is_broken_link(path):
        return bool(ending_of(path))
    return path.is_file() and (bool(ending_of(path)) or is_series(path))


def _only_label(files: list[Path]) -> list[Path]:
    """Return the files, but of several those alone that look like label maps, if any does."""
    if len(files) < 2:
        return files
    return [path for path in files if _looks_like_labels(path)] or files


def _looks_like_labels(path: Path) -> bool:
    """Whether a file is a segmentation, or an image of few whole numbers in areas of one value."""
    return ending_of(path) in ("", SEGMENTATION_ENDING) or _look(path).is_flat


# --- label maps beside images ---------------------------------------------------------------------


def _masks(files: Sequence[Path], grids: Mapping[Path, Grid], emit: Emit) -> dict[Path, Path]:
    """Return the files that are label maps of another one, each with that one.

    A label map has the grid of its image, whole numbers alone, far fewer of them than the image,
    and areas of one value.

    Args:
        grids: of files whose headers do not say theirs alone: DICOM series.
    """
    by_grid: dict[object, list[Path]] = defaultdict(list)
    for path in files:
        by_grid[_grid_key(path, grids.get(path))].append(path)
    found, done = {}, 0
    for key, group in by_grid.items():
        if key is None or len(group) < 2:
            continue
        looks = {}
        for path in group:
            looks[path] = _look(path)
            done += 1
            emit(looked_at(done, len(files)))
        richest = max(group, key=lambda path: looks[path].values)
        for path in group:
            look = looks[path]
            if look.is_flat and look.values * _FEWER <= looks[richest].values:
                found[path] = _nearest(path, [other for other in group if not looks[other].is_flat])
    return found


def _nearest(path: Path, images: Sequence[Path]) -> Path:
    """Return the image whose name begins most like the label map's."""

    def alike(other: Path) -> int:
        pairs = zip(path.name, other.name, strict=False)
        return next(
            (n for n, (a, b) in enumerate(pairs) if a != b), min(len(path.name), len(other.name))
        )

    return max(images, key=alike)


def _grid_key(path: Path, grid: Grid | None) -> object:
    """Return what is equal for images on one grid; None where the header cannot be read."""
    try:
        grid = grid or read_foreign_grid(path)
    except InputError:
        return None  # reading it says why
    return grid.size, tuple(round(v, 3) for v in (*grid.spacing, *grid.origin, *grid.direction))


@dataclass(frozen=True)
class _Look:
    """How many values an image has, and whether it looks like a label map."""

    values: int
    is_flat: bool


def _look(path: Path) -> _Look:
    """Look at the voxels of a file; one that cannot be read looks like an image, and is refused
    later.
    """
    try:
        image = read_foreign(path).image
    except InputError:
        return _Look(0, False)
    array = sitk.GetArrayViewFromImage(image)  # of memory that the image owns
    values: set[float] = set()
    for part in array:
        values.update(np.unique(part).tolist())
        if len(values) > _MOST_STRUCTURES * _FEWER:
            return _Look(len(values), False)
    whole = all(value == round(value) for value in values if np.isfinite(value))
    equal = float(np.mean(array[..., 1:] == array[..., :-1])) if array.shape[-1] > 1 else 0.0
    return _Look(len(values), whole and len(values) <= _MOST_STRUCTURES and equal >= _FLAT)


def nothing_found(folder: Path, left_out: Sequence[LeftOut]) -> InputError:
    """Return the error for a folder without images."""
    if left_out:
        # A series that cannot be read says more than what was never meant to be an image.
        one = next((each for each in left_out if each.hint != _ADD), left_out[0])
        return InputError(f"{folder} holds no image: {one.file.name} is {one.reason}.", one.hint)
    return InputError(f"{folder} holds no image.", f"Images end in {', '.join(ENDINGS)}.")
