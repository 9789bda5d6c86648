"""Half-done slices on this computer's disk: they outlive a crash of Slicer, with or without a network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Draft:
    """What somebody painted in a slice and has not handed in yet.

    Attributes:
        labels: of the slice's box, (k, j, i), uint8 or uint16.
        base: version that it corrects, 0 where there was none.
        seconds: spent on it so far.
    """

    labels: np.ndarray
    base: int
    seconds: float


class Drafts:
    """The drafts of one project.

    Args:
        folder: of all drafts; made where it is missing.
        engine, project: whose; any text.
    """

    def __init__(self, folder: Path, engine: str, project: str) -> None:
        name = hashlib.sha256(f"{engine}\n{project}".encode()).hexdigest()[:16]
        self._folder = folder / name
        self._folder.mkdir(parents=True, exist_ok=True)

    def _file(self, sample: int) -> Path:
        return self._folder / f"{sample}.npz"

    def keep(self, sample: int, draft: Draft) -> None:
        """On disk, whole or not at all, when this returns.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        packed = io.BytesIO()
        np.savez_compressed(packed, labels=draft.labels, base=draft.base, seconds=draft.seconds)
        part = self._folder / f"tmp-{uuid.uuid4().hex}"
        try:
            with part.open("wb") as stream:
                stream.write(packed.getvalue())
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self._file(sample))
        finally:
            part.unlink(missing_ok=True)

    def find(self, sample: int) -> Draft | None:
        """The draft of a slice; None where there is none, or none that can be read."""
        try:
            with np.load(self._file(sample), allow_pickle=False) as content:
                return Draft(content["labels"], int(content["base"]), float(content["seconds"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def drop(self, sample: int) -> None:
        """Forget it; where there is none nothing happens."""
        with contextlib.suppress(OSError):
            self._file(sample).unlink(missing_ok=True)

    def samples(self) -> list[int]:
        """The slices with a draft."""
        return sorted(int(file.stem) for file in self._folder.glob("[0-9]*.npz"))
