"""Hashes for a project that was made before they were kept.

A hash declares the present content to be right, so that is first compared with everything else
that says what it should be. A label map is compared with the versions: where they say something
else it is put right, and drawn voxels outside of all annotated slices are removed. Where labels
came without a version (from a file) there is nothing to compare with, and they are taken as they
are. Images are large; they are compared with the number of their voxels that the import kept, when
they are used for the first time or when the project is checked (`KeptFiles.check_case`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alunet.errors import InputError
from alunet.imaging.reading import EXACT_ENDING, copy_file, read_labels
from alunet.imaging.writing import write_like
from alunet.pool import CaseGeometry
from alunet.project.events import Events
from alunet.project.repairs import tell
from alunet.project.seals import Seals
from alunet.project.versions import labels_hash, read_version
from alunet.schema import NOT_ANNOTATED
from alunet.storage.database import Database
from alunet.storage.files import sha256_file


@dataclass(frozen=True)
class _Sample:
    """A labeled sample: its box, and its newest version, None where it has none that is known."""

    box: tuple[slice, ...]
    labels: np.ndarray | None


def note_hashes(database: Database) -> None:
    """Note the hashes of versions, label maps and weights, and seal the rows; a migration.

    A file that cannot be read gets no hash: the first use of it says so. A label map of which
    every slice has a version is rebuilt.
    """
    if database.value("SELECT value FROM meta WHERE key = 'project'") is None:  # it is being made
        return
    root = database.path.parent
    _note_versions(database, root)
    for (case,) in database.rows("SELECT name FROM cases WHERE voxels IS NOT NULL ORDER BY name"):
        _note_map(database, root, case)
    _note_weights(database)
    Seals(database, Events(database)).seal_all()


def _note_versions(database: Database, root: Path) -> None:
    for sample, number, case in database.rows(
        "SELECT v.sample_id, v.number, s.case_name FROM versions v JOIN samples s "
        "ON s.id = v.sample_id"
    ):
        file = root / "annotations" / "history" / f"{sample}-{number}.npz"
        try:
            labels = read_version(file)
        except ValueError:
            continue
        database.execute(
            "UPDATE versions SET voxels = ? WHERE sample_id = ? AND number = ?",
            (labels_hash(labels), sample, number),
        )
        _note(database, root, file, case)


def _note_weights(database: Database) -> None:
    """Take over the hashes that the records of rounds hold."""
    for number, text in database.rows("SELECT number, record FROM rounds WHERE record IS NOT NULL"):
        known = json.loads(text).get("hashes") or {}
        for name, key in (("weights.pth", "weights"), ("final_weights.pth", "final weights")):
            if key in known and (key == "weights" or known[key] != known.get("weights")):
                database.execute(
                    "INSERT OR REPLACE INTO files (name, sha256) VALUES (?, ?)",
                    (f"rounds/{number:03d}/{name}", known[key]),
                )


def _note(database: Database, root: Path, file: Path, case: str) -> None:
    database.execute(
        "INSERT OR REPLACE INTO files (name, sha256, case_name) VALUES (?, ?, ?)",
        (file.relative_to(root).as_posix(), sha256_file(file), case),
    )


# --- label maps -----------------------------------------------------------------------------------


def _note_map(database: Database, root: Path, case: str) -> None:
    """Note a label map and make a copy of it, after it was compared with the versions."""
    shape, images, text, outdated = database.rows(
        "SELECT shape, images, geometry, outdated FROM cases WHERE name = ?", (case,)
    )[0]
    file = root / "annotations" / f"{case}{EXACT_ENDING}"
    samples = _samples(database, root, case)
    old = _read(file, tuple(json.loads(shape)))
    geometry = None if text is None else CaseGeometry.from_json(text)
    incomplete = not samples or any(sample.labels is None for sample in samples)
    if old is None and (incomplete or outdated):
        return
    if old is not None and outdated:
        new = old  # it still holds what was taken back: that is finished when the project opens
    else:
        new = _as_versions_say(old, tuple(json.loads(shape)), samples, geometry)
    if old is None or not np.array_equal(old, new):
        try:
            _put_right(database, root, case, old, new, json.loads(images)[0])
        except InputError:  # neither the label map nor the image can be read
            return
    copy = root / "annotations" / "copies" / "a" / file.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy_file(file, copy)
    for each in (file, copy):
        _note(database, root, each, case)
    database.execute(
        "UPDATE cases SET map = ?, copy = 'a' WHERE name = ?", (labels_hash(new), case)
    )


def _put_right(
    database: Database, root: Path, case: str, old: np.ndarray | None, new: np.ndarray, image: str
) -> None:
    shared = database.value("SELECT value FROM meta WHERE key = 'data'")
    data = root if shared is None else root / json.loads(str(shared))
    file = root / "annotations" / f"{case}{EXACT_ENDING}"
    write_like(new, data / "images" / image if old is None else file, file)
    count = new.size if old is None else np.count_nonzero(old != new)
    text = (
        f"{count:,} voxels of the label map of '{case}' were not what its versions say, and were "
        "put right."
    )
    tell(Events(database), file.relative_to(root).as_posix(), text)


def _read(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        found = read_labels(file).astype(np.uint8)
    except InputError:
        return None
    return found if found.shape == shape else None


def _samples(database: Database, root: Path, case: str) -> list[_Sample]:
    """The labeled samples of a case in the order in which they were annotated last."""
    found = []
    for sample, version, *box in database.rows(
        "SELECT s.id, (SELECT max(number) FROM versions v WHERE v.sample_id = s.id AND NOT "
        "v.conflict AND v.status = 'done'), k_lo, k_hi, j_lo, j_hi, i_lo, i_hi FROM samples s "
        "WHERE s.case_name = ? AND s.state = 'labelled' "
        "ORDER BY (SELECT max(id) FROM annotations a WHERE a.sample_id = s.id)",
        (case,),
    ):
        labels = None
        if version is not None:
            try:
                labels = read_version(root / "annotations" / "history" / f"{sample}-{version}.npz")
            except ValueError:
                labels = None
        found.append(_Sample(tuple(slice(*box[axis : axis + 2]) for axis in (0, 2, 4)), labels))
    return found


def _as_versions_say(
    old: np.ndarray | None,
    shape: tuple[int, ...],
    samples: list[_Sample],
    geometry: CaseGeometry | None,
) -> np.ndarray:
    """A label map in which each voxel is what one of its samples says.

    Where samples overlap any of them may be right; where none is, the last one counts.
    """
    new = np.full(shape, NOT_ANNOTATED, np.uint8) if old is None else old.copy()
    covered, right = np.zeros(shape, bool), np.zeros(shape, bool)
    for sample in samples:
        covered[sample.box] = True
        if sample.labels is None or old is None:
            right[sample.box] |= sample.labels is None
        else:
            right[sample.box] |= old[sample.box] == sample.labels
    for sample in samples:
        if sample.labels is not None:
            wrong = ~right[sample.box]
            new[sample.box][wrong] = sample.labels[wrong]
    # where the image is 0 there are no samples; what is drawn there is kept with the case
    if geometry is not None:
        inside = np.zeros(shape, bool)
        inside[geometry.raw_crop] = True
        new[inside & ~covered] = NOT_ANNOTATED
    return new
