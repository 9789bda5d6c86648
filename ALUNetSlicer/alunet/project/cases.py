"""The cases of a project: imported images, hidden reference labels, and what is known of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.dataset import CaseFiles, check_case_name, read_dataset_description
from alunet.pool import CaseGeometry
from alunet.project.importing import (
    CheckedCase,
    check_case,
    check_new_names,
    counted,
    renumbering,
    store_case,
    undone_on_failure,
)
from alunet.project.settings import Settings
from alunet.schema import Emit, Event, ignore_events
from alunet.storage.database import Database
from alunet.storage.files import sync_folder

ROLES = ("pool", "test")


@dataclass(frozen=True)
class Case:
    """One patient volume, all channels.

    Attributes:
        name: unique in the project.
        role: "pool" (can be suggested) or "test" (only evaluated on).
        images: image files in channel order.
        label: hidden reference label, None where there is none.
        geometry: None before preprocessing.
        shape: of the image file, (k, j, i).
        spacing: of the image file in mm, (k, j, i).
    """

    name: str
    role: str
    images: tuple[Path, ...]
    label: Path | None
    geometry: CaseGeometry | None
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class CaseRow:
    """What the tables say of one case, without its files being looked at.

    Attributes:
        image: file of its first channel.
        voxels: annotated voxels of each class as JSON; None while nothing is annotated.
    """

    shape: tuple[int, ...]
    image: Path
    voxels: str | None


class Cases:
    """The table of cases, and the folders with their images and labels.

    Args:
        root: folder of the project.
        data: folder that holds images/ and labels/: `root`, or another project's that is only read.
    """

    def __init__(self, database: Database, settings: Settings, root: Path, data: Path) -> None:
        self._db, self._settings, self._root, self._data = database, settings, root, data
        self._images, self._labels = data / "images", data / "labels"

    def all(self, role: str | None = None) -> list[Case]:
        """Return the cases by name; of one role, or all."""
        rows = self._db.rows("SELECT name, role, images, label, geometry, shape, spacing FROM cases ORDER BY name")
        return [
            Case(
                name=name,
                role=own,
                images=tuple(self._images / file for file in json.loads(images)),
                label=None if label is None else self._labels / label,
                geometry=None if geometry is None else CaseGeometry.from_json(geometry),
                shape=tuple(json.loads(shape)),
                spacing=tuple(json.loads(spacing)),
            )
            for name, own, images, label, geometry, shape, spacing in rows
            if role in (None, own)
        ]

    def row(self, name: str) -> CaseRow:
        """Return shape, first image and annotated voxels of a case.

        Raises:
            InputError: there is no such case.
        """
        rows = self._db.rows("SELECT shape, images, voxels FROM cases WHERE name = ?", (name,))
        if not rows:
            raise InputError(f"There is no case {name!r} in the project.", "See the list of cases.")
        shape, images, voxels = rows[0]
        return CaseRow(tuple(json.loads(shape)), self._images / json.loads(images)[0], voxels)

    @property
    def label_values(self) -> tuple[int, ...]:
        """What each class 0, 1, … is called in the label files that the first cases came with."""
        values = self._settings.label_values
        return tuple(range(len(self._settings.about["labels"])) if values is None else values)

    def import_dataset(
        self,
        path: Path,
        *,
        role: str = "pool",
        limit: int | None = None,
        prefix: str = "",
        emit: Emit | None = None,
    ) -> list[str]:
        """Imports a data set: all of it or, where anything is wrong, nothing.

        Cases that were imported from the same files before are left as they are, so the same import can be asked for
        again: after a crash, or when the folder has grown.

        Args:
            path: see `read_dataset_description`.
            role: of the new cases.
            limit: import only the first cases, by name.
            prefix: put before every case name.
            emit: receives "progress" events of the phases "check" and "import", and a "message" where label values
                are renumbered.

        Returns:
            Names of the new cases; empty where all were there.

        Raises:
            InputError: something cannot be used; the message names it.
        """
        found = read_dataset_description(Path(path))
        labels, channels = self._settings.about["labels"], self._settings.about["channels"]
        if found.labels and _folded(found.labels) != _folded(labels):
            raise InputError(f"{path} has the labels {found.labels}, the project {labels}.", "They must agree.")
        if len(found.channels) != len(channels):
            raise InputError(f"{path} has the channels {found.channels}, the project {channels}.")
        cases = [(prefix + name, files, label) for name, files, label in found.cases[:limit]]
        values, emit = found.values or self.label_values, emit or ignore_events
        note = renumbering(labels, values)
        if note:
            emit(Event("message", {"text": note}))
        return self._import(cases, role, values, emit)

    def import_case(
        self, name: str, image_files: Sequence[Path], label_file: Path | None = None, *, role: str = "pool"
    ) -> str:
        """Imports one case from its files in channel order (or one file that holds all channels).

        Raises:
            InputError: the name is taken, or a file cannot be used; the message names it.
        """
        label = None if label_file is None else Path(label_file)
        self._import([(name, [Path(file) for file in image_files], label)], role, self.label_values, ignore_events)
        return name

    def _import(self, cases: list[CaseFiles], role: str, values: Sequence[int], emit: Emit) -> list[str]:
        _check_role(role)
        if self._data != self._root:
            raise InputError(f"The project {self._root} shares its images.", f"Import them into {self._data}.")
        self._db.check_writable()
        known = set(self._db.rows("SELECT name, role, source FROM cases"))
        cases = [case for case in cases if (case[0], role, _source(case[1])) not in known]
        check_new_names([name for name, _, _ in cases], [name for name, _, _ in known], check_case_name)
        channels = len(self._settings.about["channels"])
        checked = [check_case(*case, channels, values) for case in counted(cases, "check", emit)]
        with undone_on_failure(checked, self._images, self._labels):
            for case in counted(checked, "import", emit):
                store_case(case, self._images, self._labels, values)
            for folder in (self._images, self._labels):
                sync_folder(folder)
            sources = [_source(files) for _, files, _ in cases]
            rows = [(*_case_values(case, role), source) for case, source in zip(checked, sources, strict=True)]
            columns = "name, role, images, label, shape, spacing, source"
            with self._db.transaction():
                self._db.many(f"INSERT INTO cases ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                if not known:
                    self._settings.label_values = list(values)
        return [case.name for case in checked]

    def set_role(self, names: Iterable[str], role: str) -> None:
        """Makes cases pool or test cases.

        Raises:
            InputError: a case is unknown or has samples in the pool.
        """
        _check_role(role)
        with self._db.transaction():
            for name in names:
                self.row(name)
                if role == "test" and self._db.value("SELECT 1 FROM samples WHERE case_name = ?", (name,)):
                    raise InputError(f"Case {name!r} is in the pool already.", "Choose test cases before that.")
                self._db.execute("UPDATE cases SET role = ? WHERE name = ?", (role, name))

    def set_geometry(self, case_name: str, geometry: CaseGeometry) -> None:
        """Stores how a case's preprocessed grid lies in its image.

        Raises:
            InputError: the case is unknown, or the geometry is of another case or shape.
        """
        shape = self.row(case_name).shape
        if geometry.case != case_name or tuple(geometry.raw_shape) != shape:
            raise InputError(f"Case {case_name!r} has the shape {shape}; this is another geometry: {geometry}.")
        self._db.execute("UPDATE cases SET geometry = ? WHERE name = ?", (geometry.to_json(), case_name))


def _case_values(case: CheckedCase, role: str) -> tuple[object, ...]:
    names = json.dumps([source.name for source in case.images], ensure_ascii=False)
    label = None if case.label is None else case.label.name
    return case.name, role, names, label, json.dumps(case.grid.shape), json.dumps(case.grid.spacing[::-1])


def _source(files: Sequence[Path]) -> str:
    """Where a case comes from: its image files, absolute."""
    return json.dumps([str(Path(file).absolute()) for file in files], ensure_ascii=False)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise InputError(f"{role!r} is no role of a case.", f"Use one of {', '.join(ROLES)}.")


def _folded(labels: dict[str, int]) -> dict[str, int]:
    return {name.casefold(): value for name, value in labels.items()}
