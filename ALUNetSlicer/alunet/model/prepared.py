"""The preprocessed images of a project: arrays, and what leads from them back to the image file.

Nothing here runs what a file says. The arrays are plain Blosc2; what nnU-Net pickles beside them is
JSON in a folder of its own, because nnU-Net tells the form of its arrays by the only ending beside
them. It holds the SHA-256 of the arrays, which have no checksum themselves.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import InputError
from alunet.model.environment import Folders
from alunet.storage.files import atomic_path, sha256_file, write_json

_KEPT = ("raw_shape", "grid_shape", "spacing", "shape_before_cropping", "bbox_used_for_cropping")
_sound: set[tuple[str, int, int]] = set()
"""Arrays that this process has found sound: path, size and time of the last change."""


def write_case(
    folders: Folders,
    name: str,
    data: np.ndarray,
    mask: np.ndarray,
    properties: dict[str, Any],
    patch: Sequence[int],
) -> None:
    """Write a preprocessed case; the properties come last, so their presence means a whole case."""
    hashes = {}
    for array, file in (
        (data.astype(np.float32), _file(folders, name, "")),
        (mask.astype(np.int16), _file(folders, name, "_seg")),
    ):
        write_array(array, file, patch)
        hashes[file.name] = sha256_file(file)
    kept = {key: _plain(properties[key]) for key in _KEPT}
    place = _properties(folders, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, {**kept, "sha256": hashes})
    # of an earlier version, which this one never reads
    (folders.images / f"{name}.pkl").unlink(missing_ok=True)


def write_array(array: np.ndarray, file: Path, patch: Sequence[int]) -> None:
    """Write an array (channel, slice, row, column) as nnU-Net's loader likes it, whole or not."""
    import blosc2
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params

    blocks, chunks = comp_blosc2_params(array.shape, tuple(patch), array.itemsize)
    with atomic_path(file) as part:
        blosc2.asarray(np.ascontiguousarray(array), urlpath=str(part), chunks=chunks, blocks=blocks)


def is_prepared(folders: Folders, name: str) -> bool:
    """Return whether a case is preprocessed in the form of this version."""
    files = [_properties(folders, name), *(_file(folders, name, part) for part in ("", "_seg"))]
    return all(file.is_file() for file in files)


def read_properties(folders: Folders, name: str) -> dict[str, Any]:
    """Return what leads from a preprocessed case back to its image file.

    Raises:
        InputError: the case is not preprocessed, or by an earlier version, or that is damaged.
    """
    file = _properties(folders, name)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {**{key: content[key] for key in _KEPT}, "sha256": content["sha256"]}
    except FileNotFoundError:
        raise InputError(
            f"Case '{name}' is not preprocessed, or by an earlier version.",
            "Plan the project: that prepares it anew from its image.",
        ) from None
    except (ValueError, KeyError, TypeError):
        raise _damaged(folders, name, file) from None


def open_image(folders: Folders, name: str) -> Any:
    """Return the preprocessed image, a Blosc2 array (channel, slice, row, column).

    Raises:
        InputError: see `read_properties`.
    """
    return _open(folders, name, "")


def open_mask(folders: Folders, name: str) -> Any:
    """Return the mask of the preprocessed image: 0 inside, -1 outside.

    Raises:
        InputError: see `read_properties`.
    """
    return _open(folders, name, "_seg")


def _open(folders: Folders, name: str, part: str) -> Any:
    file = _file(folders, name, part)
    hashes = read_properties(folders, name)["sha256"]
    try:
        about = file.stat()
        # A training opens a case again and again: it is read through once for each process.
        key = (str(file), about.st_size, about.st_mtime_ns)
        if key not in _sound:
            if sha256_file(file) != hashes[file.name]:
                raise ValueError
            _sound.add(key)
        return open_array(file)
    except (OSError, ValueError, KeyError, RuntimeError):
        raise _damaged(folders, name, file) from None


def open_array(file: Path) -> Any:
    """Return a Blosc2 array on disk, mapped; a file that names code or other files is refused.

    Raises:
        ValueError, RuntimeError: it is no plain array.
    """
    import blosc2

    # the opener below Blosc2's own, which follows an array to expressions, functions and addresses
    found = blosc2.blosc2_ext.open(str(file), "r", 0)
    if not isinstance(found, blosc2.NDArray) or set(found.schunk.meta) - {"b2nd"}:
        raise ValueError(f"{file} is no plain array")
    return found


def _damaged(folders: Folders, name: str, file: Path) -> InputError:
    """Why a preprocessed case cannot be used; the next plan finds it missing and makes it anew."""
    with contextlib.suppress(OSError):  # a project that is only read
        _properties(folders, name).unlink(missing_ok=True)
    return InputError(
        f"{file} is damaged: it is not as it was prepared.",
        "Plan the project: that prepares the case anew from its image.",
    )


def _file(folders: Folders, name: str, part: str) -> Path:
    return folders.images / f"{name}{part}.b2nd"


def _properties(folders: Folders, name: str) -> Path:
    return folders.preprocessed / "properties" / f"{name}.properties.json"


def _plain(value: Any) -> Any:
    """Return numbers as JSON holds them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
