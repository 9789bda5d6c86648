"""Labels that a person drew in a tool of theirs: read, checked against the image's grid, and
stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.grids import Grid
from alunet.imaging.label_file import Meaning
from alunet.imaging.labels import Labels, LabelSource
from alunet.imaging.reading import grid_of, read_image, split_channels
from alunet.project import Case, Project
from alunet.schema import NOT_ANNOTATED


@dataclass(frozen=True)
class Taken:
    """What became of a label image.

    Attributes:
        case: its case.
        slices: slices that were annotated, voxel indices along the slice axis, ascending.
        samples: the samples annotated, ascending; several a slice where tiles are smaller than a
            slice.
        replaced: how many of them had labels before.
        unchanged: slices that hold these very labels already; nothing was stored for them.
        empty: suggested slices left open, because the file annotates nothing there.
        in_parts: whether only the suggested parts of the slices were taken.
        open_voxels: voxels in what was taken that the file leaves open.
        notes: what a person should know of how the file was read.
    """

    case: str
    slices: tuple[int, ...]
    samples: tuple[int, ...]
    replaced: int
    unchanged: tuple[int, ...]
    empty: tuple[int, ...]
    in_parts: bool
    open_voxels: int = 0
    notes: tuple[str, ...] = ()


def annotate(
    project: Project,
    name: str,
    file: Path,
    *,
    slices: Sequence[int] = (),
    all_slices: bool = False,
    suggested: Sequence[int] = (),
    round: int,
    author: str,
    seconds: float | None = None,
    ignore: int | None = None,
    meaning: Meaning | None = None,
) -> Taken:
    """Store labels from an image file; when this returns they are on disk.

    Args:
        name: of a pool case.
        file: a label map of the whole case on its image's grid; or, with one of `slices`, of this
            slice alone (a 2D image, or a 3D image with extent 1 along the slice axis). Its values
            mean what `alunet.imaging.labels` says.
        slices: take these slices, all of each; voxel indices along the slice axis.
        all_slices: take the whole case.
        suggested: samples to take where neither is given, those that are open yet: slices that
            nobody looked at are no background.
        round: number of the round that the labels belong to.
        author: who drew them.
        seconds: time spent on the file.
        ignore: value in the file that marks voxels left open.
        meaning: what the values of the file mean, where it does not say so itself.

    Raises:
        InputError: the file does not fit the case, or there is nothing to take; nothing is changed
            then.
    """
    case = pool_case(project, name)
    if slices and all_slices:
        raise InputError(
            "Single slices and all slices are asked for.", "Give --slice or --all-slices, not both."
        )
    if seconds is not None and not 0 <= seconds < 1e6:
        raise InputError(
            f"{seconds:g} seconds are no time to spend on a label.", "Give the seconds you needed."
        )
    labels_of = LabelSource(project.cases.structures, meaning, ignore)
    read = _read(project, case, Path(file), slices, labels_of)
    drawn = read.classes
    pool = project.pool
    stored, labelled = project.annotations.read(name), project.samples.labelled()
    if slices or all_slices:
        asked = (
            samples_of_slices(project, case, slices) if slices else pool.samples_of(name).tolist()
        )
    else:
        asked = [sample for sample in suggested if pool.case_name(sample) == name]
        asked = [sample for sample in asked if not labelled[sample]] or asked
        if not asked:
            raise InputError(
                f"No slice of {name} is suggested now.",
                "Say which you drew: --slice N, or --all-slices",
            )
        asked = _covered(project, asked, read, slice_axis(case), file)
    parts = {sample: drawn[pool.raw_slices(sample)] for sample in asked}
    filled = {sample: labels for sample, labels in parts.items() if (labels != NOT_ANNOTATED).any()}
    empty = _slices(project, set(parts) - set(filled))
    missed = sorted(set(empty) - set(_slices(project, filled)))
    if not filled or (slices and missed):
        raise InputError(
            f"{file} annotates nothing in slice {missed[0]} of {name}.", "Draw it, or leave it out."
        )
    new = {
        sample: labels
        for sample, labels in filled.items()
        if not labelled[sample] or not np.array_equal(stored[pool.raw_slices(sample)], labels)
    }
    again = [sample for sample in new if labelled[sample]]
    if again and not (slices or all_slices):
        numbers = ", ".join(map(str, _slices(project, again)))
        raise InputError(
            f"What is suggested of {name} is annotated already, and {file} differs in slice "
            f"{numbers}.",
            f"To replace it say so: --slice {numbers.replace(', ', ' --slice ')}",
        )
    if new:
        project.annotations.annotate(
            name, sorted(new.items()), round=round, author=author, seconds=seconds
        )
    return Taken(
        case=name,
        slices=_slices(project, new),
        samples=tuple(sorted(new)),
        replaced=len(again),
        unchanged=tuple(sorted(set(_slices(project, filled)) - set(_slices(project, new)))),
        empty=empty,
        in_parts=not slices and not all_slices and has_tiles(project, name),
        open_voxels=_open_voxels(project, drawn, new),
        notes=read.notes,
    )


def pool_case(project: Project, name: str) -> Case:
    """The case of that name, which must be in the pool.

    Raises:
        InputError: there is no such case, it is for evaluation, or it is not planned yet.
    """
    found = [case for case in project.cases.all() if case.name == name]
    if not found and name in {case.name for case in project.cases.all(removed=True)}:
        raise InputError(f"Case {name!r} was removed.", "Restore it first.")
    if not found:
        known = ", ".join(case.name for case in project.cases.all("pool")[:3])
        raise InputError(
            f"There is no case {name!r} in the project.",
            f"Its cases are {known}, …" if known else "",
        )
    if found[0].role != "pool":
        raise InputError(f"Case {name!r} is for evaluation.", "Annotate cases of the pool.")
    pool = project.samples.known_pool()
    if pool is None or name not in pool.cases:
        raise InputError(f"Case {name!r} is not planned yet.", "Type: alunet plan")
    return found[0]


def slice_axis(case: Case) -> int:
    """Axis of the image's array (k, j, i) that is sliced."""
    if case.geometry is None:
        raise InputError(f"Case {case.name!r} is not planned yet.", "Type: alunet plan")
    return case.geometry.transpose[0]


def has_tiles(project: Project, name: str) -> bool:
    """Whether a slice of the case is more than one sample."""
    return bool(project.pool.tile[project.pool.samples_of(name)].any())


def samples_of_slices(project: Project, case: Case, slices: Sequence[int]) -> list[int]:
    """All samples of some slices of a case.

    Raises:
        InputError: a slice is outside the image, or outside the part of it that is not zero.
    """
    ids = project.pool.samples_of(case.name)
    raw, extent = project.pool.slice_raw[ids], case.shape[slice_axis(case)]
    for number in slices:
        if not 0 <= number < extent:
            raise InputError(
                f"{case.name} has no slice {number}.", f"Its slices are 0 to {extent - 1}."
            )
        if number not in raw:
            raise InputError(
                f"Slice {number} of {case.name} is empty in the image.",
                f"Use slices {raw.min()} to {raw.max()}.",
            )
    return [int(sample) for sample in ids[np.isin(raw, list(slices))]]


def _slices(project: Project, samples: object) -> tuple[int, ...]:
    return tuple(sorted({int(project.pool.slice_raw[sample]) for sample in samples}))  # type: ignore[attr-defined]


def _covered(
    project: Project, samples: list[int], read: Labels, axis: int, file: Path
) -> list[int]:
    """The samples in slices that the file covers; raises InputError where there is none."""
    low, high = read.box[axis]
    found = [sample for sample in samples if low <= project.pool.slice_raw[sample] < high]
    if not found:
        raise InputError(
            f"{file} covers no suggested slice: it has slices {low} to {high - 1}.",
            "Draw the suggested slices, or say which you drew: --slice N",
        )
    return found


def _open_voxels(project: Project, drawn: np.ndarray, samples: Iterable[int]) -> int:
    """How many voxels of the samples are left open; one in two samples counts once."""
    left = np.zeros(drawn.shape, bool)
    for sample in samples:
        place = project.pool.raw_slices(sample)
        left[place] = drawn[place] == NOT_ANNOTATED
    return int(np.count_nonzero(left))


def _read(
    project: Project, case: Case, file: Path, slices: Sequence[int], labels: LabelSource
) -> Labels:
    """Labels on the grid of the image; `NOT_ANNOTATED` where the file says nothing."""
    grid, axis = grid_of(case.images[0]), slice_axis(case)
    number = slices[0] if len(slices) == 1 else 0 if case.shape[axis] == 1 else None
    if number is not None:
        samples_of_slices(project, case, [number])
        image = read_image(file)
        if image.GetDimension() == 2 and image.GetSize() != grid.size:
            read = labels.read(file, _flat(image, file, grid, axis))
            return _of_slice(case, number, read)
    read = labels.read(file, grid)
    low, high = read.box[axis]
    outside = [slice_ for slice_ in slices if not low <= slice_ < high]
    if outside:
        covered = f"slice {low}" if high - low == 1 else f"slices {low} to {high - 1}"
        raise InputError(
            f"{file} does not cover slice {outside[0]} of {case.name}: it has {covered}.",
            "Give the slice that you drew.",
        )
    return read


def _of_slice(case: Case, number: int, read: Labels) -> Labels:
    """Labels of one slice from a 2D file, which has no place in space to check."""
    whole = np.full(case.shape, NOT_ANNOTATED, np.uint8)
    whole[(slice(None),) * slice_axis(case) + (number,)] = read.classes[0]
    return replace(read, classes=whole)


def _flat(image: sitk.Image, file: Path, grid: Grid, axis: int) -> Grid:
    """The grid of a 2D file that has the pixels of a slice."""
    flat = Grid.of(split_channels(image, 1, file)[0])
    wide = tuple(extent for place, extent in enumerate(grid.size) if place != 2 - axis)
    if flat.size[:2] != wide:
        raise InputError(
            f"{file} has {flat.size[0]} x {flat.size[1]} pixels, but a slice has {wide[0]} x "
            f"{wide[1]}.",
            "Draw on the slice as it is in the image file.",
        )
    return flat


def position(grid: Grid, index: Sequence[float]) -> tuple[float, float, float]:
    """Where the voxel with the array index (k, j, i) has its centre: x, y, z in mm, LPS."""
    step = np.array(grid.spacing) * np.array(index[::-1])
    x, y, z = (np.array(grid.origin) + np.array(grid.direction).reshape(3, 3) @ step).tolist()
    return x, y, z
