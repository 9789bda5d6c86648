"""The geometry that the header of a NIfTI file really gives, where ITK gives the nearest with
right angles.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alunet.imaging.grids import Grid, displacement_of

_HEADER = 348
_TO_LPS = np.array([-1.0, -1.0, 1.0])  # NIfTI's axes point to the right and to the front


def shear(path: Path, grid: Grid) -> float:
    """Return how far voxels are from where the header says, at the farthest corner, in voxels.

    ITK reads axes that are not at right angles as the nearest ones that are. 0 where the header has
    no matrix (sform), or where ITK took its other way of saying it (qform).

    Args:
        grid: as ITK read it.
    """
    rows, other = _matrix(path)
    if rows is None:
        return 0.0
    off = displacement_of(grid, _TO_LPS[:, None] * rows[:, :3], _TO_LPS * rows[:, 3])
    return 0.0 if other and off > 1 else off


def has_axes(path: Path) -> bool:
    """Whether the header has a matrix of three axes that are not in one plane."""
    rows, _ = _matrix(path)
    return rows is not None and abs(float(np.linalg.det(rows[:, :3]))) > 0


def _matrix(path: Path) -> tuple[npt.NDArray[np.float64] | None, bool]:
    """Return the finite matrix (sform), None where there is none, and whether there is a qform
    too.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as stream:
        header = stream.read(_HEADER)
    if len(header) < _HEADER or header[344:347] != b"n+1":
        return None, False
    order = "<" if struct.unpack_from("<i", header)[0] == _HEADER else ">"
    qform, sform = struct.unpack_from(f"{order}2h", header, 252)
    rows = np.array(struct.unpack_from(f"{order}12f", header, 280)).reshape(3, 4)
    return (rows if sform > 0 and np.isfinite(rows).all() else None), qform > 0
