"""What is known of the cases of a project, without their images being looked at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.dicom.series import SeriesIdentity
from alunet.imaging.labels import Removed, Structures
from alunet.pool import CaseGeometry
from alunet.project.kept_files import KeptFiles
from alunet.project.settings import Settings
from alunet.schema.names import compared
from alunet.storage.database import Database

ROLES = ("pool", "test")


@dataclass(frozen=True)
class Case:
    """One patient volume, all channels.

    Attributes:
        name: unique in the project.
        role: "pool" (can be suggested) or "test" (only evaluated on).
        state: "present"; or "removed": it has all that it had, and counts for nothing.
        images: image files in channel order.
        label: hidden reference label, None where there is none.
        geometry: None before preprocessing.
        shape: of the image file, (k, j, i).
        spacing: of the image file in mm, (k, j, i).
        silent: numbers of structures of which the reference label says nothing, because the
            project got them later.
    """

    name: str
    role: str
    images: tuple[Path, ...]
    label: Path | None
    geometry: CaseGeometry | None
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    silent: tuple[int, ...] = ()
    state: str = "present"


@dataclass(frozen=True)
class CaseStanding:
    """State of a case in the project; `Case` knows more, and takes longer.

    Attributes:
        has_label: whether there is a reference label.
        is_planned: whether it is preprocessed.
    """

    name: str
    role: str
    state: str
    has_label: bool
    is_planned: bool


@dataclass(frozen=True)
class CaseRow:
    """What the tables say of one case, without its files being looked at.

    Attributes:
        image: file of its first channel.
        voxels: annotated voxels of each class as JSON; None while nothing is annotated.
        geometry: None before preprocessing.
    """

    shape: tuple[int, ...]
    image: Path
    voxels: str | None
    geometry: CaseGeometry | None


class CaseTable:
    """The table of cases, and the folders with their images and labels.

    Args:
        root: folder of the project.
        data: folder that holds images/ and labels/: `root`, or another project's that is only read.

    Attributes:
        files: all files that are kept, with their hashes.
    """

    def __init__(self, database: Database, settings: Settings, root: Path, data: Path) -> None:
        self._db, self._settings, self._root, self._data = database, settings, root, data
        self._images, self._labels = data / "images", data / "labels"
        self.files = KeptFiles(database, root, data)

    def all(self, role: str | None = None, *, removed: bool = False) -> list[Case]:
        """Return the cases by name; of one role, or all. With `removed` also those."""
        rows = self._db.rows(
            "SELECT name, role, images, label, geometry, shape, spacing, silent, state FROM cases "
            "WHERE state IN ('present', ?) ORDER BY name",
            ("removed" if removed else "present",),
        )
        return [
            Case(
                name=name,
                role=own,
                images=tuple(self._images / file for file in json.loads(images)),
                label=None if label is None else self._labels / label,
                geometry=None if geometry is None else CaseGeometry.from_json(geometry),
                shape=tuple(json.loads(shape)),
                spacing=tuple(json.loads(spacing)),
                silent=tuple(json.loads(silent)),
                state=state,
            )
            for name, own, images, label, geometry, shape, spacing, silent, state in rows
            if role in (None, own)
        ]

    def geometries(self) -> dict[str, CaseGeometry]:
        """Return the geometry of every case that was ever planned, by name."""
        rows = self._db.rows("SELECT name, geometry FROM cases WHERE geometry IS NOT NULL")
        return {name: CaseGeometry.from_json(text) for name, text in rows}

    def standings(self) -> list[CaseStanding]:
        """Return the state of each case, by name, also of those that were removed."""
        rows = self._db.rows(
            "SELECT name, role, state, label IS NOT NULL, geometry IS NOT NULL FROM cases"
            " WHERE state IN ('present', 'removed') ORDER BY name"
        )
        return [
            CaseStanding(name, role, state, bool(label), bool(planned))
            for name, role, state, label, planned in rows
        ]

    def row(self, name: str) -> CaseRow:
        """Return shape, first image and annotated voxels of a case.

        Raises:
            InputError: there is no such case.
        """
        rows = self._db.rows(
            "SELECT shape, images, voxels, geometry FROM cases WHERE name = ? "
            "AND state IN ('present', 'removed')",
            (name,),
        )
        if not rows:
            raise InputError(f"There is no case {name!r} in the project.", "See the list of cases.")
        shape, images, voxels, text = rows[0]
        geometry = None if text is None else CaseGeometry.from_json(text)
        image = self._images / json.loads(images)[0]
        return CaseRow(tuple(json.loads(shape)), image, voxels, geometry)

    def sources(self, name: str) -> list[Path]:
        """Return the files that a case was added from; they may be gone."""
        stamp = self._db.value("SELECT stamp FROM cases WHERE name = ?", (name,))
        return [] if stamp is None else [Path(entry[0]) for entry in json.loads(str(stamp))]

    def notes(self) -> dict[str, list[str]]:
        """Return what was said of cases when they were imported and planned, by the case's name."""
        rows = self._db.rows(
            "SELECT name, notes, planning FROM cases WHERE state = 'present'"
            " AND (notes != '[]' OR planning != '[]') ORDER BY name"
        )
        found = {name: json.loads(said) + json.loads(more) for name, said, more in rows}
        return {name: notes for name, notes in found.items() if notes}

    def keep_planning_notes(self, notes: Mapping[str, Sequence[str]]) -> None:
        """Note what is unusual about planned cases, by name, in the place of what was noted."""
        with self._db.transaction():
            self._db.execute("UPDATE cases SET planning = '[]'")
            self._db.many(
                "UPDATE cases SET planning = ? WHERE name = ?",
                [(json.dumps(own, ensure_ascii=False), name) for name, own in notes.items()],
            )

    def to_learn(self) -> list[str]:
        """Return the cases whose reference label becomes annotations as soon as it is planned."""
        rows = self._db.rows(
            "SELECT name FROM cases WHERE learn AND role = 'pool' AND state = 'present' "
            "ORDER BY name"
        )
        return [name for (name,) in rows]

    def _note_to_learn(self, names: Iterable[str]) -> None:
        """Note whose reference label is to be learned from, within the caller's transaction."""
        wanted = {compared(name) for name in names}
        rows = self._db.rows("SELECT name FROM cases WHERE role = 'pool' AND label IS NOT NULL")
        found = [(name,) for (name,) in rows if compared(name) in wanted]
        self._db.many("UPDATE cases SET learn = 1 WHERE name = ?", found)

    def note_learnt(self, name: str) -> None:
        """Note that the reference label of a case became annotations."""
        self._db.execute("UPDATE cases SET learn = 0 WHERE name = ?", (name,))

    def dicom(self, name: str) -> SeriesIdentity | None:
        """Return the UIDs of the DICOM series that a case comes from; None where it comes from
        none.
        """
        found = self._db.value("SELECT dicom FROM cases WHERE name = ?", (name,))
        if found is None:
            return None
        uids = json.loads(str(found))
        return SeriesIdentity(**{**uids, "instance_uids": tuple(uids["instance_uids"])})

    @property
    def structures(self) -> Structures:
        """Return the classes, and their values in label files that do not say what their values
        mean.

        Those are the values of the data set that the first cases came with, and of files that
        leave.
        """
        labels, values = self._settings.about["labels"], self._settings.label_values
        numbers = tuple(labels.values())
        removed = tuple(Removed(**gone) for gone in self._settings.removed_structures)
        return Structures(
            tuple(labels),
            numbers if values is None else tuple(values),
            numbers,
            removed,
            tuple(self._settings.former_names.items()),
        )

    def set_role(self, names: Iterable[str], role: str) -> None:
        """Make cases pool or test cases; samples and annotations of test cases count for nothing.

        Raises:
            InputError: a case is unknown.
        """
        check_role(role)
        with self._db.transaction():
            for name in names:
                self.row(name)
                self._db.execute("UPDATE cases SET role = ? WHERE name = ?", (role, name))

    def set_geometry(self, case_name: str, geometry: CaseGeometry) -> None:
        """Stores how a case's preprocessed grid lies in its image.

        Raises:
            InputError: the case is unknown, or the geometry is of another case or shape.
        """
        shape = self.row(case_name).shape
        if geometry.case != case_name or tuple(geometry.raw_shape) != shape:
            raise InputError(
                f"Case {case_name!r} has the shape {shape}; this is another geometry: {geometry}."
            )
        self._db.execute(
            "UPDATE cases SET geometry = ? WHERE name = ?", (geometry.to_json(), case_name)
        )


def check_role(role: str) -> None:
    """Raise InputError for what is no role of a case."""
    if role not in ROLES:
        raise InputError(f"{role!r} is no role of a case.", f"Use one of {', '.join(ROLES)}.")
