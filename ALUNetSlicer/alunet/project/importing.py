"""From files of others to the project's own: everything is checked before anything is written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.reading import (
    EXACT_ENDING,
    Grid,
    check_voxels,
    copy_file,
    ending_of,
    is_kept,
    read_image,
    read_label,
    split_channels,
    write_image,
)
from alunet.schema import Emit, Event

Item = TypeVar("Item")


@dataclass(frozen=True)
class Source:
    """One channel of a case, or its label, and how it is kept.

    Attributes:
        path: the file that it comes from.
        name: file name to keep it under.
        part: index among the images in the file.
        grid: geometry to write it with; None to copy the bytes of the file unchanged.
    """

    path: Path
    name: str
    part: int = 0
    grid: Grid | None = None


@dataclass(frozen=True)
class CheckedCase:
    """A case whose files can be imported."""

    name: str
    grid: Grid
    images: tuple[Source, ...]
    label: Source | None


def check_case(
    name: str, files: Sequence[Path], label: Path | None, channels: int, values: Sequence[int]
) -> CheckedCase:
    """Reads all files of a case once and decides how each is kept.

    Args:
        name: of the case.
        files: image files in channel order; one file may hold several channels.
        label: reference segmentation, if there is one.
        channels: number of channels that the project needs.
        values: what each class, the background first, is called in label files.

    Raises:
        InputError: a file cannot be used, or the files do not fit each other.
    """
    if not files:
        raise InputError(f"Case {name} has no image file.", f"Give {channels} channel(s).")
    grid, found, filled = None, [], False
    for path in files:
        whole = read_image(path)
        parts = split_channels(whole, channels, path)
        for part, image in enumerate(parts):
            own = Grid.of(image)
            grid = grid or own
            difference = grid.difference(own)
            if difference:
                raise InputError(f"Case {name}: {path} does not fit {files[0]}: {difference}.", "Resample it.")
            filled = check_voxels(image, path) or filled
            scalar = whole.GetDimension() == 3 and whole.GetNumberOfComponentsPerPixel() == 1
            unchanged = scalar and own == grid and is_kept(path)
            found.append(Source(path, "", part, None if unchanged else grid))
    if len(found) != channels or grid is None:
        raise InputError(f"Case {name} has {len(found)} channel(s), but the project has {channels}.", "Give each once.")
    if not filled:
        raise InputError(f"Case {name} ({files[0]}) holds nothing but zeros.", "Leave this case out.")
    images = [replace(source, name=_kept_name(source, f"{name}_{i:04d}")) for i, source in enumerate(found)]
    return CheckedCase(name, grid, tuple(images), _check_label(name, label, grid, values))


def _check_label(name: str, path: Path | None, grid: Grid, values: Sequence[int]) -> Source | None:
    if path is None:
        return None
    kept, stored = read_label(path, grid, values)
    source = Source(path, "", 0, None if stored and is_kept(path) else Grid.of(kept))
    return replace(source, name=_kept_name(source, name))


def _kept_name(source: Source, stem: str) -> str:
    return stem + (ending_of(source.path) if source.grid is None else EXACT_ENDING)


def store_case(case: CheckedCase, images: Path, labels: Path, values: Sequence[int]) -> None:
    """Writes the files of a checked case into the project's folders; existing files of the names are replaced.

    The caller makes the folders durable with `sync_folder`, once for all cases.
    """
    channels = len(case.images)
    for source in case.images:
        if source.grid is None:
            copy_file(source.path, images / source.name, sync=False)
        else:
            part = split_channels(read_image(source.path), channels, source.path)[source.part]
            _write(part, source.grid, images / source.name)
    if case.label is None:
        return
    if case.label.grid is None:
        copy_file(case.label.path, labels / case.label.name, sync=False)
    else:
        _write(read_label(case.label.path, case.grid, values)[0], case.label.grid, labels / case.label.name)


@contextlib.contextmanager
def undone_on_failure(cases: Sequence[CheckedCase], images: Path, labels: Path) -> Iterator[None]:
    """Removes the files of the cases where the block, which stores and registers them, does not end well."""
    try:
        yield
    except BaseException:  # also Ctrl-C: files that no database knows would stay for ever
        for case in cases:
            files = [images / source.name for source in case.images]
            for file in [*files, *([labels / case.label.name] if case.label else [])]:
                file.unlink(missing_ok=True)
        raise


def _write(image: sitk.Image, grid: Grid, path: Path) -> None:
    # A new image, because the old one carries header entries of its own format, which the writer warns about.
    clean = sitk.GetImageFromArray(sitk.GetArrayViewFromImage(image))
    clean.SetSpacing(grid.spacing)
    clean.SetOrigin(grid.origin)
    clean.SetDirection(grid.direction)
    write_image(clean, path, sync=False)


def renumbering(labels: dict[str, int], values: Sequence[int]) -> str:
    """What a person is told where the classes are called otherwise in label files; empty where they are not."""
    changed = [
        f"{name} {value} becomes {index}"
        for (name, index), value in zip(labels.items(), values, strict=True)
        if value != index
    ]
    return f"Label values are renumbered without gaps: {', '.join(changed)}." if changed else ""


def counted(items: Sequence[Item], phase: str, emit: Emit) -> Iterator[Item]:
    """Passes items on and reports after each how many are done."""
    start = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        left = (time.monotonic() - start) / done * (len(items) - done)
        data = {"phase": phase, "done": done, "total": len(items), "unit": "cases", "seconds_left": left}
        emit(Event("progress", data))


def check_new_names(names: Iterable[str], existing: Iterable[str], check: Callable[[str], None]) -> None:
    """Raises InputError for a name that is bad or taken, on any file system."""
    taken = {name.casefold() for name in existing}
    for name in names:
        check(name)
        if name.casefold() in taken:
            raise InputError(f"The project already has a case {name!r}.", "Rename the new one, or leave it out.")
        taken.add(name.casefold())
