"""Labels that a person drew in a tool of theirs: read, checked against the image's grid, and
stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alunet.errors import InputError
from alunet.imaging.channels import split_channels
from alunet.imaging.foreign import read_foreign
from alunet.imaging.grids import Grid
from alunet.imaging.itk import sitk
from alunet.imaging.label_file import Meaning
from alunet.imaging.labels import Labels, LabelSource
from alunet.imaging.reading import grid_of
from alunet.loop.slices import has_tiles, pool_case, samples_of_slices, slice_axis, slices_of
from alunet.project import Case, Project
from alunet.project.annotations import Beyond
from alunet.schema import NOT_ANNOTATED

IMPORTED = "imported"
"""Author of labels that were there before the project."""


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
        unseen_voxels: drawn voxels of the case that are kept, but that no training sees, because
            the image is 0 there.
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
    unseen_voxels: int = 0
    notes: tuple[str, ...] = ()


def annotate(
    project: Project,
    name: str,
    file: Path,
    *,
    slices: Sequence[int] = (),
    all_slices: bool = False,
    drawn_slices: bool = False,
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
        drawn_slices: take the slices in which a structure is drawn, all of each.
        suggested: samples to take where none of these is given, those that are open yet: slices
            that nobody looked at are no background.
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
    if bool(slices) + all_slices + drawn_slices > 1:
        raise InputError(
            "Single slices, all slices or drawn slices are asked for at once.",
            "Give --slice, --all-slices or --drawn-slices, not both.",
        )
    if seconds is not None and not 0 <= seconds < 1e6:
        raise InputError(
            f"{seconds:g} seconds are no time to spend on a label.", "Give the seconds you needed."
        )
    labels_of = LabelSource(project.cases.structures, meaning, ignore)
    read = read_for_case(project, case, Path(file), slices, labels_of)
    pool = project.pool
    if slices:
        asked = samples_of_slices(project, case, slices)
    elif all_slices:
        asked = pool.samples_of(name).tolist()
    elif drawn_slices:
        asked = samples_drawn(project, case, read)
        if not asked:
            raise InputError(
                f"Nothing is drawn in {file}.", "If nothing is there, take it with --all-slices."
            )
    else:
        asked = open_samples(project, name, suggested)
        if not asked:
            raise InputError(
                f"No slice of {name} is suggested now.",
                "Say which you drew: --slice N, --drawn-slices, or --all-slices",
            )
        asked = _covered(project, asked, read, slice_axis(case), file)
    found = compare(project, case, read, asked)
    missed = sorted(set(found.empty) - set(slices_of(project, found.filled)))
    if not found.filled or (slices and missed):
        raise InputError(
            f"{file} annotates nothing in slice {missed[0]} of {name}.", "Draw it, or leave it out."
        )
    done = [sample for sample in found.again if settled(project)[sample]]
    if done and not (slices or all_slices or drawn_slices):
        numbers = ", ".join(map(str, slices_of(project, done)))
        raise InputError(
            f"What is suggested of {name} is annotated already, and {file} differs in slice "
            f"{numbers}.",
            f"To replace it say so: --slice {numbers.replace(', ', ' --slice ')}",
        )
    store(project, found, all_slices=all_slices, round=round, author=author, seconds=seconds)
    in_parts = not (slices or all_slices or drawn_slices) and has_tiles(project, name)
    return replace(taken(project, found), in_parts=in_parts)


# --- a label map against what is annotated --------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """What of a label map is new to its case.

    Attributes:
        filled: samples that the label map annotates.
        new: those of them without these very labels yet, with their labels.
        again: those of the new ones that have other labels.
        empty: slices that were asked for and in which it annotates nothing.
    """

    case: str
    read: Labels
    filled: tuple[int, ...]
    new: dict[int, np.ndarray]
    again: tuple[int, ...]
    empty: tuple[int, ...]

    def without_again(self) -> Compared:
        """Return the same without what has other labels."""
        left = {sample: own for sample, own in self.new.items() if sample not in self.again}
        filled = tuple(sample for sample in self.filled if sample not in self.again)
        return replace(self, filled=filled, new=left, again=())


def compare(project: Project, case: Case, read: Labels, asked: Iterable[int]) -> Compared:
    """Return what a label map says of the samples, against what is annotated of them."""
    pool, labelled = project.pool, project.samples.labelled()
    stored = project.annotations.read(case.name)
    parts = {sample: read.classes[pool.raw_slices(sample)] for sample in asked}
    filled = {sample: labels for sample, labels in parts.items() if (labels != NOT_ANNOTATED).any()}
    new = {
        sample: labels
        for sample, labels in filled.items()
        if not labelled[sample] or not np.array_equal(stored[pool.raw_slices(sample)], labels)
    }
    again = tuple(sample for sample in new if labelled[sample])
    empty = slices_of(project, set(parts) - set(filled))
    return Compared(case.name, read, tuple(filled), new, again, empty)


def store(
    project: Project,
    found: Compared,
    *,
    all_slices: bool = False,
    round: int,
    author: str,
    seconds: float | None = None,
) -> None:
    """Store what is new; when this returns it is on disk.

    Args:
        all_slices: also what is drawn in slices that have no sample, because the image is 0 there.
    """
    beyond = _beyond(project, found, all_slices)
    stored = project.annotations.read(found.case)
    if found.new or not np.array_equal(stored[beyond[0]], beyond[1]):
        project.annotations.annotate(
            found.case,
            sorted(found.new.items()),
            round=round,
            author=author,
            seconds=seconds,
            beyond=beyond,
        )


def taken(project: Project, found: Compared) -> Taken:
    """Return what became of the label map where all that is new is stored."""
    slices = slices_of(project, found.new)
    return Taken(
        case=found.case,
        slices=slices,
        samples=tuple(sorted(found.new)),
        replaced=len(found.again),
        unchanged=tuple(sorted(set(slices_of(project, found.filled)) - set(slices))),
        empty=found.empty,
        in_parts=False,
        open_voxels=_open_voxels(project, found.read.classes, found.new),
        unseen_voxels=project.annotations.unseen_voxels().get(found.case, 0),
        notes=found.read.notes,
    )


def open_samples(project: Project, name: str, suggested: Sequence[int]) -> list[int]:
    """Return the suggested samples of a case that are open yet; all of them where none is."""
    done = settled(project)
    own = [sample for sample in suggested if project.pool.case_name(sample) == name]
    return [sample for sample in own if not done[sample]] or own


def settled(project: Project) -> np.ndarray:
    """Return which samples are labeled and need not be looked at again, bool (n,)."""
    found = project.samples.labelled()
    found[list(project.worklist.flagged())] = False
    return found


def samples_drawn(project: Project, case: Case, read: Labels) -> list[int]:
    """Return all samples of the slices in which a label map has a structure."""
    axis = slice_axis(case)
    drawn = (read.classes != 0) & (read.classes != NOT_ANNOTATED)
    numbers = np.flatnonzero(drawn.any(tuple(other for other in range(3) if other != axis)))
    ids = project.pool.samples_of(case.name)
    return [int(sample) for sample in ids[np.isin(project.pool.slice_raw[ids], numbers)]]


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


def _beyond(project: Project, found: Compared, all_slices: bool) -> Beyond:
    """What is drawn beyond the part of the image that is not 0: in slices of which all is filled
    and, with `all_slices`, in those that have no sample.
    """
    geometry = project.cases.row(found.case).geometry
    if geometry is None:
        raise InputError(f"Case {found.case!r} is not planned yet.", "Plan the project first.")
    drawn, filled = found.read.classes, set(found.filled)
    ids = project.pool.samples_of(found.case)
    slice_of = project.pool.slice_raw[ids]
    beyond = np.zeros(drawn.shape, bool)
    along = np.moveaxis(beyond, geometry.transpose[0], 0)
    for number in range(len(along)):
        own = ids[slice_of == number].tolist()
        along[number] = filled.issuperset(own) if own else all_slices
    beyond[geometry.raw_crop] = False
    return beyond, drawn[beyond]


def _open_voxels(project: Project, drawn: np.ndarray, samples: Iterable[int]) -> int:
    """How many voxels of the samples are left open; one in two samples counts once."""
    left = np.zeros(drawn.shape, bool)
    for sample in samples:
        place = project.pool.raw_slices(sample)
        left[place] = drawn[place] == NOT_ANNOTATED
    return int(np.count_nonzero(left))


def read_for_case(
    project: Project, case: Case, file: Path, slices: Sequence[int], labels: LabelSource
) -> Labels:
    """Labels on the grid of the image; `NOT_ANNOTATED` where the file says nothing."""
    project.cases.files.check_case(case.name, case.images)
    grid, axis = grid_of(case.images[0]), slice_axis(case)
    number = slices[0] if len(slices) == 1 else 0 if case.shape[axis] == 1 else None
    if number is not None:
        samples_of_slices(project, case, [number])
        image = read_foreign(file, labels.limit).image
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
