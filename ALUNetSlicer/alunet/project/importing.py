"""From files of others to the project's own: everything is checked before anything is written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from alunet.errors import InputError
from alunet.imaging.channels import check_voxels, split_channels
from alunet.imaging.dicom.series import SeriesIdentity
from alunet.imaging.folders import CaseFiles, LeftOut
from alunet.imaging.foreign import read_foreign
from alunet.imaging.grids import Grid
from alunet.imaging.itk import sitk
from alunet.imaging.labels import Labels, LabelSource
from alunet.imaging.reading import (
    EXACT_ENDING,
    KEPT_ENDINGS,
    Told,
    ending_of,
    ignore_part,
    without_entries,
    write_image,
)
from alunet.project.identity import Content, stamp_of
from alunet.schema import SEGMENTATION_ENDING, Emit, Event
from alunet.schema.names import CASE, compared, usable_name
from alunet.storage.files import remove_leftovers

_NAMED = 20  # files that were left out are named, so many
_READ = 0.5  # of the time that a file takes
_REPORT_SECONDS = 0.2
Item = TypeVar("Item")


@dataclass(frozen=True)
class Source:
    """One channel of a case, and how it is kept.

    Attributes:
        path: the file that it comes from.
        part: index among the images in the file.
        name: file name to keep it under.
        voxels: as they were checked, where they are held until they are stored.
    """

    path: Path
    part: int
    name: str = ""
    voxels: sitk.Image | None = field(default=None, compare=False, repr=False)


class Held:
    """Holds voxels between check and storing while they are few, so that they are read once.

    Args:
        room: bytes that may be held.
    """

    def __init__(self, room: int = 512 << 20) -> None:
        self._room = room

    def take(self, image: sitk.Image) -> sitk.Image | None:
        """Return the image where there is room to hold it, else None."""
        values = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
        size = values * image.GetSizeOfPixelComponent()
        if size > self._room:
            return None
        self._room -= size
        return image


@dataclass(frozen=True)
class CheckedCase:
    """A case whose files can be imported.

    Attributes:
        label: file of the reference label, None where there is none.
        content: the voxels of all channels as one number, see `alunet.project.identity`.
        stamp: of the files that they come from.
        label_content: the label map as one number.
        dicom: UIDs of the DICOM series that it comes from, where it comes from one.
        notes: what a person should know of how the label was read.
    """

    name: str
    grid: Grid
    images: tuple[Source, ...]
    label: Path | None
    content: str
    stamp: str
    label_content: str = ""
    dicom: SeriesIdentity | None = None
    notes: tuple[str, ...] = ()

    @property
    def kept_label(self) -> str | None:
        """File name that the label is kept under."""
        return None if self.label is None else self.name + EXACT_ENDING


def check_case(
    name: str,
    files: Sequence[Path],
    label: Path | None,
    channels: int,
    labels: LabelSource,
    told: Told = ignore_part,
    held: Held | None = None,
) -> CheckedCase:
    """Reads all files of a case once and decides how each is kept.

    Args:
        name: of the case.
        files: image files in channel order; one file may hold several channels.
        label: reference segmentation, if there is one.
        channels: number of channels that the project needs.
        labels: what values of the label file mean.
        told: hears how much of the case is checked; what it raises ends the check.
        held: what holds the voxels until they are stored; None: nothing does.

    Raises:
        InputError: a file cannot be used, or the files do not fit each other.
    """
    if not files:
        raise InputError(f"Case {name} has no image file.", f"Give {channels} channel(s).")
    grid, found, content, dicom = None, [], Content(), None
    notes: list[str] = []
    flat = True
    for number, path in enumerate(files):
        file_told = _within(told, number, len(files) + (label is not None))
        if ending_of(path) == SEGMENTATION_ENDING:
            raise InputError(f"{path} is a segmentation, no image.", "Give it as a label.")
        read = read_foreign(path, labels.limit)
        dicom, parts = read.series, split_channels(read.image, channels, path)
        file_told(_READ)
        for part, image in enumerate(parts):
            own = Grid.of(image)
            grid = grid or own
            difference = grid.difference(own)
            if difference:
                raise InputError(
                    f"Case {name}: {path} does not fit {files[0]}: {difference}.", "Resample it."
                )
            varies, said = check_voxels(image, path)
            notes += said
            flat = flat and not varies
            content.add(image, _within(_within(file_told, 1, 2), part, len(parts)))
            found.append(Source(path, part, voxels=None if held is None else held.take(image)))
    if flat:
        raise InputError(f"Case {name}: {notes[0]}", "Leave this case out.")
    if len(found) != channels or grid is None:
        raise InputError(
            f"Case {name} has {len(found)} channel(s), but the project has {channels}.",
            "Give each once; for other channels make another project.",
        )
    images = [
        replace(source, name=f"{name}_{i:04d}{EXACT_ENDING}") for i, source in enumerate(found)
    ]
    stamp = stamp_of([*files, *([label] if label else [])])
    case = CheckedCase(
        name,
        grid,
        tuple(images),
        label,
        str(content),
        stamp,
        notes=tuple(notes),
        dicom=dicom if len(files) == 1 else None,
    )
    return case if label is None else _with_label(case, labels.read(label, grid), label.name)


def _with_label(case: CheckedCase, read: Labels, name: str) -> CheckedCase:
    content, notes = Content(), [*case.notes, *read.notes]
    content.add(sitk.GetImageFromArray(read.classes))
    if read.open_voxels:
        notes.append(f"{name}: {read.open_voxels:,} voxels are open and count for nothing.")
    return replace(case, label_content=str(content), notes=tuple(notes))


def _within(told: Told, number: int, count: int) -> Told:
    """What hears of one of `count` equal parts, as a part of the whole."""
    return lambda part: told((number + part) / count)


def store_case(
    case: CheckedCase,
    images: Path,
    folder: Path,
    labels: LabelSource,
    told: Told = ignore_part,
) -> None:
    """Writes the files of a checked case into the project's folders; existing files of the names
    are replaced.

    Args:
        images, folder: of the project's images, and of its labels.
        told: hears how much of the case is stored; what it raises ends that.

    The caller makes the folders durable with `sync_folder`, once for all cases.
    """
    channels = len(case.images)
    for number, source in enumerate(case.images):
        file_told = _within(told, number, channels + (case.label is not None))
        part = source.voxels
        if part is None:
            read = read_foreign(source.path, labels.limit).image
            part = split_channels(read, channels, source.path)[source.part]
        file_told(_READ)
        _write(part, case.grid, images / source.name)
    if case.label is None or case.kept_label is None:
        return
    classes = labels.read(case.label, case.grid).classes
    _write(sitk.GetImageFromArray(classes), case.grid, folder / case.kept_label)


def remove_files(name: str, channels: int, images: Path, labels: Path) -> None:
    """Remove what a process that was killed stored of a case that it had not registered yet."""
    for channel in range(channels):
        for ending in (*KEPT_ENDINGS, EXACT_ENDING):
            (images / f"{name}_{channel:04d}{ending}").unlink(missing_ok=True)
    (labels / (name + EXACT_ENDING)).unlink(missing_ok=True)
    for folder in (images, labels):
        remove_leftovers(folder)


@contextlib.contextmanager
def undone_on_failure(cases: Sequence[CheckedCase], images: Path, labels: Path) -> Iterator[None]:
    """Removes the files of the cases where the block, which stores and registers them, does not
    end well.
    """
    try:
        yield
    except BaseException:  # also Ctrl-C: files that no database knows would stay for ever
        for case in cases:
            files = [images / source.name for source in case.images]
            for file in [*files, *([labels / case.kept_label] if case.kept_label else [])]:
                file.unlink(missing_ok=True)
        raise


def _write(image: sitk.Image, grid: Grid, path: Path) -> None:
    clean = without_entries(image)
    clean.SetSpacing(grid.spacing)
    clean.SetOrigin(grid.origin)
    clean.SetDirection(grid.direction)
    write_image(clean, path, sync=False)


def counted(
    items: Sequence[Item], phase: str, emit: Emit, unit: str = "cases"
) -> Iterator[tuple[Item, Told]]:
    """Pass items on, each with what hears how much of it is done, and report how many are done.

    A part of an item is reported where the item takes long.
    """
    start = last = time.monotonic()
    about = {"phase": phase, "total": len(items), "unit": unit}

    def report(done: float) -> None:
        nonlocal last
        last = time.monotonic()
        left = (last - start) / done * (len(items) - done)
        emit(Event("progress", {**about, "done": done, "seconds_left": left}))

    def hear(number: int, part: float) -> None:
        if part > 0 and time.monotonic() - last > _REPORT_SECONDS:
            report(round(number + part, 3))

    if items:  # a large image is read, or written, in one call that reports nothing
        emit(Event("progress", {**about, "done": 0}))
    for number, item in enumerate(items):
        yield item, partial(hear, number)
        report(number + 1)


@dataclass(frozen=True)
class KnownCase:
    """What tells a case of the project from others.

    Attributes:
        content: None where it is not known: the case was added before it was kept so.
    """

    name: str
    role: str
    images: str
    content: str | None
    stamp: str | None
    state: str = "present"


def check_new_names(cases: Sequence[CaseFiles]) -> None:
    """Raise InputError for a name that is bad, or there twice on some file system."""
    seen: set[str] = set()
    for name, _, _ in cases:
        usable_name(name, CASE)
        if compared(name) in seen:
            raise InputError(f"There are two cases {name!r}.", "Rename one, or leave it out.")
        seen.add(compared(name))


def note_same_scans(
    checked: Sequence[CheckedCase], known: Iterable[KnownCase]
) -> list[CheckedCase]:
    """Return new cases with a note where one has the voxels of another case."""
    first = {own.content: (own.name, own.role) for own in known if own.content}
    noted = []
    for case in checked:
        name, role = first.setdefault(case.content, (case.name, "new"))
        text = f"'{case.name}' is the same scan as '{name}' ({role}): one of them is too many."
        noted.append(case if name == case.name else replace(case, notes=(*case.notes, text)))
    return noted


def say_removed(cases: Sequence[CaseFiles], known: Mapping[str, KnownCase], emit: Emit) -> None:
    """Say which cases were removed from the project before."""
    for name, _, _ in cases:
        own = known.get(compared(name))
        if own is not None and own.state == "removed":
            text = f"'{own.name}' was removed from the project and stays out until it is restored."
            emit(Event("message", {"text": text}))


def say_left_out(files: Sequence[LeftOut], emit: Emit) -> None:
    """Say which files are no cases, the first by name."""
    for each in files[:_NAMED]:
        emit(Event("message", {"text": f"{each.file.name} was left out: {each.reason}."}))
    if len(files) > _NAMED:
        emit(Event("message", {"text": f"{len(files) - _NAMED} more files were left out."}))
