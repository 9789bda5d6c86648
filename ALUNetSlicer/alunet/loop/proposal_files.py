"""Where the proposals of a round are, and what is in them.

A label map of all slices is in ``proposals/``, one of some slices in ``proposals/slices/``: there
all others are open, and an array beside it names those that are not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alunet.imaging.label_file import write_description
from alunet.imaging.labels import Structures
from alunet.imaging.reading import EXACT_ENDING
from alunet.schema import NOT_ANNOTATED


def whole_proposal(folder: Path, case: str) -> Path:
    """Where the proposal for all slices of a case is, in the folder of its round."""
    return folder / "proposals" / f"{case}{EXACT_ENDING}"


def some_proposal(folder: Path, case: str) -> Path:
    """Where the proposal for some slices of a large case is, in the folder of its round."""
    return folder / "proposals" / "slices" / f"{case}{EXACT_ENDING}"


def proposal_file(folder: Path, case: str) -> Path:
    """Where the proposal of a case is, for all of its slices if there is one."""
    whole = whole_proposal(folder, case)
    return whole if whole.is_file() else some_proposal(folder, case)


def proposed(folder: Path, case: str) -> list[int]:
    """Return the slices of the preprocessed image that a proposal for some slices has."""
    return slices_in(some_proposal(folder, case))


def slices_in(file: Path) -> list[int]:
    """Return the slices that a label map for some slices has; none where it or their list is gone
    or damaged, so that it is made again.
    """
    if not file.is_file():
        return []
    try:
        found: list[int] = np.load(listed(file), allow_pickle=False).tolist()
    except (OSError, ValueError, EOFError):
        return []
    return found


def listed(file: Path) -> Path:
    """The file that names the slices which a label map has; written after it."""
    return file.with_suffix(".npy")


def describe(folder: Path, structures: Structures) -> None:
    """Say beside the proposals of a round what their values mean now, where there are any."""
    names = structures.numbered().in_files
    for place, ignore in (
        (folder / "proposals", None),
        (folder / "proposals/slices", NOT_ANNOTATED),
    ):
        if place.is_dir():
            (place / "dataset.json").unlink(missing_ok=True)
            write_description(place, names, ignore)
