"""A label file as it is: its voxels, and what it says that their values mean.

What values mean is said by the file itself (the segments of a ``.seg.nrrd``), or by a description
beside it: ``dataset.json`` of nnU-Net or the Decathlon, or label descriptions of ITK-SNAP.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.channels import split_channels
from alunet.imaging.foreign import read_foreign, read_foreign_labels
from alunet.imaging.grids import Grid
from alunet.imaging.itk import sitk
from alunet.imaging.limits import MOST_BYTES
from alunet.imaging.reading import ending_of
from alunet.schema import NOT_ANNOTATED

LABEL_FOLDERS = ("labelsTr", "labelsTs", "labels", "label")
"""Folders of label files whose ``dataset.json`` is one folder above."""

_ITK_SNAP = "ITK-SnAP Label Description File"
_ITK_SNAP_LINE = re.compile(r'^\s*(\d+)\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+\d+\s+\d+\s+"(.*)"\s*$')


@dataclass(frozen=True)
class Segment:
    """A structure as a file names it: the voxels with `value` in one layer."""

    name: str
    value: int
    layer: int = 0


@dataclass(frozen=True)
class Meaning:
    """What values of a label file mean, and who says so.

    Attributes:
        segments: the structures that are named; the background may be among them.
        ignore: value of voxels that are left open, None where there is none.
        source: where it is said, for people.
    """

    segments: tuple[Segment, ...]
    ignore: int | None = None
    source: str = ""


@dataclass(frozen=True)
class LabelFile:
    """The voxels of a label file, and their meaning, None where nothing says it.

    Attributes:
        layers: 3D images on one grid; several where segments overlap.
        named: whether the file itself names its segments.
        notes: what was passed over, for people.
    """

    path: Path
    layers: tuple[sitk.Image, ...]
    meaning: Meaning | None
    named: bool = False
    notes: tuple[str, ...] = ()


def folded(name: str) -> str:
    """Return a name as it is compared: without case, in one Unicode form, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def read_label_file(
    path: Path,
    grid: Grid,
    meaning: Meaning | None = None,
    *,
    beside: bool = True,
    limit: int = MOST_BYTES,
) -> LabelFile:
    """Read a label file with what it says, else what `meaning` says, else a description beside it.

    Args:
        grid: of the image, on which contours (RTSTRUCT) become voxels.
        beside: whether a description beside the file counts.
        limit: bytes of voxels that it may have.

    Raises:
        InputError: it cannot be read, is no label map, or its description is damaged or ambiguous.
    """
    if path.is_file() and not ending_of(path):
        return _dicom(path, grid)
    image = read_foreign(path, limit).image
    segments = _segments(image, path)
    if segments is not None:
        return LabelFile(path, _layers(image), Meaning(segments, source="its header"), named=True)
    return LabelFile(
        path, (_single(image, path),), meaning or (described_beside(path) if beside else None)
    )


def _dicom(path: Path, grid: Grid) -> LabelFile:
    """Read a SEG or RTSTRUCT object."""
    found = read_foreign_labels(path, grid)
    segments = tuple(Segment(each.name, each.value, each.layer) for each in found.segments)
    layers = []
    for array in found.layers:
        layer = sitk.GetImageFromArray(array)
        layer.SetSpacing(found.grid.spacing)
        layer.SetOrigin(found.grid.origin)
        layer.SetDirection(found.grid.direction)
        layers.append(layer)
    return LabelFile(
        path, tuple(layers), Meaning(segments, source="its segments"), True, found.notes
    )


def read_description(file: Path) -> Meaning:
    """Return what a ``dataset.json`` or label descriptions of ITK-SNAP say.

    Raises:
        InputError: it is neither, or damaged.
    """
    if not file.is_file():
        raise InputError(f"There is no file {file}.", "Check the path.")
    if _is_itk_snap(file):
        return _itk_snap(file)
    from alunet.imaging.dataset import read_meaning

    return read_meaning(file)


def described_beside(path: Path) -> Meaning | None:
    """Return what a ``dataset.json`` or label descriptions of ITK-SNAP beside a label file say.

    Raises:
        InputError: the description is damaged, or there are several.
    """
    places = [path.parent, *([path.parent.parent] if path.parent.name in LABEL_FOLDERS else [])]
    for place in places:
        file = place / "dataset.json"
        if file.is_file():
            from alunet.imaging.dataset import read_meaning

            return read_meaning(file)
    return _itk_snap_beside(path)


# --- segments of 3D Slicer ------------------------------------------------------------------------


def _segments(image: sitk.Image, path: Path) -> tuple[Segment, ...] | None:
    """Return the segments that the header of a NRRD file names; None where it names none.

    As Slicer reads them: a segment without a layer is in the layer of its number, and one without a
    value has the value 1.
    """
    keys = image.GetMetaDataKeys()
    numbers = sorted(int(key[7:-5]) for key in keys if re.fullmatch(r"Segment\d+_Name", key))
    if not numbers and not any(key.startswith("Segmentation_") for key in keys):
        return None
    alone = image.GetNumberOfComponentsPerPixel() == 1 and len(numbers) > 1
    found = []
    for number in numbers:
        name = image.GetMetaData(f"Segment{number}_Name")
        layer = _whole(image, f"Segment{number}_Layer", 0 if alone else number, path)
        found.append(Segment(name, _whole(image, f"Segment{number}_LabelValue", 1, path), layer))
        if layer >= image.GetNumberOfComponentsPerPixel():
            raise InputError(
                f"{path} has no layer {layer}, in which it says that segment '{name}' is.",
                "Save the segmentation again.",
            )
    return tuple(found)


def _whole(image: sitk.Image, key: str, default: int, path: Path) -> int:
    if not image.HasMetaDataKey(key):
        return default
    text = image.GetMetaData(key).strip()
    if not re.fullmatch(r"\d{1,9}", text):
        raise InputError(f"{path} has the {key} '{text}'.", "Save the segmentation again.")
    return int(text)


def _layers(image: sitk.Image) -> tuple[sitk.Image, ...]:
    count = image.GetNumberOfComponentsPerPixel()
    if count == 1:
        return (image,)
    return tuple(sitk.VectorIndexSelectionCast(image, index) for index in range(count))


def _single(image: sitk.Image, path: Path) -> sitk.Image:
    """Return the one scalar 3D image in a label file."""
    try:
        return split_channels(image, 1, path)[0]
    except InputError as error:
        components, dimension = image.GetNumberOfComponentsPerPixel(), image.GetDimension()
        what = (
            f"{components} components (a palette or colors)"
            if components > 1
            else f"{dimension} dimensions"
        )
        raise InputError(
            f"Label {path} has {what}.",
            "Store one number a voxel, the value of its label, in 3D or 2D.",
        ) from error


# --- descriptions beside label files --------------------------------------------------------------


def _itk_snap_beside(path: Path) -> Meaning | None:
    """Return what label descriptions of ITK-SNAP say: those of the file's name, or the only
    ones.
    """
    found = [
        file
        for file in sorted(path.parent.iterdir())
        if file.suffix.lower() in (".txt", ".label", ".lbl") and _is_itk_snap(file)
    ]
    own = [file for file in found if path.name.startswith(f"{file.stem}.")]
    if len(own or found) > 1:
        names = ", ".join(file.name for file in own or found)
        raise InputError(
            f"{path} has several label descriptions beside it ({names}).",
            f"Keep one, or name one {path.name.split('.')[0]}.label.",
        )
    return _itk_snap((own or found)[0]) if found else None


def _is_itk_snap(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return _ITK_SNAP.encode() in stream.read(400)
    except OSError:
        return False


def _itk_snap(file: Path) -> Meaning:
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    pairs = [match.groups() for match in map(_ITK_SNAP_LINE.match, lines) if match]
    named = {int(value): name for value, name in pairs}
    if len(named) != len(pairs):
        raise InputError(f"{file} names a value twice.", "Save the label descriptions again.")
    segments = tuple(Segment(name, value) for value, name in named.items() if value)
    return Meaning(segments, source=str(file))


def with_ignore(meaning: Meaning | None, ignore: int | None) -> Meaning | None:
    """Return the meaning with the value of open voxels that a person names, if any."""
    if ignore is None or meaning is None:
        return meaning
    if any(segment.value == ignore for segment in meaning.segments):
        name = next(s.name for s in meaning.segments if s.value == ignore)
        raise InputError(
            f"The value {ignore} is '{name}' ({meaning.source}), so it cannot mark open voxels.",
            "Give the value that marks them.",
        )
    return replace(meaning, ignore=ignore)


def check_description(folder: Path, labels: Mapping[str, int], ignore: int | None = None) -> bool:
    """Return whether a folder has a ``dataset.json`` that says the same of label files.

    Args:
        labels: structure -> value in the files, the background 0.
        ignore: value of open voxels.

    Raises:
        InputError: it has one that says something else.
    """
    from alunet.imaging.dataset import read_meaning

    file = folder / "dataset.json"
    if not file.is_file():
        return False
    said = read_meaning(file)
    own = {folded(segment.name): segment.value for segment in said.segments}
    wanted = {folded(name): value for name, value in labels.items()}
    if own != wanted or said.ignore != ignore:
        raise InputError(
            f"{file} gives the values of label files here another meaning: {json.dumps(own)}.",
            "Choose another folder.",
        )
    return True


def write_description(folder: Path, labels: Mapping[str, int], ignore: int | None = None) -> None:
    """Write a ``dataset.json`` beside label files, so that they are read by what it says.

    Args, Raises: see `check_description`.
    """
    from alunet.storage.files import write_json

    if not check_description(folder, labels, ignore):
        content = {"labels": {**labels, **({} if ignore is None else {"ignore": ignore})}}
        write_json(folder / "dataset.json", content)


def open_value(values: tuple[int, ...]) -> int:
    """Return the value of open voxels in files that leave: `NOT_ANNOTATED`, or the next free
    below.
    """
    return next(value for value in range(NOT_ANNOTATED, 0, -1) if value not in values)
