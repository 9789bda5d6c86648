"""Label maps and maps for other programs, on exactly the grid of an image file.

Where image and map are of one format, what the image's header says of its geometry is taken over as
it stands, so that every program reads the same from both: the bytes of a NIfTI header, the lines of
an NRRD header. MetaImage keeps every number exactly. Else a format decides: NRRD holds spacing
times direction, 2e-16 of each; NIfTI holds single precision.
"""

from __future__ import annotations

import gzip
import itertools
import re
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.grids import EXACT, Grid, displacement
from alunet.imaging.reading import ending_of, grid_of, read_image, save_image
from alunet.storage.files import atomic_path

WRITTEN_ENDINGS = (".nii.gz", ".nrrd", ".mha")
"""Endings of the files that can be written."""

# codes of NIfTI and NRRD
_TYPES = {"uint8": (2, "uint8"), "uint16": (512, "uint16"), "float32": (16, "float")}
_NIFTI_HEADER = 348
_NRRD_GEOMETRY = re.compile(
    r"(space|space dimension|space units|space directions|space origin|spacings"
    r"|axis ?mins|axis ?maxs|centers"
    r"|centerings|kinds):"
)


def check_ending(ending: str) -> str:
    """The ending itself; raises InputError where no file of it can be written."""
    if ending not in WRITTEN_ENDINGS:
        raise InputError(
            f"Files {ending or 'without an ending'} cannot be written.", f"Use {_choice()}."
        )
    return ending


def _choice() -> str:
    return f"{', '.join(WRITTEN_ENDINGS[:-1])} or {WRITTEN_ENDINGS[-1]}"


def write_like(array: npt.NDArray[Any], like: Path, path: Path) -> None:
    """Writes an array (k, j, i) on the grid of the image file `like`, compressed, whole or not at
    all.

    Args:
        array: uint8, uint16 or float32, of the shape of the image.
        like: the image file.
        path: its ending, one of `WRITTEN_ENDINGS`, decides the format.

    Raises:
        InputError: another ending, or a geometry that the format cannot hold.
    """
    grid = grid_of(like)
    if array.shape != grid.shape or array.dtype.name not in _TYPES:
        raise InputError(
            f"{array.dtype} voxels of the shape {array.shape} do not fit {like}, {grid.shape}."
        )
    write = {".nii.gz": _write_nifti, ".nrrd": _write_nrrd, ".mha": _write_any}[
        check_ending(ending_of(path))
    ]
    with atomic_path(path) as part:
        write(array, like, grid, part)
        off = displacement(grid, grid_of(part))
        if not off <= EXACT:
            raise InputError(
                f"The geometry of {like} does not fit into {path.name}: voxels move by {off:.3g} "
                f"voxels.",
                "Write .nrrd or .mha.",
            )


def write_converted(source: Path, path: Path) -> None:
    """Write an image file in another format, compressed, voxel for voxel.

    Args:
        path: its ending decides the format.

    Raises:
        InputError: the file cannot be read, or the format cannot hold its voxels or geometry.
    """
    image = read_image(source)
    array, grid = sitk.GetArrayViewFromImage(image), Grid.of(image)
    with atomic_path(path, sync=False) as part:
        _write_any(array, source, grid, part)
        again = read_image(part)
        off = displacement(grid, Grid.of(again))
        if not off <= EXACT or not np.array_equal(sitk.GetArrayViewFromImage(again), array):
            what = f"voxels move by {off:.3g} voxels" if not off <= EXACT else "voxels change"
            raise InputError(
                f"{source} does not fit into {path.name}: {what}.", "Write .nrrd or .mha."
            )


def _write_any(array: npt.NDArray[Any], like: Path, grid: Grid, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    save_image(image, path)


def _write_nifti(array: npt.NDArray[Any], like: Path, grid: Grid, path: Path) -> None:
    header = _nifti_header(like, grid)
    if header is None:
        _write_any(array, like, grid, path)
        return
    order: Literal["<", ">"] = "<" if struct.unpack_from("<i", header)[0] == _NIFTI_HEADER else ">"
    fields: list[tuple[int, str, tuple[int | bytes, ...]]] = [
        (56, "3fh", (0, 0, 0, 0)),  # intent
        (70, "2h", (_TYPES[array.dtype.name][0], array.itemsize * 8)),  # datatype, bitpix
        (108, "3f", (352, 1, 0)),  # vox_offset, scl_slope, scl_inter
        (124, "2f", (0, 0)),  # cal_max, cal_min: the display window of the image
        (140, "2i", (0, 0)),  # glmax, glmin
        (328, "16s", (b"",)),  # intent_name
    ]
    for offset, form, values in fields:
        struct.pack_into(order + form, header, offset, *values)
    voxels = array.astype(array.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(_gzip(bytes(header) + bytes(4) + voxels))  # four zeros: no extension follows


def _nifti_header(path: Path, grid: Grid) -> bytearray | None:
    """The header of a one-file NIfTI-1 image of three dimensions; None where `path` is another
    file.
    """
    if ending_of(path) != ".nii.gz":
        return None
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as stream:
        header = bytearray(stream.read(_NIFTI_HEADER))
    if header[344:348] != b"n+1\0":
        return None
    order = "<" if struct.unpack_from("<i", header)[0] == _NIFTI_HEADER else ">"
    return header if struct.unpack_from(f"{order}4h", header, 40) == (3, *grid.size) else None


def _write_nrrd(array: npt.NDArray[Any], like: Path, grid: Grid, path: Path) -> None:
    lines = [
        "NRRD0004",
        f"type: {_TYPES[array.dtype.name][1]}",
        "dimension: 3",
        f"sizes: {' '.join(map(str, grid.size))}",
        *(_nrrd_geometry(like) or _new_nrrd_geometry(grid)),
        "encoding: gzip",
        "endian: little",
    ]
    voxels = array.astype(array.dtype.newbyteorder("<")).tobytes()
    path.write_bytes("\n".join(lines).encode("ascii") + b"\n\n" + _gzip(voxels))


def _nrrd_geometry(path: Path) -> list[str]:
    """The lines of a three-dimensional NRRD header that say where the voxels lie; none where
    `path` is another file.
    """
    if ending_of(path) != ".nrrd":
        return []
    with path.open("rb") as stream:
        lines = [
            line.decode("ascii", "replace").strip()
            for line in itertools.takewhile(bytes.strip, stream)
        ]
    return [line for line in lines if _NRRD_GEOMETRY.match(line)] if "dimension: 3" in lines else []


def _new_nrrd_geometry(grid: Grid) -> list[str]:
    vectors = " ".join(_vector(column) for column in grid.matrix.T)
    return [
        "space: left-posterior-superior",
        f"space directions: {vectors}",
        f"space origin: {_vector(grid.origin)}",
        "kinds: domain domain domain",
    ]


def _vector(values: npt.NDArray[np.float64] | tuple[float, ...]) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 6, mtime=0)
