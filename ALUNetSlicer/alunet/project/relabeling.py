"""Label maps of earlier versions, in which the highest class + 1 marked voxels that were not
annotated.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from alunet.errors import InputError
from alunet.imaging.reading import EXACT_ENDING, read_labels
from alunet.imaging.writing import write_like
from alunet.schema import NOT_ANNOTATED
from alunet.storage.database import Database
from alunet.storage.files import atomic_path


def mark_not_annotated(database: Database) -> None:
    """Put `NOT_ANNOTATED` into all stored label maps and versions of the project; a migration.

    Each file is replaced whole, and one that was replaced is left as it is when the migration is
    begun again: no value means two things on the way.

    Raises:
        InputError: the project has more than 254 structures.
    """
    about = database.value("SELECT value FROM meta WHERE key = 'project'")
    if about is None:  # it is being made
        return
    old = len(json.loads(str(about))["labels"])
    if old > NOT_ANNOTATED:
        raise InputError(
            f"{database.path} has {old - 1} structures.",
            f"At most {NOT_ANNOTATED - 1} are possible.",
        )
    if old == NOT_ANNOTATED:
        return
    folder = database.path.parent / "annotations"
    for file in sorted(folder.glob(f"*{EXACT_ENDING}")):
        if not file.name.startswith("tmp-"):
            _relabel_map(file, old)
    for file in sorted((folder / "history").glob("*.npz")):
        if not file.name.startswith("tmp-"):
            _relabel_version(file, old)


def _relabel_map(file: Path, old: int) -> None:
    labels = read_labels(file)
    if (labels == old).any():
        write_like(_relabeled(labels, old), file, file)


def _relabel_version(file: Path, old: int) -> None:
    with np.load(file, allow_pickle=False) as content:
        labels = content["labels"]
    if (labels == old).any():
        with atomic_path(file) as temporary:
            np.savez_compressed(temporary, labels=_relabeled(labels, old))


def _relabeled(labels: np.ndarray, old: int) -> np.ndarray:
    return np.where(labels == old, NOT_ANNOTATED, labels).astype(np.uint8)
