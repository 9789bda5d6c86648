"""Label files of others as the project's structures: the one reader for all ways in.

A file that says what its values mean is read by what it says. Else the values are those of the
project's own table, the numbers of the data set that it began with. What fits neither is refused
with its name or value, so that a label never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.grids import Grid, Placement, placement
from alunet.imaging.itk import sitk
from alunet.imaging.label_file import (
    LabelFile,
    Meaning,
    Segment,
    folded,
    open_value,
    read_label_file,
    with_ignore,
)
from alunet.imaging.limits import MOST_BYTES
from alunet.schema import NOT_ANNOTATED

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Removed:
    """A structure that the project had; its number and its value are never given again.

    Attributes:
        number: in the project's label maps.
        value: in label files that do not say what their values mean.
        became: what its voxels are now: a number, 0 or `NOT_ANNOTATED`.
    """

    name: str
    number: int
    value: int
    became: int


@dataclass(frozen=True)
class Structures:
    """The project's structures as label files know them.

    Attributes:
        names: of the structures, the background first.
        values: number of each in files that do not say what their values mean.
        numbers: number of each in the project's label maps, ascending; without: 0, 1, …
        removed: those that the project had.
        former: earlier names and their numbers; a file may still use them where no structure is
            called so now.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    numbers: tuple[int, ...] = ()
    removed: tuple[Removed, ...] = ()
    former: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Number the structures where that was left out."""
        if not self.numbers:
            object.__setattr__(self, "numbers", tuple(range(len(self.names))))

    @property
    def in_files(self) -> dict[str, int]:
        """Return the value of each structure, the background among them."""
        return dict(zip(self.names, self.values, strict=True))

    def numbered(self) -> Structures:
        """Return the same structures with the numbers of the project's label maps as values."""
        removed = tuple(replace(gone, value=gone.number) for gone in self.removed)
        return replace(self, values=self.numbers, removed=removed)

    def legal(self, labels: Array) -> npt.NDArray[np.bool_]:
        """Return which voxels of a label map of the project hold a structure or are open."""
        return np.isin(labels, [*self.numbers, NOT_ANNOTATED])

    def current(self, labels: Array) -> Array:
        """Return a label map in which voxels of removed structures are what these became."""
        for number, became in self.became.items():
            labels = np.where(labels == number, np.asarray(became, labels.dtype), labels)
        return labels

    @property
    def became(self) -> dict[int, int]:
        """Return what voxels of each removed structure are now, by its number."""
        found: dict[int, int] = {}
        for gone in reversed(self.removed):  # what it became may have been removed later
            found[gone.number] = found.get(gone.became, gone.became)
        return found

    def without(self, value: int) -> str | None:
        """Return the name of the removed structure that files hold as `value`, or None."""
        return next((gone.name for gone in self.removed if gone.value == value), None)

    def in_words(self) -> str:
        """Return the values of the structures for people: "2 kidney, 3 liver"."""
        return ", ".join(f"{value} {name}" for name, value in self.of_structures().items())

    def of_structures(self) -> dict[str, int]:
        """Return the value of each structure, without the background."""
        return dict(list(self.in_files.items())[1:])

    def find(self, name: str) -> int | None:
        """Return the number of the structure of that name, whatever its case and Unicode form;
        None where there is none.
        """
        pairs = [*zip(self.names, self.numbers, strict=True), *self.former]
        return next((number for own, number in pairs if folded(own) == folded(name)), None)


@dataclass(frozen=True)
class Labels:
    """The label map of an image.

    Attributes:
        classes: uint8 (k, j, i) on the image's grid: numbers of structures, or `NOT_ANNOTATED` for
            open voxels.
        box: first and last + 1 voxel that the file covers, for each axis (k, j, i); all of them
            where it names its segments, because such files are saved without their empty margins.
        notes: what a person should know of how the file was read.
    """

    classes: npt.NDArray[np.uint8]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    notes: tuple[str, ...] = ()

    @property
    def open_voxels(self) -> int:
        """How many voxels the file leaves open."""
        return int(np.count_nonzero(self.classes == NOT_ANNOTATED))


@dataclass(frozen=True)
class LabelSource:
    """Where label files come from, and what is known of the values in them.

    Attributes:
        structures: the project's.
        meaning: what a data set, or a person, says of files that do not name their segments; None:
            what a description beside each file says.
        ignore: value of voxels that are left open, as a person says it.
        beside: whether a description beside a file counts.
        limit: bytes of voxels that a file may have.
    """

    structures: Structures
    meaning: Meaning | None = None
    ignore: int | None = None
    beside: bool = True
    limit: int = MOST_BYTES

    def read(self, path: Path, grid: Grid) -> Labels:
        """Read a label file onto the grid of its image.

        Where segments overlap, the structure with the larger number wins: a tumor over its organ. A
        file that covers a part of the image has nothing in the rest. Voxels are never interpolated.

        Raises:
            InputError: the file cannot be read, holds what is no structure of the project, or has
                its voxels elsewhere than the image.
        """
        file = read_label_file(path, grid, self.meaning, beside=self.beside, limit=self.limit)
        file = replace(file, meaning=with_ignore(file.meaning, self.ignore))
        arrays = [_whole_numbers(sitk.GetArrayFromImage(layer), path) for layer in file.layers]
        if _says_nothing_is_there(file, arrays):
            return Labels(np.zeros(grid.shape, np.uint8), _box(None, grid))
        place = _place(file, grid)
        classes, notes = _classes(file, arrays, self.structures, self.ignore)
        if place is not None:
            try:
                classes = place.place(classes, grid)
            except InputError as error:
                raise InputError(f"Label {path}: {error.message}", error.hint) from error
            if not file.named and place.size != grid.size:
                covered = " x ".join(map(str, place.size))
                notes.append(
                    f"{path.name} covers {covered} of the image's voxels; the rest is background."
                )
        return Labels(classes, _box(None if file.named else place, grid), (*file.notes, *notes))


def _says_nothing_is_there(file: LabelFile, arrays: Sequence[Array]) -> bool:
    """Whether it is a segmentation in which nothing is drawn; Slicer saves those as one voxel."""
    return file.named and not any(array.any() for array in arrays)


def _place(file: LabelFile, grid: Grid) -> Placement | None:
    """Return where the file's voxels are in the image; None where they are the image's own."""
    own = Grid.of(file.layers[0])
    difference = grid.difference(own)
    if not difference:
        return None
    found = placement(grid, own)
    # A plain file that reaches out of the image has rather its axes swapped than a margin.
    if found is None or not (file.named or found.is_inside(grid)):
        raise InputError(
            f"Label {file.path} does not fit its image: {difference}.",
            "Resample it to the image with nearest-neighbor interpolation.",
        )
    return found


def _box(place: Placement | None, grid: Grid) -> Any:
    if place is None:
        return tuple((0, extent) for extent in grid.shape)
    pairs = zip(place.start, place.size, grid.size, strict=True)
    return tuple((max(0, low), min(low + size, extent)) for low, size, extent in pairs)[::-1]


def _whole_numbers(array: Array, path: Path) -> Array:
    """Return the voxels as integers."""
    if array.dtype.kind != "f":
        return array
    broken = ~(np.isfinite(array) & (array == np.round(array)))
    if broken.any():
        value = array[broken].min()
        raise InputError(
            f"Label {path} holds the value {value:g}, which is no whole number.",
            "Store whole numbers.",
        )
    return array.astype(np.int64)


def _classes(
    file: LabelFile, arrays: Sequence[Array], structures: Structures, ignore: int | None
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return the classes on the file's own grid, and notes."""
    found = [_values(array) for array in arrays]
    if file.meaning is None:
        table, notes = _by_table(file.path, found[0], structures, ignore)
        return _mapped(arrays[0], table), notes
    tables = [
        _by_name(file, file.meaning, layer, values, structures, arrays[layer])
        for layer, values in enumerate(found)
    ]
    classes = _mapped(arrays[0], tables[0])
    covered = 0
    for array, table in zip(arrays[1:], tables[1:], strict=True):
        more = _mapped(array, table)
        covered += int(np.count_nonzero((classes != 0) & (more != 0) & (classes != more)))
        classes = np.maximum(classes, more)
    notes = []
    if covered:
        rule = "the structure with the larger number was taken"
        notes.append(f"{file.path.name}: segments overlap in {covered:,} voxels; {rule}.")
    return classes, notes


def _values(array: Array) -> set[int]:
    """Return the values that occur; slice by slice, which needs less memory and is faster."""
    return {int(value) for part in array for value in np.unique(part)}


def _mapped(array: Array, table: dict[int, int]) -> npt.NDArray[np.uint8]:
    """Return the class of each voxel; `table` has every value of the array."""
    values = np.array(sorted(table))
    classes = np.array([table[value] for value in values.tolist()], np.uint8)
    if values[0] < 0 or values[-1] > 0xFFFF:
        return classes[np.searchsorted(values, array)]
    lookup = np.zeros(values[-1] + 1, np.uint8)
    lookup[values] = classes
    return lookup[array]


def _by_name(
    file: LabelFile,
    meaning: Meaning,
    layer: int,
    found: set[int],
    structures: Structures,
    array: Array,
) -> dict[int, int]:
    """Return the class of each value that occurs in a layer, by the names that the file gives."""
    own = [segment for segment in meaning.segments if segment.layer == layer]
    background = any(structures.find(segment.name) == 0 for segment in meaning.segments)
    table = {} if background else {0: 0}
    for segment in own:
        if segment.value not in found:
            continue
        known = structures.find(segment.name)
        if known is None:
            raise _unknown(file, segment, int((array == segment.value).sum()), structures)
        table[segment.value] = known
    if meaning.ignore is not None:
        table[meaning.ignore] = NOT_ANNOTATED
    strange = sorted(found - set(table))
    if strange:
        raise InputError(
            f"Label {file.path} holds the value {strange[0]}, which {meaning.source} does not "
            f"name.",
            "Correct the file or its description.",
        )
    return table


def _unknown(file: LabelFile, segment: Segment, voxels: int, structures: Structures) -> InputError:
    known = ", ".join(f"'{name}'" for name in structures.names[1:])
    gone = [old.name for old in structures.removed if folded(old.name) == folded(segment.name)]
    if gone:
        return InputError(
            f"Label {file.path} holds '{gone[0]}' ({voxels:,} voxels), "
            f"which was removed from the project.",
            f"Make them one of {known}, or take the segment out of the file.",
        )
    return InputError(
        f"Label {file.path} holds '{segment.name}' ({voxels:,} voxels), "
        f"which is no structure of the project.",
        f"The project has {known}. Rename the segment, or take it out of the file.",
    )


def _refuse_two_meanings(path: Path, found: set[int], structures: Structures) -> None:
    """Raise InputError where the values may be those of the project's own proposals as well."""
    own = dict(zip(structures.numbers, structures.names, strict=True))
    drawn = found - {0}
    if structures.values == structures.numbers or not drawn or not drawn <= set(own):
        return
    theirs = {value: name for name, value in structures.in_files.items()}
    value = next((v for v in sorted(drawn) if own[v] != theirs[v]), None)
    if value is not None:
        raise InputError(
            f"Nothing says whether {value} in {path} is '{theirs[value]}', as in the data set, or "
            f"'{own[value]}', as in proposals.",
            "Put a dataset.json beside the file that names its values, or name one (described by).",
        )


def _by_table(
    path: Path, found: set[int], structures: Structures, ignore: int | None
) -> tuple[dict[int, int], list[str]]:
    """Return the class of each value by the project's own table, where nothing says what they
    are.
    """
    table = dict(zip(structures.values, structures.numbers, strict=True))
    if ignore is not None:
        if ignore in table:
            name = structures.names[structures.values.index(ignore)]
            raise InputError(
                f"The value {ignore} is '{name}', so it cannot mark open voxels.",
                "Give the value that marks them.",
            )
        table[ignore] = NOT_ANNOTATED
    strange = sorted(found - set(table))
    if not strange:
        _refuse_two_meanings(path, found, structures)
        return table, []
    if found <= {0, 255} and len(structures.names) == 2:
        note = f"{path.name}: 255 was taken as '{structures.names[1]}', the only structure."
        return {0: 0, 255: 1}, [note]
    value = strange[0] if strange[0] < 0 else strange[-1]
    pairs = zip(structures.values, structures.names, strict=True)
    known = ", ".join(f"{number} {name}" for number, name in pairs)
    gone = [old for old in strange if structures.without(old)]
    if gone:
        raise InputError(
            f"Label {path} holds '{structures.without(gone[0])}', which was removed from the "
            f"project.",
            f"Change its voxels to one of the labels {known}.",
        )
    raise InputError(
        f"Label {path} holds the value {value}, but the labels are {known}.",
        f"Correct the file, or describe its values in a dataset.json beside it; if {value} marks "
        "voxels that are not annotated, say so (ignore value).",
    )


# --- files that leave -----------------------------------------------------------------------------


def outside_values(
    values: Sequence[int], numbers: Sequence[int]
) -> tuple[npt.NDArray[np.integer[Any]], int]:
    """Return the value of each number in files that leave, by number, and the value of open voxels.

    The array has 256 entries, uint8 or uint16; the last is the value of `NOT_ANNOTATED`.

    Args:
        values: of the structures in the files.
        numbers: of the structures in the project's label maps, in the same order.
    """
    ignore = open_value(tuple(values))
    kind = np.uint8 if max(values) <= 255 else np.uint16
    table = np.full(NOT_ANNOTATED + 1, ignore, kind)
    table[list(numbers)] = values
    return table, ignore
