"""The cases of a project: imported images, hidden reference labels, and what is known of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.dataset import read_dataset_description
from alunet.imaging.dicom.series import SeriesIdentity
from alunet.imaging.folders import CaseFiles
from alunet.imaging.label_file import folded
from alunet.imaging.labels import LabelSource, Structures
from alunet.pool import CaseGeometry
from alunet.project.identity import content_of, stamp_of
from alunet.project.importing import (
    CheckedCase,
    KnownCase,
    check_case,
    check_new_names,
    counted,
    say_left_out,
    say_same_scans,
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
        rows = self._db.rows(
            "SELECT name, role, images, label, geometry, shape, spacing FROM cases ORDER BY name"
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

    def notes(self) -> dict[str, list[str]]:
        """Return what was said of the files of cases when they were imported, by the case's
        name.
        """
        rows = self._db.rows("SELECT name, notes FROM cases WHERE notes != '[]' ORDER BY name")
        return {name: json.loads(notes) for name, notes in rows}

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
        names, values = tuple(self._settings.about["labels"]), self._settings.label_values
        return Structures(names, tuple(range(len(names)) if values is None else values))

    def import_dataset(
        self,
        path: Path,
        *,
        role: str = "pool",
        limit: int | None = None,
        prefix: str = "",
        ignore: int | None = None,
        series: str = "",
        emit: Emit | None = None,
    ) -> list[str]:
        """Imports a data set: all of it or, where anything is wrong, nothing.

        Cases that were imported from the same files before are left as they are, so the same import
        can be asked for again: after a crash, or when the folder has grown.

        Args:
            path: see `read_dataset_description`.
            role: of the new cases.
            limit: import only the first cases, by name.
            prefix: put before every case name.
            ignore: value of voxels in the label files that are left open; None: as the data set
                says.
            series: which DICOM series of an examination, see `alunet.imaging.dicom_cases`.
            emit: receives "progress" events of the phases "check" and "import", and a "message" of
                what a person should know of how labels were read.

        Returns:
            Names of the new cases; empty where all were there.

        Raises:
            InputError: something cannot be used; the message names it.
        """
        channels = self._settings.about["channels"]
        found = read_dataset_description(Path(path), len(channels), series)
        labels = self._settings.about["labels"]
        _check_names(path, found.labels, labels)
        if len(found.channels) != len(channels):
            raise InputError(f"{path} has the channels {found.channels}, the project {channels}.")
        cases = [(prefix + name, files, label) for name, files, label in found.cases[:limit]]
        structures = self.structures
        if found.labels and not self._db.value("SELECT count(*) FROM cases"):
            theirs = {
                folded(name): value for name, value in zip(found.labels, found.values, strict=True)
            }
            values = tuple(theirs[folded(name)] for name in structures.names)
            structures = Structures(structures.names, values)
            if values != tuple(range(len(values))) and emit is not None:
                emit(Event("message", {"text": f"Values in label files: {structures.in_words()}."}))
        say_left_out(found.left_out, emit or ignore_events)
        labels_of = LabelSource(structures, found.meaning, ignore)
        return self._import(cases, role, labels_of, emit or ignore_events)

    def import_case(
        self,
        name: str,
        image_files: Sequence[Path],
        label_file: Path | None = None,
        *,
        role: str = "pool",
        ignore: int | None = None,
        beside: bool = True,
        dicom: SeriesIdentity | None = None,
        emit: Emit | None = None,
    ) -> str:
        """Imports one case from its files in channel order (or one file that holds all channels).

        Args:
            ignore, emit: see `import_dataset`.
            beside: whether a description beside the label file says what its values mean.
            dicom: UIDs of the series that the image was before it became a file of another form.

        Raises:
            InputError: the name is taken, or a file cannot be used; the message names it.
        """
        label = None if label_file is None else Path(label_file)
        labels = LabelSource(self.structures, ignore=ignore, beside=beside)
        files = [(name, [Path(file) for file in image_files], label)]
        self._import(files, role, labels, emit or ignore_events, dicom)
        return name

    def _import(
        self,
        cases: list[CaseFiles],
        role: str,
        labels: LabelSource,
        emit: Emit,
        dicom: SeriesIdentity | None = None,
    ) -> list[str]:
        _check_role(role)
        if self._data != self._root:
            raise InputError(
                f"The project {self._root} shares its images.", f"Import them into {self._data}."
            )
        self._db.check_writable()
        channels = len(self._settings.about["channels"])
        known = self._known()
        new = [case for case in cases if not self._is_unchanged(case, role, known)]
        check_new_names(new)
        checked = [check_case(*case, channels, labels) for case in counted(new, "check", emit)]
        checked = [
            replace(case, dicom=case.dicom or dicom)
            for case in checked
            if self._is_new(case, role, known, emit)
        ]
        for note in dict.fromkeys(note for case in checked for note in case.notes):
            emit(Event("message", {"text": note}))
        say_same_scans(checked, known, emit)
        self._store(checked, role, labels, emit)
        return [case.name for case in checked]

    def _known(self) -> dict[str, KnownCase]:
        """What is known of the cases, by the name as it is compared."""
        rows = self._db.rows("SELECT name, role, images, content, stamp FROM cases")
        return {name.casefold(): KnownCase(name, *rest) for name, *rest in rows}

    def _is_unchanged(self, case: CaseFiles, role: str, known: Mapping[str, KnownCase]) -> bool:
        """Whether a case was imported from the very same files, which no one has written since."""
        name, files, label = case
        own = known.get(name.casefold())
        stamp = stamp_of([*files, *([label] if label else [])])
        return own is not None and own.role == role and own.stamp == stamp

    def _is_new(
        self, case: CheckedCase, role: str, known: Mapping[str, KnownCase], emit: Emit
    ) -> bool:
        """Whether a checked case is none of the project's; one that is the same but moved is noted
        so.

        Raises:
            InputError: the project has another case of that name.
        """
        own = known.get(case.name.casefold())
        if own is None:
            return True
        content = own.content or content_of(self._images / file for file in json.loads(own.images))
        files = json.loads(case.stamp)
        if content != case.content:
            same_path = own.stamp is not None and json.loads(own.stamp)[0][0] == files[0][0]
            what = "changed since it was added" if same_path else "is another image in the project"
            raise InputError(
                f"Case '{own.name}' {what}: {files[0][0]} has other voxels.",
                "Give it another name, or leave it out.",
            )
        if own.role != role:
            raise InputError(
                f"Case '{own.name}' is in the project already, as a {own.role} case.",
                "A case cannot be learned from and evaluated on. Leave it out.",
            )
        self._note_label(case, emit)
        self._db.execute(
            "UPDATE cases SET content = ?, stamp = ? WHERE name = ?",
            (content, case.stamp, own.name),
        )
        return False

    def _note_label(self, case: CheckedCase, emit: Emit) -> None:
        """Say so where a case that is there already comes with a label that is not the one kept."""
        kept = self._db.value("SELECT label FROM cases WHERE name = ?", (case.name,))
        if case.label is None:
            return
        if kept is None:
            text = (
                f"{case.name} is in the project without a label; {case.label.name} was not taken."
            )
        elif case.label_content == content_of([self._labels / str(kept)]):
            return
        else:
            text = (
                f"The label of {case.name} changed since it was added; the project keeps the first."
            )
        emit(Event("message", {"text": text}))

    def _store(
        self, checked: Sequence[CheckedCase], role: str, labels: LabelSource, emit: Emit
    ) -> None:
        """Store checked cases: all of them or none."""
        with undone_on_failure(checked, self._images, self._labels):
            for case in counted(checked, "import", emit):
                store_case(case, self._images, self._labels, labels)
            for folder in (self._images, self._labels):
                sync_folder(folder)
            columns = "name, role, images, label, shape, spacing, content, stamp, notes, dicom"
            with self._db.transaction():
                first = not self._db.value("SELECT count(*) FROM cases")
                self._db.many(
                    f"INSERT INTO cases ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [_case_values(case, role) for case in checked],
                )
                if first:
                    self._settings.label_values = list(labels.structures.values)

    def set_role(self, names: Iterable[str], role: str) -> None:
        """Makes cases pool or test cases.

        Raises:
            InputError: a case is unknown or has samples in the pool.
        """
        _check_role(role)
        with self._db.transaction():
            for name in names:
                self.row(name)
                if role == "test" and self._db.value(
                    "SELECT 1 FROM samples WHERE case_name = ?", (name,)
                ):
                    raise InputError(
                        f"Case {name!r} is in the pool already.", "Choose test cases before that."
                    )
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


def _case_values(case: CheckedCase, role: str) -> tuple[object, ...]:
    names = json.dumps([source.name for source in case.images], ensure_ascii=False)
    place = json.dumps(case.grid.shape), json.dumps(case.grid.spacing[::-1])
    notes = json.dumps(case.notes, ensure_ascii=False)
    dicom = None if case.dicom is None else json.dumps(asdict(case.dicom))
    return case.name, role, names, case.kept_label, *place, case.content, case.stamp, notes, dicom


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise InputError(f"{role!r} is no role of a case.", f"Use one of {', '.join(ROLES)}.")


def _check_names(path: Path, theirs: dict[str, int], own: dict[str, int]) -> None:
    """Raise InputError where a data set names other structures than the project; their numbers
    may differ.
    """
    known, named = {folded(name) for name in own}, {folded(name) for name in theirs}
    if not theirs or known == named:
        return
    more = [f"'{name}'" for name in theirs if folded(name) not in known]
    less = [f"'{name}'" for name in own if folded(name) not in named]
    words = [
        f"{what} {', '.join(names)}" for what, names in (("also", more), ("not", less)) if names
    ]
    raise InputError(
        f"{path} names other structures than the project: {' and '.join(words)}.",
        "They must agree, because what a data set does not name would count as background.",
    )
