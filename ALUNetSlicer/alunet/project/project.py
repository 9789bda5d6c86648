"""A project: a folder that one process writes at a time and that survives any crash."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from alunet.errors import InputError
from alunet.imaging.dataset import number_labels
from alunet.pool import Pool
from alunet.project.annotations import Annotations
from alunet.project.case_changes import CaseChanges
from alunet.project.cases import Cases
from alunet.project.creation import create_database, reference
from alunet.project.erasing import Erasing
from alunet.project.events import Events
from alunet.project.held import remove_held_files
from alunet.project.jobs import Jobs
from alunet.project.label_maps import LabelMaps
from alunet.project.learned import Learned
from alunet.project.requests import Requests
from alunet.project.rewriting import Rewriting
from alunet.project.rounds import Rounds
from alunet.project.samples import Samples
from alunet.project.seals import Seals
from alunet.project.settings import Settings
from alunet.project.structures import ProjectStructures
from alunet.project.tables import MIGRATIONS
from alunet.project.taking_back import TakingBack
from alunet.project.versions import Versions
from alunet.project.worklist import Worklist
from alunet.schema import TILE
from alunet.storage.database import BUSY_SECONDS, Database
from alunet.storage.files import FolderLock, remove_leftovers, sync_folder
from alunet.storage.locks import InUse


class Project:
    """A project folder; made by `Project.create` or `Project.open`, used as a context manager.

    A project belongs to the thread that opened it.

    Attributes:
        root: the folder.
        data: the folder that holds images/, labels/ and nnunet/: `root`, or the root of another
            project whose data this one shares and never writes.
        name: of the project.
        channels: channel names as nnU-Net knows them.
        read_only: whether it was opened for reading only.
        settings, cases, samples, rounds, worklist, annotations, jobs, events, requests, structures,
            learned, case_changes, taking_back, erasing, seals: its parts.
    """

    def __init__(
        self,
        root: Path,
        *,
        read_only: bool = False,
        shared: bool = False,
        wait: float = BUSY_SECONDS,
    ) -> None:
        self.root = Path(root).absolute()
        self.read_only = read_only
        if not (self.root / "project.db").is_file():
            raise InputError(
                f"There is no ALUNet project in {self.root}.",
                "Check the folder, or create the project.",
            )
        if not (self.root / "project.db").stat().st_size:
            raise InputError(f"The project in {self.root} was never completed.", "Create it again.")
        self._lock = None if read_only or shared else FolderLock(self.root)
        try:
            self._db = Database(
                self.root / "project.db",
                MIGRATIONS,
                read_only=read_only,
                reading_helps=shared,
                wait=wait,
            )
            self._load()
        except BaseException:  # whatever happened, the lock must not outlive the attempt
            self.close()
            raise

    def _load(self) -> None:
        if self._db.version == 0:
            raise InputError(f"The project in {self.root} was never completed.", "Create it again.")
        if self._db.version < self._db.newest:
            self._db.migrate()
        self.settings = Settings(self._db)
        about = self.settings.about
        self.name: str = about["name"]
        self.channels: list[str] = about["channels"]
        shared = self.settings.data
        self.data = self.root if shared is None else Path(os.path.normpath(self.root / shared))
        if not self.data.is_dir():
            raise InputError(
                f"The data of the project {self.root} are gone: {self.data}.",
                "Move them back there.",
            )
        self._compose()
        if self._lock is not None:
            self._make_folders()
            self.erasing.finish()
        if self._is_writable:
            self.taking_back.finish()

    @property
    def _is_writable(self) -> bool:
        """Whether it was opened for writing, and the disk lets it be written."""
        return not self.read_only and self._db.unwritable is None

    def _compose(self) -> None:
        """Make the parts, each of those that it stands on."""
        self.events, self.requests, self.rounds = (
            Events(self._db),
            Requests(self._db),
            Rounds(self._db),
        )
        self.cases, self.samples = (
            Cases(self._db, self.settings, self.root, self.data),
            Samples(self._db),
        )
        self.worklist = Worklist(
            self._db, self.cases, self.samples, self.rounds, self.events, self.requests
        )
        self.seals = Seals(self._db, self.events)
        versions = Versions(
            self._db, self.annotations_dir / "history", self.cases.files, self.seals
        )
        maps = LabelMaps(
            self._db,
            self.annotations_dir,
            self.root / "locks",
            self.settings,
            self.cases,
            versions,
            self.seals,
            self.events,
        )
        self.annotations = Annotations(
            self._db,
            self.settings,
            self.cases,
            self.samples,
            self.rounds,
            self.worklist,
            self.requests,
            self.seals,
            versions,
            maps,
        )
        self.jobs = Jobs(self._db, self.events, self.root / "jobs")
        self._compose_changes()

    def _compose_changes(self) -> None:
        """Make the parts that change what is there."""
        rewriting = Rewriting(
            self._db, self.settings, self.root, self.cases, self.annotations, self.rounds
        )
        self.structures = ProjectStructures(
            self._db, self.settings, self.cases, self.rounds, self.worklist, self.events, rewriting
        )
        self.learned = Learned(self._db, self.rounds)
        self.case_changes = CaseChanges(
            self._db, self.cases, self.rounds, self.learned, self.events
        )
        self.taking_back = TakingBack(
            self._db,
            self.annotations,
            self.samples,
            self.rounds,
            self.worklist,
            self.learned,
            self.requests,
            self.settings,
        )
        self.erasing = Erasing(
            self._db,
            self.root,
            self.data,
            self.cases,
            self.samples,
            self.annotations,
            self.learned,
            self.events,
        )
        if self.settings.change is not None and self._is_writable:
            self._finish_change(rewriting)

    def _finish_change(self, rewriting: Rewriting) -> None:
        """Finish a change of all labels whose process was killed, or leave one that goes on."""
        if self._lock is not None:
            rewriting.recover()
            return
        with contextlib.suppress(InUse):
            lock = FolderLock(self.root)
            try:
                rewriting.recover()
            finally:
                lock.release()

    def _make_folders(self) -> None:
        """Makes the folders and removes what a killed process left half written."""
        own = [self.rounds_dir]
        own += [self.images_dir, self.labels_dir, self.nnunet_dir] if self.data == self.root else []
        for folder in (self.annotations_dir, *own):
            folder.mkdir(exist_ok=True)
        for folder in (*own, self.root / "cache"):
            remove_leftovers(folder)
        remove_held_files(self.root)
        self.annotations.maps.remove_leftovers()  # of annotations: others may be writing there

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        name: str,
        labels: dict[str, int],
        channels: Sequence[str],
        data: Path | None = None,
        annotation: dict[str, Any] | None = None,
        unit: str = TILE,
    ) -> Project:
        """Makes a new project and opens it for writing.

        Args:
            root: folder; made where it is missing.
            name: for people.
            labels: structure name to value in label files; values other than 0 for the background
                and then 1, 2, … are renumbered so, see `label_values`.
            channels: channel names as nnU-Net knows them, for instance ["MRI"] or ["CT"].
            data: root of another project to share images, labels and preprocessed data of; its
                cases are taken over.
            annotation: see `Settings.annotation`.
            unit: what a sample is, see `Settings.unit`.

        Raises:
            InputError: a project is there already, or the labels or channels are impossible.
        """
        root = Path(root).absolute()
        numbered, values = number_labels(labels)
        if not channels or not all(str(channel).strip() for channel in channels):
            raise InputError(
                f"The channels {list(channels)} are incomplete.",
                'Name each one, for instance "MRI".',
            )
        if root.exists() and not root.is_dir():
            raise InputError(f"{root} is a file.", "Give a folder for the project.")
        source, new = None if data is None else cls(Path(data), read_only=True), not root.exists()
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            create_database(root, name, numbered, channels, source, list(values), annotation, unit)
        except BaseException:  # also Ctrl-C: a half made project is in the way of the next attempt
            if new:
                shutil.rmtree(root, ignore_errors=True)
            raise
        finally:
            if source is not None:
                source.close()
        return cls(root)

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        read_only: bool = False,
        shared: bool = False,
        wait: float = BUSY_SECONDS,
    ) -> Project:
        """Opens a project.

        Args:
            root: its folder.
            read_only: many may read while one writes.
            shared: for short writes beside the one that has the folder: annotations, leases, jobs,
                events. Importing cases and advancing the loop need the folder.
            wait: seconds to wait for a database that another process holds.

        Raises:
            InputError: there is none, a newer program made it, or another process has it open for
                writing.
        """
        return cls(Path(root), read_only=read_only, shared=shared, wait=wait)

    def close(self) -> None:
        """Closes the database and gives the folder back; a second call does nothing."""
        if hasattr(self, "_db"):
            self._db.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Project:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def fork(self, root: Path) -> Project:
        """A copy that goes its own way: database, annotations and rounds are copied, the data are
        shared.

        The copy appears whole or not at all; what an interrupted attempt left is removed by the
        next.

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
        Settings(copy).data = reference(self.data, root)
        copy.close()
        if root.exists():
            root.rmdir()
        partial.replace(root)
        sync_folder(root.parent)
        return Project(root)

    @property
    def labels(self) -> dict[str, int]:
        """Structure name to number, ascending, from ``"background": 0`` on; there may be gaps."""
        found: dict[str, int] = self.settings.about["labels"]
        return found

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
        """Folder of the plan and of the preprocessed images."""
        return self.data / "nnunet"

    @property
    def training_labels_dir(self) -> Path:
        """Folder of what is annotated here on the grid of the preprocessed images; never shared."""
        return self.root / "nnunet" / "labels"

    @property
    def annotations_dir(self) -> Path:
        """Folder of the annotated label maps."""
        return self.root / "annotations"

    @property
    def rounds_dir(self) -> Path:
        """Folder of what each round leaves."""
        return self.root / "rounds"

    @property
    def pool(self) -> Pool:
        """The samples of a planned project, see `Samples.pool`."""
        return self.samples.pool

    def copy_database(self, path: Path) -> None:
        """Write a copy of the database as it is now; see `Database.copy_to`."""
        self._db.copy_to(path)

    def together(self) -> contextlib.AbstractContextManager[None]:
        """All changes of the block, or none; on disk when it ends."""
        return self._db.transaction()
