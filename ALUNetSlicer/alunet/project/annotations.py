"""The annotated voxels of a project: a label map for each case, and every version that was
submitted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import InputError
from alunet.imaging.labels import Structures
from alunet.project.annotated import AnnotatedVoxels
from alunet.project.cases import Cases
from alunet.project.label_maps import LabelMaps, Placed
from alunet.project.refusals import StaleVersion
from alunet.project.requests import Requests
from alunet.project.rounds import Rounds
from alunet.project.samples import Place, Samples
from alunet.project.seals import Seals
from alunet.project.settings import Settings
from alunet.project.versions import Versions
from alunet.project.work_rows import newest_version
from alunet.project.worklist import Worklist
from alunet.schema import NOT_ANNOTATED, SampleState, Status
from alunet.storage.database import Database
from alunet.storage.locks import FileLock, InUse

Beyond = tuple[np.ndarray, np.ndarray]
"""Where voxels are that are in no sample, bool (k, j, i), and the label of each."""


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
    """The label maps and versions, and the tables about them.

    Args:
        settings: of the project; no label is stored while they say that all labels are changed.

    Attributes:
        versions: of the labels.
        maps: the label maps.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        cases: Cases,
        samples: Samples,
        rounds: Rounds,
        worklist: Worklist,
        requests: Requests,
        seals: Seals,
        versions: Versions,
        maps: LabelMaps,
    ) -> None:
        super().__init__(database, cases, samples)
        self._settings, self._seals, self.versions, self.maps = settings, seals, versions, maps
        self._rounds, self._worklist, self._requests = rounds, worklist, requests

    # --- label maps -------------------------------------------------------------------------------

    def file(self, case: str) -> Path:
        """Return where a case's label map is, or will be while nothing is annotated."""
        return self.maps.file(case)

    def read(self, case: str) -> np.ndarray:
        """Return a case's label map, see `LabelMaps.read`."""
        return self.maps.read(case)

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
            array = self._drawn(case, placed + ([(-1, *beyond)] if beyond else []))
            stored = self.maps.write(case, array)
            numbers = {sample: self.versions.last(sample) for sample, _ in items}
            versioned = [(sample, labels) for sample, labels in items if numbers[sample]]
            for sample, labels in versioned:
                self.versions.write(sample, numbers[sample] + 1, labels.astype(np.uint8))
            share = None if seconds is None else seconds / max(1, len(items))
            with self._db.transaction():
                for sample, _ in versioned:
                    about = newest_version(self._db, sample), author, Status.DONE.value
                    self.versions.note(sample, numbers[sample] + 1, *about, seconds=share)
                self.maps.keep(case, stored)
                self._note(case, [sample for sample, _ in items], round, author, seconds)

    def case_lock(self, case: str) -> FileLock:
        """Return the lock of a case's label map, see `LabelMaps.lock`."""
        return self.maps.lock(case)

    def _drawn(self, case: str, placed: Sequence[Placed]) -> np.ndarray:
        """A case's label map with these samples' labels; the caller holds its lock."""
        array = self.maps.read(case, locked=True)
        for sample, place, labels in placed:
            self.check_values(sample, labels, array[place].shape)
            array[place] = labels
        return array

    def _note(
        self,
        case: str,
        samples: Sequence[int],
        round: int,
        author: str,
        seconds: float | None,
    ) -> None:
        """Notes in the database that samples are labeled, within the caller's transaction."""
        share = None if seconds is None else float(seconds) / max(1, len(samples))
        now = time.time()
        for sample in samples:
            self.note_labeled(sample, case, round, author, share, now)
        self._db.many(
            "UPDATE samples SET state = 'labelled' WHERE id = ?", [(sample,) for sample in samples]
        )
        for table in ("skipped", "work"):  # also a flag: it is looked at now
            self._db.many(
                f"DELETE FROM {table} WHERE sample_id = ?", [(sample,) for sample in samples]
            )

    def note_labeled(
        self, sample: int, case: str, round: int, author: str, seconds: float | None, moment: float
    ) -> None:
        """Note who labeled a sample, within the caller's transaction."""
        names = ("sample_id", "case_name", "round", "author", "seconds", "time")
        values = (sample, case, round, author, seconds, moment)
        self._seals.add("annotations", dict(zip(names, values, strict=True)))

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
        stored = None
        if submission.status is Status.DONE and not stale:
            array = self._drawn(place.case, [(sample, place.slices, labels)])
            stored = self.maps.paint(place.case, array)
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
            if stored is not None:
                self.maps.keep(place.case, stored, [(sample, number)])
                round_ = self._rounds.of_new_labels()
                self._note(place.case, [sample], round_, submission.author, submission.seconds)
            if not stale:
                self._worklist.note_status(sample, submission.status, submission.author)
                if later and stored is not None:
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
            return wanted, self.maps.version(sample, wanted)
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
