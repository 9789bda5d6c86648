"""The cases of a project: imported images, hidden reference labels, and what is known of each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.dataset import DatasetDescription, read_dataset_description
from alunet.imaging.dicom.series import SeriesIdentity
from alunet.imaging.folders import CaseFiles
from alunet.imaging.label_file import folded
from alunet.imaging.labels import LabelSource, Structures
from alunet.imaging.limits import MOST_BYTES
from alunet.project.case_table import CaseTable, check_role
from alunet.project.identity import comparable, content_of, stamp_of
from alunet.project.importing import (
    CheckedCase,
    Held,
    KnownCase,
    check_case,
    check_new_names,
    counted,
    note_same_scans,
    remove_files,
    say_left_out,
    say_removed,
    store_case,
    undone_on_failure,
)
from alunet.project.training_labels import (
    HIDDEN,
    NONE,
    TRAIN,
    LabelUse,
)
from alunet.schema import Emit, Event, ignore_events
from alunet.schema.names import compared, composed
from alunet.storage.files import sha256_file, sync_folder


class Cases(CaseTable):
    """The table of cases, and the import of images and labels into it."""

    def import_dataset(
        self,
        path: Path,
        *,
        role: str = "pool",
        limit: int | None = None,
        prefix: str = "",
        ignore: int | None = None,
        series: str = "",
        label_use: str = HIDDEN,
        found: DatasetDescription | None = None,
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
            label_use: HIDDEN: labels are a reference that no training sees; TRAIN: besides, they
                become annotations once the case is planned, also those of cases that are there
                already; NONE: they are not taken.
            found: what `path` holds, where that was read already.
            emit: receives "progress" events of the phases "check" and "import", and a "message" of
                what a person should know of how labels were read.

        Returns:
            Names of the new cases; empty where all were there.

        Raises:
            InputError: something cannot be used; the message names it.
        """
        channels = self._settings.about["channels"]
        found = found or read_dataset_description(Path(path), len(channels), series)
        structures = self.structures
        silent = _unnamed(path, found.labels, structures, self._settings.added_structures)
        if len(found.channels) != len(channels):
            raise InputError(f"{path} has the channels {found.channels}, the project {channels}.")
        cases = [(prefix + name, files, label) for name, files, label in found.cases[:limit]]
        if found.labels and not self._db.value("SELECT count(*) FROM cases"):
            pairs = zip(found.labels, found.values, strict=True)
            theirs = {structures.find(name): value for name, value in pairs}
            free = (n for n in range(1, 1 << 16) if n not in theirs.values())
            values = tuple(theirs[n] if n in theirs else next(free) for n in structures.numbers)
            structures = replace(structures, values=values)
            if values != structures.numbers and emit is not None:
                emit(Event("message", {"text": f"Values in label files: {structures.in_words()}."}))
        say_left_out(found.left_out, emit or ignore_events)
        labels_of = LabelSource(structures, found.meaning, ignore)
        use = LabelUse(labels_of, label_use, tuple(silent))
        return self._import(cases, role, use, emit or ignore_events)

    def import_case(
        self,
        name: str,
        image_files: Sequence[Path],
        label_file: Path | None = None,
        *,
        role: str = "pool",
        ignore: int | None = None,
        beside: bool = True,
        label_use: str = HIDDEN,
        dicom: SeriesIdentity | None = None,
        most_bytes: int = MOST_BYTES,
        emit: Emit | None = None,
    ) -> str:
        """Imports one case from its files in channel order (or one file that holds all channels).

        Args:
            ignore, label_use, emit: see `import_dataset`.
            beside: whether a description beside the label file says what its values mean.
            dicom: UIDs of the series that the image was before it became a file of another form.
            most_bytes: of voxels that a file may have.

        Raises:
            InputError: the name is taken, or a file cannot be used; the message names it.
        """
        label = None if label_file is None else Path(label_file)
        labels = LabelSource(self.structures, ignore=ignore, beside=beside, limit=most_bytes)
        name = composed(name)
        case = (name, [Path(file) for file in image_files], label)
        use = LabelUse(labels, label_use)
        self._import([case], role, use, emit or ignore_events, dicom)
        return name

    def _import(
        self,
        cases: list[CaseFiles],
        role: str,
        use: LabelUse,
        emit: Emit,
        dicom: SeriesIdentity | None = None,
    ) -> list[str]:
        check_role(role)
        use.check(role)
        if self._data != self._root:
            raise InputError(
                f"The project {self._root} shares its images.", f"Import them into {self._data}."
            )
        self._db.check_writable()
        channels = len(self._settings.about["channels"])
        if use.purpose == NONE:
            cases = [(name, files, None) for name, files, _ in cases]
        known = self._known()
        new = [case for case in cases if not self._is_unchanged(case, role, known)]
        say_removed(cases, known, emit)
        check_new_names(new)
        held = Held()
        checked = [
            check_case(*case, channels, use.source, told, held)
            for case, told in counted(new, "check", emit)
        ]
        checked = [case for case in checked if self._is_new(case, role, known, emit)]
        checked = [replace(case, dicom=case.dicom or dicom) for case in checked]
        if checked:
            checked = note_same_scans(checked, self._with_content(known.values(), emit))
        for note in dict.fromkeys(note for case in checked for note in case.notes):
            emit(Event("message", {"text": note}))
        learned = [name for name, _, label in cases if label and use.purpose == TRAIN]
        self._store(checked, role, use, learned, emit)
        return [case.name for case in checked]

    def _known(self) -> dict[str, KnownCase]:
        """What is known of the cases, by the name as it is compared."""
        rows = self._db.rows("SELECT name, role, images, content, stamp, state FROM cases")
        return {
            compared(name): KnownCase(name, role, images, comparable(content), stamp, state)
            for name, role, images, content, stamp, state in rows
        }

    def _with_content(self, known: Iterable[KnownCase], emit: Emit) -> list[KnownCase]:
        """Return the cases with the content of those that were added before it was kept."""
        done = [own for own in known if own.content]
        older = [own for own in known if not own.content and json.loads(own.images)]
        for own, _ in counted(older, "compare", emit):
            with contextlib.suppress(InputError):  # a damaged image of another case is no hindrance
                content = content_of(self._images / file for file in json.loads(own.images))
                self._db.execute("UPDATE cases SET content = ? WHERE name = ?", (content, own.name))
                done.append(replace(own, content=content))
        return done

    def _is_unchanged(self, case: CaseFiles, role: str, known: Mapping[str, KnownCase]) -> bool:
        """Whether a case was imported from the very same files, which no one has written since."""
        name, files, label = case
        own = known.get(compared(name))
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
        own = known.get(compared(case.name))
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
                "A case cannot be learned from and evaluated on. Leave it out, or change its role.",
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
        self,
        checked: Sequence[CheckedCase],
        role: str,
        use: LabelUse,
        learned: Sequence[str],
        emit: Emit,
    ) -> None:
        """Store checked cases, all of them or none, and whose labels are to be learned from."""
        with undone_on_failure(checked, self._images, self._labels):
            for case, told in counted(checked, "import", emit):
                store_case(case, self._images, self._labels, use.source, told)
            for folder in (self._images, self._labels):
                sync_folder(folder)
            kept = _kept_files(checked, self._images, self._labels)
            hashes = [(file, case, sha256_file(file)) for file, case in kept]
            columns = (
                "name, role, images, label, shape, spacing, content, stamp, notes, dicom, silent"
            )
            with self._db.transaction():
                first = not self._db.value("SELECT count(*) FROM cases")
                self._db.many(
                    f"INSERT INTO cases ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [(*_case_values(case, role), json.dumps(use.silent)) for case in checked],
                )
                for file, case_name, sha256 in hashes:
                    self.files.note(file, case_name, sha256)
                if first:
                    self._settings.label_values = list(use.source.structures.values)
                self._note_to_learn(learned)

    def remove_unregistered(self, name: str) -> None:
        """Remove what an import that was killed left of a case; one of the project stays."""
        if compared(name) not in self._known():
            channels = len(self._settings.about["channels"])
            remove_files(name, channels, self._images, self._labels)


def _kept_files(
    checked: Sequence[CheckedCase], images: Path, labels: Path
) -> list[tuple[Path, str]]:
    """The files that cases have in the project, each with its case."""
    found = [(images / source.name, case.name) for case in checked for source in case.images]
    return found + [(labels / case.kept_label, case.name) for case in checked if case.kept_label]


def _case_values(case: CheckedCase, role: str) -> tuple[object, ...]:
    names = json.dumps([source.name for source in case.images], ensure_ascii=False)
    place = json.dumps(case.grid.shape), json.dumps(case.grid.spacing[::-1])
    notes = json.dumps(case.notes, ensure_ascii=False)
    dicom = None if case.dicom is None else json.dumps(asdict(case.dicom))
    return case.name, role, names, case.kept_label, *place, case.content, case.stamp, notes, dicom


def _unnamed(
    path: Path, theirs: Mapping[str, int], own: Structures, added: Container[int]
) -> list[int]:
    """Return the structures that a data set does not name because the project got them later.

    Raises:
        InputError: it names other structures than the project; their numbers may differ.
    """
    if not theirs:
        return []
    gone = {folded(old.name) for old in own.removed}
    more = [f"'{name}'" for name in theirs if own.find(name) is None and folded(name) not in gone]
    named = {own.find(name) for name in theirs}
    pairs = [pair for pair in zip(own.names, own.numbers, strict=True) if pair[1] not in named]
    less = [f"'{name}'" for name, number in pairs if number not in added]
    words = [
        f"{what} {', '.join(names)}" for what, names in (("also", more), ("not", less)) if names
    ]
    if not words:
        return [number for _, number in pairs]
    raise InputError(
        f"{path} names other structures than the project: {' and '.join(words)}.",
        "They must agree, because what a data set does not name would count as background.",
    )
