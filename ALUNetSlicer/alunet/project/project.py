"""A project: a folder that one process writes at a time and that survives any crash."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from alunet.errors import InputError
from alunet.imaging.dataset import CaseFiles, check_case_name, number_labels, read_dataset_description
from alunet.pool import CaseGeometry, Pool
from alunet.project.choosing import Choosing
from alunet.project.creation import create_database, reference
from alunet.project.importing import (
    CheckedCase,
    check_case,
    check_new_names,
    counted,
    renumbering,
    store_case,
    undone_on_failure,
)
from alunet.project.jobs import Jobs
from alunet.project.journal import Journal
from alunet.project.rounds import Rounds
from alunet.project.tables import MIGRATIONS
from alunet.schema import Emit, Event, ignore_events
from alunet.storage.database import Database
from alunet.storage.files import FolderLock, remove_leftovers, sync_folder

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


class Project(Choosing, Journal, Jobs):
    """A project folder; made by `Project.create` or `Project.open`, used as a context manager.

    A project belongs to the thread that opened it.

    Attributes:
        root: the folder.
        data: the folder that holds images/, labels/ and nnunet/: `root`, or the root of another project whose data
            this one shares and never writes.
        name: of the project.
        labels: structure name to value, from ``"background": 0`` on.
        channels: channel names as nnU-Net knows them.
        read_only: whether it was opened for reading only.
        rounds: which round it is, and what is known of each.
    """

    def __init__(self, root: Path, *, read_only: bool = False, shared: bool = False) -> None:
        self.root = Path(root).absolute()
        self.read_only = read_only
        self._pool: Pool | None = None
        if not (self.root / "project.db").is_file():
            raise InputError(f"There is no ALUNet project in {self.root}.", "Check the folder, or create the project.")
        if not (self.root / "project.db").stat().st_size:
            raise InputError(f"The project in {self.root} was never completed.", "Create it again.")
        self._lock = None if read_only or shared else FolderLock(self.root)
        try:
            self._db = Database(self.root / "project.db", MIGRATIONS, read_only=read_only)
            self._load()
        except BaseException:  # whatever happened, the lock must not outlive the attempt
            self.close()
            raise

    def _load(self) -> None:
        if self._db.version == 0:
            raise InputError(f"The project in {self.root} was never completed.", "Create it again.")
        if self._db.version < self._db.newest:
            self._db.migrate()
        self.rounds = Rounds(self._db)
        about = self.get_meta("project")
        self.name: str = about["name"]
        self.labels: dict[str, int] = about["labels"]
        self.channels: list[str] = about["channels"]
        shared = self.get_meta("data")
        self.data = self.root if shared is None else Path(os.path.normpath(self.root / shared))
        if not self.data.is_dir():
            raise InputError(f"The data of the project {self.root} are gone: {self.data}.", "Move them back there.")
        if self._lock is not None:
            self._make_folders()

    def _make_folders(self) -> None:
        """Makes the folders and removes what a killed process left half written."""
        own = [self.rounds_dir]
        own += [self.images_dir, self.labels_dir, self.nnunet_dir] if self.data == self.root else []
        for folder in (self.annotations_dir, *own):
            folder.mkdir(exist_ok=True)
        for folder in (*own, self.root / "cache"):
            remove_leftovers(folder)
        self._remove_leftovers()  # of annotations: others may be writing there

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        name: str,
        labels: dict[str, int],
        channels: Sequence[str],
        data: Path | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Project:
        """Makes a new project and opens it for writing.

        Args:
            root: folder; made where it is missing.
            name: for people.
            labels: structure name to value in label files; values other than 0 for the background and then 1, 2, …
                are renumbered so, see `label_values`.
            channels: channel names as nnU-Net knows them, for instance ["MRI"] or ["CT"].
            data: root of another project to share images, labels and preprocessed data of; its cases are taken over.
            meta: settings to store with it, see `set_meta`.

        Raises:
            InputError: a project is there already, or the labels or channels are impossible.
        """
        root = Path(root).absolute()
        numbered, values = number_labels(labels)
        if not channels or not all(str(channel).strip() for channel in channels):
            raise InputError(f"The channels {list(channels)} are incomplete.", 'Name each one, for instance "MRI".')
        if root.exists() and not root.is_dir():
            raise InputError(f"{root} is a file.", "Give a folder for the project.")
        source, new = None if data is None else cls(Path(data), read_only=True), not root.exists()
        try:
            root.mkdir(parents=True, exist_ok=True)
            create_database(root, name, numbered, channels, source, {"label values": values, **(meta or {})})
        except BaseException:  # also Ctrl-C: a half made project is in the way of the next attempt
            if new:
                shutil.rmtree(root, ignore_errors=True)
            raise
        finally:
            if source is not None:
                source.close()
        return cls(root)

    @classmethod
    def open(cls, root: Path, *, read_only: bool = False, shared: bool = False) -> Project:
        """Opens a project.

        Args:
            root: its folder.
            read_only: many may read while one writes.
            shared: for short writes beside the one that has the folder: annotations, leases, jobs, events. Importing
                cases and advancing the loop need the folder.

        Raises:
            InputError: there is none, a newer program made it, or another process has it open for writing.
        """
        return cls(Path(root), read_only=read_only, shared=shared)

    def close(self) -> None:
        """Closes the database and gives the folder back; a second call does nothing."""
        if hasattr(self, "_db"):
            self._db.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Project:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fork(self, root: Path) -> Project:
        """A copy that goes its own way: database, annotations and rounds are copied, the data are shared.

        The copy appears whole or not at all; what an interrupted attempt left is removed by the next.

        Raises:
            InputError: `root` exists and is not empty.
        """
        root = Path(root).absolute()
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise InputError(f"{root} exists already.", "Give a new folder for the copy.")
        partial = root.with_name(root.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self._db.copy_to(partial / "project.db")
        for folder in (self.annotations_dir, self.rounds_dir):
            shutil.copytree(folder, partial / folder.name)
        copy = Database(partial / "project.db", MIGRATIONS)
        value = json.dumps(reference(self.data, root), ensure_ascii=False)
        copy.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('data', ?)", (value,))
        copy.close()
        if root.exists():
            root.rmdir()
        partial.replace(root)
        sync_folder(root.parent)
        return Project(root)

    @property
    def num_classes(self) -> int:
        """Number of classes including the background."""
        return len(self.labels)

    @property
    def label_values(self) -> tuple[int, ...]:
        """What each class 0, 1, … is called in the label files that the first cases came with."""
        return tuple(self.get_meta("label values", range(self.num_classes)))

    @property
    def images_dir(self) -> Path:
        """Folder of the imported images."""
        return self.data / "images"

    @property
    def labels_dir(self) -> Path:
        """Folder of the hidden reference labels."""
        return self.data / "labels"

    @property
    def nnunet_dir(self) -> Path:
        """Folder of nnU-Net's raw, preprocessed and result folders."""
        return self.data / "nnunet"

    @property
    def annotations_dir(self) -> Path:
        """Folder of the annotated label maps."""
        return self.root / "annotations"

    @property
    def rounds_dir(self) -> Path:
        """Folder of what each round leaves."""
        return self.root / "rounds"

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
        if found.labels and _folded(found.labels) != _folded(self.labels):
            raise InputError(f"{path} has the labels {found.labels}, the project {self.labels}.", "They must agree.")
        if len(found.channels) != len(self.channels):
            raise InputError(f"{path} has the channels {found.channels}, the project {self.channels}.")
        cases = [(prefix + name, files, label) for name, files, label in found.cases[:limit]]
        values, emit = found.values or self.label_values, emit or ignore_events
        note = renumbering(self.labels, values)
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
        if self.data != self.root:
            raise InputError(f"The project {self.root} shares its images.", f"Import them into {self.data}.")
        if self.read_only:
            raise InputError("The project is open for reading only.", "Open it for writing.")
        known = set(self._db.rows("SELECT name, role, source FROM cases"))
        cases = [case for case in cases if (case[0], role, _source(case[1])) not in known]
        check_new_names([name for name, _, _ in cases], [name for name, _, _ in known], check_case_name)
        channels = len(self.channels)
        checked = [check_case(*case, channels, values) for case in counted(cases, "check", emit)]
        with undone_on_failure(checked, self.images_dir, self.labels_dir):
            for case in counted(checked, "import", emit):
                store_case(case, self.images_dir, self.labels_dir, values)
            for folder in (self.images_dir, self.labels_dir):
                sync_folder(folder)
            sources = [_source(files) for _, files, _ in cases]
            rows = [(*_case_values(case, role), source) for case, source in zip(checked, sources, strict=True)]
            columns = "name, role, images, label, shape, spacing, source"
            with self._db.transaction():
                self._db.many(f"INSERT INTO cases ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                if not known:
                    self.set_meta("label values", list(values))
        return [case.name for case in checked]

    def cases(self, role: str | None = None) -> list[Case]:
        """The cases, by name; of one role, or all."""
        rows = self._db.rows("SELECT name, role, images, label, geometry, shape, spacing FROM cases ORDER BY name")
        return [
            Case(
                name=name,
                role=own,
                images=tuple(self.images_dir / file for file in json.loads(images)),
                label=None if label is None else self.labels_dir / label,
                geometry=None if geometry is None else CaseGeometry.from_json(geometry),
                shape=tuple(json.loads(shape)),
                spacing=tuple(json.loads(spacing)),
            )
            for name, own, images, label, geometry, shape, spacing in rows
            if role in (None, own)
        ]

    def set_role(self, names: Iterable[str], role: str) -> None:
        """Makes cases pool or test cases.

        Raises:
            InputError: a case is unknown or has samples in the pool.
        """
        _check_role(role)
        with self._db.transaction():
            for name in names:
                self._case_row(name)
                if role == "test" and self._db.value("SELECT 1 FROM samples WHERE case_name = ?", (name,)):
                    raise InputError(f"Case {name!r} is in the pool already.", "Choose test cases before that.")
                self._db.execute("UPDATE cases SET role = ? WHERE name = ?", (role, name))

    def set_geometry(self, case_name: str, geometry: CaseGeometry) -> None:
        """Stores how a case's preprocessed grid lies in its image.

        Raises:
            InputError: the case is unknown, or the geometry is of another case or shape.
        """
        shape = self._case_row(case_name)[0]
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
