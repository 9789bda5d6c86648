"""The annotated voxels of a project: a label map for each case, and every version that was
submitted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import InputError
from alunet.imaging.labels import Structures
from alunet.imaging.reading import EXACT_ENDING, read_labels
from alunet.imaging.writing import write_like
from alunet.project.annotated import AnnotatedVoxels, Counts, counted_voxels
from alunet.project.cases import Cases
from alunet.project.refusals import StaleVersion
from alunet.project.requests import Requests
from alunet.project.rounds import Rounds
from alunet.project.samples import Place, Samples
from alunet.project.settings import Settings
from alunet.project.versions import Versions
from alunet.project.work_rows import newest_version
from alunet.project.worklist import Worklist
from alunet.schema import NOT_ANNOTATED, SampleState, Status
from alunet.storage.database import Database
from alunet.storage.files import written_name
from alunet.storage.locks import FileLock, InUse

Beyond = tuple[np.ndarray, np.ndarray]
"""Where voxels are that are in no sample, bool (k, j, i), and the label of each."""

Placed = tuple[int, Any, np.ndarray]
"""A sample, the index of its voxels in the case's array, and their labels."""


@dataclass(frozen=True)
class Submission:
    """Labels of one sample as a person submits them.

    Attributes:
        labels: uint8 or uint16, of the shape of the sample's raw box; numbers of structures, or
            `NOT_ANNOTATED` for open voxels.
        base: number of the version that they correct; 0 where there is none.
        seconds: time spent, None where that is not known.
        status: DONE makes them count for the training; any other only keeps them.
        known: highest number of a structure that the project had when they were drawn, removed ones
            among them; None: they were drawn with those of now.
        key: the same submission sent again has the same; empty: it is never sent again.
        digest: of the whole submission, to tell a key that is used twice.
    """

    labels: np.ndarray
    base: int
    author: str
    seconds: float | None = None
    status: Status = Status.DONE
    known: int | None = None
    key: str = ""
    digest: str = ""


class Annotations(AnnotatedVoxels):
    """The label maps and versions in `folder`, and the tables about them.

    Args:
        folder: of the label maps.
        locks: folder of the locks, one for each case.
        settings: of the project; no label is stored while they say that all labels are changed.

    Attributes:
        versions: of the labels.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        locks: Path,
        settings: Settings,
        cases: Cases,
        samples: Samples,
        rounds: Rounds,
        worklist: Worklist,
        requests: Requests,
    ) -> None:
        super().__init__(database, cases, samples)
        self.folder, self._locks, self._settings = folder, locks, settings
        self._rounds, self._worklist, self._requests = rounds, worklist, requests
        self.versions = Versions(database, folder / "history")

    # --- label maps -------------------------------------------------------------------------------

    def file(self, case: str) -> Path:
        """Return where a case's label map is, or will be while nothing is annotated."""
        return self.folder / f"{case}{EXACT_ENDING}"

    def read(self, case: str) -> np.ndarray:
        """Return a case's label map on the grid of its image file, axes (k, j, i), uint8.

        Voxels that were not annotated hold `NOT_ANNOTATED`.

        Raises:
            InputError: there is no such case.
        """
        known = self._cases.row(case)
        shape = known.shape
        if known.voxels is None:
            return np.full(shape, NOT_ANNOTATED, np.uint8)
        array = read_labels(self.file(case))
        if array.shape != shape:
            raise InputError(
                f"{self.file(case)} has the shape {array.shape}, not {shape}.", "Restore it."
            )
        return array.astype(np.uint8, copy=False)

    def annotate(
        self,
        case: str,
        items: Iterable[tuple[int, np.ndarray]],
        *,
        round: int,
        author: str,
        seconds: float | None = None,
        beyond: Beyond | None = None,
    ) -> None:
        """Stores labels of a case's samples; when this returns they are on disk.

        The label map is written first, the database after it: a crash between the two leaves voxels
        that no sample claims yet, and nothing that was acknowledged is lost. Labelling a sample
        again replaces its voxels, and the list of who labelled what when grows. A skipped sample is
        skipped no more. What has versions gets another one, so that the newest stays what is
        annotated.

        Args:
            case: name of the case.
            items: sample id and its labels, of the shape of the sample's raw box; values are
                numbers of structures, or `NOT_ANNOTATED` where the annotator left a voxel open.
            round: number of the round.
            author: who annotated.
            seconds: time spent on all the items together.
            beyond: labels of voxels that are in no sample; they are kept, though no training sees
                them.

        Raises:
            InputError: a sample is not of the case, or labels have another shape or other values.
        """
        self._db.check_writable()
        items, pool = (
            [(int(sample), np.asarray(labels)) for sample, labels in items],
            self._samples.pool,
        )
        self._samples.check([sample for sample, _ in items])
        self._cases.row(case)
        for sample, _ in items:
            if pool.case_name(sample) != case:
                raise InputError(
                    f"Sample {sample} is of case {pool.case_name(sample)!r}, not {case!r}."
                )
        with self.case_lock(case):
            placed: list[Placed] = [
                (sample, pool.raw_slices(sample), labels) for sample, labels in items
            ]
            counts = self._store(case, placed + ([(-1, *beyond)] if beyond else []))
            numbers = {sample: self.versions.last(sample) for sample, _ in items}
            versioned = [(sample, labels) for sample, labels in items if numbers[sample]]
            for sample, labels in versioned:
                self.versions.write(sample, numbers[sample] + 1, labels.astype(np.uint8))
            share = None if seconds is None else seconds / max(1, len(items))
            with self._db.transaction():
                for sample, _ in versioned:
                    about = newest_version(self._db, sample), author, Status.DONE.value
                    self.versions.note(sample, numbers[sample] + 1, *about, seconds=share)
                self._note(case, [sample for sample, _ in items], counts, round, author, seconds)

    def case_lock(self, case: str) -> FileLock:
        """The lock of a case's label map, for everybody who reads it in order to write it."""
        self._locks.mkdir(exist_ok=True)
        return FileLock(self._locks / f"{case}.lock")

    def remove_leftovers(self) -> None:
        """Removes what killed processes left half written, and nothing that somebody is writing."""
        for leftover in self.folder.glob(f"tmp-*{EXACT_ENDING}"):
            if (name := written_name(leftover)) is None:
                continue
            lock = self.case_lock(name.removesuffix(EXACT_ENDING))
            if lock.take():
                leftover.unlink(missing_ok=True)
            lock.release()

    def _store(self, case: str, placed: Sequence[Placed]) -> Counts:
        """Writes samples' labels into a case's label map; the caller holds its lock. Gives the
        voxels of each class that a training sees, and how many drawn ones none sees.
        """
        array = self.read(case)
        for sample, place, labels in placed:
            self.check_values(sample, labels, array[place].shape)
            array[place] = labels
        return self.write_map(case, array)

    def write_map(self, case: str, array: np.ndarray) -> Counts:
        """Write a case's label map and count its voxels; the caller holds its lock."""
        known = self._cases.row(case)
        write_like(array, known.image, self.file(case))
        return counted_voxels(array, known.geometry)

    def _note(
        self,
        case: str,
        samples: Sequence[int],
        counts: Counts,
        round: int,
        author: str,
        seconds: float | None,
    ) -> None:
        """Notes in the database what `_store` wrote, within the caller's transaction."""
        share = None if seconds is None else float(seconds) / max(1, len(samples))
        now = time.time()
        self._db.many(
            "INSERT INTO annotations (sample_id, case_name, round, author, seconds, time)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [(sample, case, round, author, share, now) for sample in samples],
        )
        self._db.many(
            "UPDATE samples SET state = 'labelled' WHERE id = ?", [(sample,) for sample in samples]
        )
        for table in ("skipped", "work"):  # also a flag: it is looked at now
            self._db.many(
                f"DELETE FROM {table} WHERE sample_id = ?", [(sample,) for sample in samples]
            )
        self.keep_counts(case, counts)

    def keep_counts(self, case: str, counts: Counts) -> None:
        """Note the voxels of a label map, within the caller's transaction."""
        voxels, unseen = counts
        self._db.execute(
            "UPDATE cases SET voxels = ?, unseen = ? WHERE name = ?",
            (json.dumps(voxels), unseen, case),
        )

    def check_values(self, sample: int, labels: np.ndarray, shape: tuple[int, ...]) -> None:
        """Raises InputError for labels of another shape than `shape`, or with values that are
        none.
        """
        if labels.shape != shape:
            raise InputError(
                f"Labels of sample {sample} have the shape {labels.shape}, not {shape}."
            )
        structures = self._cases.structures
        strange = labels[~structures.legal(labels)]
        if strange.size:
            raise _illegal(sample, strange[0], structures.numbered())

    # --- versions ---------------------------------------------------------------------------------

    def submit(self, sample: int, submission: Submission) -> SampleState:
        """Keeps labels as the sample's next version; when this returns, or raises StaleVersion,
        they are on disk.

        A submission whose key was there before gives the same answer again and changes nothing.

        Raises:
            StaleVersion: the base is not the newest version.
            KeyReused: the key came with other content.
            InputError: there is no such sample, or the labels have another shape or other values.
        """
        self._db.check_writable()
        place = self._samples.place(sample)
        with self.case_lock(place.case):
            self._samples.place(sample)  # its case may have been erased meanwhile
            answer = self._requests.answer(submission.key, submission.digest)
            if answer is None:
                self.check_unchanging()
                self.check_values(sample, submission.labels, place.shape)
                answer = self._keep(sample, place, submission)
        if "kept" in answer:
            raise StaleVersion(answer["version"], answer["kept"])
        return SampleState(sample, Status(answer["status"]), answer["version"])

    def check_unchanging(self) -> None:
        """Raise InUse while all labels are changed; the caller holds the lock of a case."""
        if self._settings.change is not None:
            raise InUse("The structures are being changed.", "Try again in a moment.")

    def _keep(self, sample: int, place: Place, submission: Submission) -> dict[str, Any]:
        newest, last = newest_version(self._db, sample), self.versions.last(sample)
        stale, number = not self._is_newest(sample, submission.base, newest), last + 1
        labels, later = self._as_of_now(submission)
        self.versions.write(sample, number, labels)
        counts = None
        if submission.status is Status.DONE and not stale:
            counts = self._store(place.case, [(sample, place.slices, labels)])
        answer: dict[str, Any] = {"version": number, "status": submission.status.value}
        if stale:
            answer = {"version": newest, "kept": number}
        with self._db.transaction():
            self.versions.note(
                sample,
                number,
                submission.base if stale else newest,
                submission.author,
                submission.status.value,
                seconds=submission.seconds,
                conflict=stale,
            )
            if counts is not None:
                round_ = self._rounds.of_new_labels()
                self._note(
                    place.case, [sample], counts, round_, submission.author, submission.seconds
                )
            if not stale:
                self._worklist.note_status(sample, submission.status, submission.author)
                if later and counts is not None:
                    reason = f"look again: '{later[0]}' is new"
                    self._worklist.look_again([sample], submission.author, reason)
            self._requests.keep(submission.key, submission.digest, answer)
        return answer

    def _is_newest(self, sample: int, base: int, newest: int) -> bool:
        """Whether a version is the newest, but for what changes of the structures made of it."""
        while base != newest:
            found = self._db.rows(
                "SELECT base FROM versions WHERE sample_id = ? AND number = ? AND derived",
                (sample, newest),
            )
            if not found:
                return False
            newest = found[0][0]
        return True

    def _as_of_now(self, submission: Submission) -> tuple[np.ndarray, list[str]]:
        """Labels, with their background open where structures came after they were drawn that may
        be in it; and the names of these.
        """
        if submission.known is None:
            return submission.labels, []
        added = self._settings.added_structures
        later = [
            name
            for name, number in self._settings.about["labels"].items()
            if number > submission.known and added.get(number) != "absent"
        ]
        if not later:
            return submission.labels, []
        background = np.asarray(NOT_ANNOTATED, submission.labels.dtype)
        return np.where(submission.labels == 0, background, submission.labels), later

    def version(self, sample: int, number: int | None = None) -> tuple[int, np.ndarray]:
        """Number and labels of a submitted version.

        Args:
            number: None: the newest that counts, or what is annotated where that was never
                submitted (number 0).

        Raises:
            InputError: there is no such version, or nothing is annotated.
        """
        place = self._samples.place(sample)
        wanted = newest_version(self._db, sample) if number is None else number
        known = self._db.value(
            "SELECT 1 FROM versions WHERE sample_id = ? AND number = ?", (sample, wanted)
        )
        if known is not None:
            return wanted, self.versions.read(sample, wanted)
        state = self._db.value("SELECT state FROM samples WHERE id = ?", (sample,))
        if number is None and state == "labelled":
            return 0, self.read(place.case)[place.slices]
        raise InputError(
            f"Sample {sample} has no version {wanted}.", "Nothing was submitted for it yet."
        )


def _illegal(sample: int, value: Any, structures: Structures) -> InputError:
    """Why labels of a sample cannot hold a value."""
    gone = structures.without(int(value))
    known = structures.in_words()
    if gone is not None:
        return InputError(
            f"Labels of sample {sample} hold '{gone}' ({value}), which was removed from the "
            f"project.",
            f"Draw these voxels as another structure ({known}), or erase them; then hand in again.",
        )
    highest = structures.numbers[-1]
    limits = f"Use 0 to {highest}" if len(structures.numbers) > highest else f"Use 0, {known}"
    return InputError(
        f"Labels of sample {sample} hold the value {value}.",
        f"{limits}, or {NOT_ANNOTATED} for voxels left open.",
    )
