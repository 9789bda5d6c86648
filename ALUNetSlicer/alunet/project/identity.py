"""Which scans are the same: by their voxels, wherever their files are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from alunet.imaging.itk import sitk
from alunet.imaging.reading import Told, ending_of, ignore_part, read_image

_STEP = 64 << 20  # bytes between two reports

_VERSION = "2-"


class Content:
    """The voxels of a case's channels, as one number, whatever type they are stored as."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, channel: sitk.Image, told: Told = ignore_part) -> None:
        """Take a channel, the first one first; `told` hears how much of it was read."""
        array = sitk.GetArrayViewFromImage(channel)
        self._digest.update(f"{array.shape}".encode())
        step = max(1, _STEP // max(1, array[:1].nbytes))
        for number, plane in enumerate(array, 1):  # all planes in float64 would need much memory
            values = np.ascontiguousarray(plane, np.float64) + 0.0  # -0.0 is 0.0
            self._digest.update(values.data)
            if number % step == 0 or number == len(array):
                told(number / len(array))

    def __str__(self) -> str:
        return _VERSION + self._digest.hexdigest()


def comparable(content: str | None) -> str | None:
    """Return a content as it was kept; None where it was made in an earlier way, or is not
    known.
    """
    return content if content is not None and content.startswith(_VERSION) else None


def content_of(files: Iterable[Path]) -> str:
    """Return the content of a case from its kept files, one for each channel.

    Raises:
        InputError: a file is missing or damaged.
    """
    content = Content()
    for file in files:
        content.add(read_image(file))
    return str(content)


def stamp_of(files: Sequence[Path]) -> str:
    """Return what tells whether files were written since: path, bytes and time of each, as JSON.

    A missing file has no bytes and no time. A DICOM file stands for its series: of it count the
    bytes of all files of its folder, and the last time.
    """
    stamps: list[list[object]] = []
    for file in files:
        own = [file] if ending_of(file) or not file.is_file() else file.parent.iterdir()
        found = [each.stat() for each in own if each.is_file()]
        size = sum(about.st_size for about in found) if found else None
        written = max((about.st_mtime_ns for about in found), default=None)
        stamps.append([str(file.absolute()), size, written])
    return json.dumps(stamps, ensure_ascii=False)
