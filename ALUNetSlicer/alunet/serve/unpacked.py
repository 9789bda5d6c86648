"""A part of an array in a ``.npy`` file, read and not mapped: where a mapped file turns out to be
cut short, or its disk fails, the system ends the process.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alunet.errors import InputError

Place = tuple[slice, slice, slice]


def read_part(file: Path, place: Place) -> np.ndarray:
    """Return the voxels at `place`, with a start and an end on each axis, of an array (k, j, i).

    Raises:
        InputError: the file is cut short, or none that `numpy.save` wrote.
    """
    layers, rows, columns = place
    try:
        with file.open("rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("its header is of another version")
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            begin = stream.tell()
            part = np.empty((layers.stop - layers.start, rows.stop - rows.start, shape[2]), dtype)
            for target, layer in zip(part, range(layers.start, layers.stop), strict=True):
                stream.seek(begin + (layer * shape[1] + rows.start) * shape[2] * dtype.itemsize)
                if stream.readinto(target.data) != target.nbytes:
                    raise ValueError("it is cut short")
    except ValueError as error:
        raise InputError(f"{file} is damaged: {error}.", "Remove it; it is made again.") from error
    return part[:, :, columns]
