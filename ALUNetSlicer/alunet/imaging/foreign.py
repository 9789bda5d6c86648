"""Foreign files, read in a process that can do nothing else.

Whatever comes from elsewhere (uploads, images and labels to add, DICOM, data sets) is read through
this module: no decoder looks at it in this process. One helper serves many files; each file has a
short-lived process of its own, which may read that file alone, no other, and has no network
(`alunet.imaging.sandbox`). A file that ends its process is damaged, and hurts nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging import reading, wire
from alunet.imaging.asking import Allowed, allowed_files, ask
from alunet.imaging.dicom.labels import DicomLabels
from alunet.imaging.dicom.series import DicomFolder, SeriesIdentity
from alunet.imaging.grids import Grid
from alunet.imaging.itk import sitk
from alunet.imaging.limits import MOST_BYTES


@dataclass(frozen=True)
class ForeignImage:
    """An image that was read.

    Attributes:
        image: voxels and geometry; of the header only what names the segments of a label file.
        series: the UIDs of the DICOM series that it is, if it is one.
    """

    image: sitk.Image
    series: SeriesIdentity | None


def read_foreign(path: Path, limit: int = MOST_BYTES) -> ForeignImage:
    """Read an image file, voxels included; of a DICOM file its whole series.

    Args:
        limit: bytes of voxels that it may have.

    Raises:
        TooLarge: it has more.
        InputError: the file is missing, empty, of an unknown form, damaged, or cut off; or reading
            it takes more memory or time than an image of its size may.
    """
    reading.check_file(path)
    value, arrays = ask("image", path, limit, _readable(path))
    with _made_sense(path):
        image = sitk.GetImageFromArray(arrays[0], isVector=int(value["components"]) > 1)
        grid = wire.grid_from(value["grid"])
        image.SetSpacing(grid.spacing)
        image.SetOrigin(grid.origin)
        image.SetDirection(grid.direction)
        for key, entry in value["entries"].items():
            # bytes that are no UTF-8 would be taken by no other program either
            image.SetMetaData(str(key), str(entry).encode("utf-8", "replace").decode("utf-8"))
        return ForeignImage(image, wire.identity_from(value["series"]))


def read_foreign_grid(path: Path) -> Grid:
    """Return the grid of a 3D image file, from its header alone.

    Raises:
        InputError: the header cannot be read.
    """
    reading.check_file(path)
    value, _ = ask("grid", path, MOST_BYTES, _readable(path))
    with _made_sense(path):
        return wire.grid_from(value)


def list_series(path: Path, looked: Callable[[int], None] | None = None) -> DicomFolder:
    """List the DICOM series in a folder of any depth, or in one file.

    Args, Raises: see `alunet.imaging.dicom.series.find_series`.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.", "Check the path.")
    value, _ = ask("series", path, MOST_BYTES, _folder(path), hear=looked)
    with _made_sense(path):
        return wire.folder_from(path, value)


def read_foreign_labels(path: Path, grid: Grid) -> DicomLabels:
    """Read a SEG or RTSTRUCT object on the grid of the image that it belongs to.

    Returns:
        Names, values and layers of its segments, and notes; no UID and no code comes along.

    Raises:
        InputError: it is neither, damaged, or does not fit the grid.
    """
    about = {"grid": wire.grid_data(grid)}
    value, arrays = ask("labels", path, MOST_BYTES, allowed_files(path), about)
    with _made_sense(path):
        return wire.labels_from(value, tuple(arrays))


@contextlib.contextmanager
def _made_sense(path: Path) -> Iterator[None]:
    """Refuse a file whose reader gives an impossible answer: the file may control that process."""
    try:
        yield
    except (ValueError, LookupError, TypeError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: what was read of it makes no sense.", "Copy the file again."
        ) from error


def _readable(path: Path) -> Allowed:
    """Return the files that reading one may open: itself, the other one of a pair, or a series."""
    ending = reading.ending_of(path)
    if not ending:
        return _folder(path.parent)
    if ending not in reading.PAIRS:
        return allowed_files(path)
    name, _ = ask("sibling", path, MOST_BYTES, allowed_files(path, *_halves(path)))
    return allowed_files(path, *([] if name is None else [path.with_name(Path(str(name)).name)]))


def _halves(path: Path) -> list[Path]:
    """Return the other half of a NIfTI or Analyze pair, whose name follows from the first."""
    stem = path.name[: len(path.name) - len(reading.ending_of(path))]
    halves = [path.with_name(stem + ending) for ending in (".hdr", ".img", ".img.gz")]
    return [half for half in halves if half != path and half.is_file() and not half.is_symlink()]


def _folder(path: Path) -> Allowed:
    """Return a folder with the targets of all links in it; or a file."""
    if path.is_file():
        return allowed_files(path)
    found, sizes, seen = [path], [0], {path.resolve()}
    for parent, folders, names in os.walk(path, followlinks=True):
        folders[:] = [name for name in folders if Path(parent, name).resolve() not in seen]
        seen.update(Path(parent, name).resolve() for name in folders)
        for name in (*folders, *names):
            file = Path(parent, name)
            with contextlib.suppress(OSError):
                about = file.stat()  # fails for a link to nothing, which nobody reads
                sizes += [about.st_size] if file.is_file() else []
                found += [file] if file.is_symlink() else []
    return Allowed(found, len(sizes), sum(sizes), max(sizes))
