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
from alunet.imaging.reading import EXACT_ENDING, read_labels
from alunet.imaging.writing import write_like
from alunet.project.cases import Cases
from alunet.project.requests import Requests
from alunet.project.rounds import Rounds
from alunet.project.samples import Place, Samples
from alunet.project.versions import Versions
from alunet.project.worklist import Worklist, newest_version
from alunet.schema import NOT_ANNOTATED, SampleState, Status
from alunet.storage.database import Database
from alunet.storage.files import written_name
from alunet.storage.locks import FileLock


@dataclass(frozen=True)
class Costs:
    """What has been annotated so far.

    Attributes:
        samples: labelled samples, the unit of the budget.
        slices: distinct slices with a labelled sample.
        voxels: distinct annotated voxels of the image files.
        fraction: labelled samples as a part of the pool, 0 to 1.
    """

    samples: int
    slices: int
    voxels: int
    fraction: float


class StaleVersion(InputError):
    """Labels were based on another version than the newest one; they are kept, but count for
    nothing.

    Attributes:
        version: the newest one.
        kept: number of the version that was submitted.
    """

    def __init__(self, version: int, kept: int) -> None:
        super().__init__(
            f"Somebody else annotated this slice meanwhile: it is at version {version}.",
            "Get that version, correct it, and submit it again; yours is kept in the history.",
        )
        self.version, self.kept = version, kept


@dataclass(frozen=True)
class Submission:
    """Labels of one sample as a person submits them.

    Attributes:
        labels: uint8 or uint16, of the shape of the sample's raw box; classes, or `NOT_ANNOTATED`
            for open voxels.
        base: number of the version that they correct; 0 where there is none.
        seconds: time spent, None where that is not known.
        status: DONE makes them count for the training; any other only keeps them.
        key: the same submission sent again has the same; empty: it is never sent again.
        digest: of the whole submission, to tell a key that is used twice.
    """

    labels: np.ndarray
    base: int
    author: str
    seconds: float | None = None
    status: Status = Status.DONE
    key: str = ""
    digest: str = ""


class Annotations:
    """The label maps and versions in `folder`, and the tables about them.

    Args:
        folder: of the label maps.
        locks: folder of the locks, one for each case.
        classes: number of classes, background included.

    Attributes:
        versions: of the labels.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        locks: Path,
        classes: int,
        cases: Cases,
        samples: Samples,
        rounds: Rounds,
        worklist: Worklist,
        requests: Requests,
    ) -> None:
        self._db, self.folder, self._locks, self._classes = database, folder, locks, classes
        self._cases, self._samples, self._rounds = cases, samples, rounds
        self._worklist, self._requests = worklist, requests
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
                classes or `NOT_ANNOTATED` where the annotator left a voxel open.
            round: number of the round.
            author: who annotated.
            seconds: time spent on all the items together.

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
            counts = self._store(
                case, [(sample, pool.raw_slices(sample), labels) for sample, labels in items]
            )
            numbers = {sample: self.versions.last(sample) for sample, _ in items}
            versioned = [(sample, labels) for sample, labels in items if numbers[sample]]
            for sample, labels in versioned:
                self.versions.write(sample, numbers[sample] + 1, labels.astype(np.uint8))
            with self._db.transaction():
                for sample, _ in versioned:
                    about = newest_version(self._db, sample), author, Status.DONE.value
                    self.versions.note(sample, numbers[sample] + 1, *about)
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

    def _store(
        self, case: str, placed: Sequence[tuple[int, tuple[slice, ...], np.ndarray]]
    ) -> list[int]:
        """Writes samples' labels into a case's label map; the caller holds its lock. Gives the
        voxels of each class.
        """
        array = self.read(case)
        for sample, place, labels in placed:
            target = array[place]
            self.check_values(sample, labels, target.shape)
            target[...] = labels
        return self.write_map(case, array)

    def write_map(self, case: str, array: np.ndarray) -> list[int]:
        """Write a case's label map; the caller holds its lock. Gives the voxels of each class."""
        write_like(array, self._cases.row(case).image, self.file(case))
        # few voxels: counting all of them took half of the time
        annotated = array[array != NOT_ANNOTATED]
        return [int(count) for count in np.bincount(annotated, minlength=self._classes)]

    def _note(
        self,
        case: str,
        samples: Sequence[int],
        counts: list[int],
        round: int,
        author: str,
        seconds: float | None,
    ) -> None:
        """Notes in the database what `_store` wrote, within the caller's transaction."""
        share = None if seconds is None else float(seconds) / max(1, len(samples))
        now = time.time()
        self._db.many(
            "INSERT INTO annotations (sample_id, case_name, round, author, seconds, time) VALUES "
            "(?, ?, ?, ?, ?, ?)",
            [(sample, case, round, author, share, now) for sample in samples],
        )
        self._db.many(
            "UPDATE samples SET state = 'labelled' WHERE id = ?", [(sample,) for sample in samples]
        )
        self._db.many("DELETE FROM skipped WHERE sample_id = ?", [(sample,) for sample in samples])
        self._db.execute("UPDATE cases SET voxels = ? WHERE name = ?", (json.dumps(counts), case))

    def check_values(self, sample: int, labels: np.ndarray, shape: tuple[int, ...]) -> None:
        """Raises InputError for labels of another shape than `shape`, or with values that are
        none.
        """
        if labels.shape != shape:
            raise InputError(
                f"Labels of sample {sample} have the shape {labels.shape}, not {shape}."
            )
        known = (labels >= 0) & (labels < self._classes) & (labels == np.round(labels))
        strange = labels[~(known | (labels == NOT_ANNOTATED))]
        if strange.size:
            limits = f"Use 0 to {self._classes - 1}, or {NOT_ANNOTATED} for voxels left open."
            raise InputError(f"Labels of sample {sample} hold the value {strange[0]}.", limits)

    # --- what has been annotated ------------------------------------------------------------------

    def class_voxels(self) -> np.ndarray:
        """Annotated voxels of each class over all pool cases, int64 (K,)."""
        return np.asarray(self.case_voxels()[0].sum(axis=0))

    def case_voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the M pool cases with annotations, by name: annotated voxels of each class (M, K), all
        voxels (M,); int64.
        """
        rows = self._db.rows(
            "SELECT voxels, shape FROM cases WHERE role = 'pool' AND state = 'present' "
            "AND voxels IS NOT NULL ORDER BY name"
        )
        voxels = np.array([json.loads(row[0]) for row in rows], np.int64).reshape(-1, self._classes)
        return voxels, np.array([np.prod(json.loads(row[1])) for row in rows], np.int64)

    def open_voxels(self) -> int:
        """How many voxels of the labeled samples are left open."""
        return self._samples.covered_voxels() - int(self.class_voxels().sum())

    def costs(self) -> Costs:
        """What has been annotated so far."""
        size, samples = self._db.rows(
            "SELECT count(*), coalesce(sum(state = 'labelled'), 0) FROM counted_samples"
        )[0]
        slices = self._db.number(
            "SELECT count(*) FROM (SELECT DISTINCT case_name, slice FROM counted_samples WHERE "
            "state = 'labelled')"
        )
        return Costs(
            samples, slices, int(self.class_voxels().sum()), samples / size if size else 0.0
        )

    def cases(self) -> dict[str, int]:
        """Cases with annotated voxels, and how many labelled samples each has, by name."""
        rows = self._db.rows(
            "SELECT case_name, count(*), voxels FROM counted_samples s JOIN cases c ON c.name = "
            "case_name WHERE s.state = 'labelled' GROUP BY case_name ORDER BY case_name"
        )
        return {name: count for name, count, voxels in rows if sum(json.loads(voxels or "[]"))}

    def seconds_spent(self) -> float:
        """Seconds that people say they spent on annotating, all together."""
        return float(str(self._db.value("SELECT coalesce(sum(seconds), 0) FROM annotations")))

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
        self.check_values(sample, submission.labels, place.shape)
        with self.case_lock(place.case):
            self._samples.place(sample)  # its case may have been erased meanwhile
            answer = self._requests.answer(submission.key, submission.digest)
            if answer is None:
                answer = self._keep(sample, place, submission)
        if "kept" in answer:
            raise StaleVersion(answer["version"], answer["kept"])
        return SampleState(sample, Status(answer["status"]), answer["version"])

    def _keep(self, sample: int, place: Place, submission: Submission) -> dict[str, Any]:
        newest, last = newest_version(self._db, sample), self.versions.last(sample)
        stale, number = submission.base != newest, last + 1
        self.versions.write(sample, number, submission.labels)
        counts = None
        if submission.status is Status.DONE and not stale:
            counts = self._store(place.case, [(sample, place.slices, submission.labels)])
        answer: dict[str, Any] = {"version": number, "status": submission.status.value}
        if stale:
            answer = {"version": newest, "kept": number}
        with self._db.transaction():
            about = submission.author, submission.status.value
            seconds = submission.seconds
            self.versions.note(
                sample, number, submission.base, *about, seconds=seconds, conflict=stale
            )
            if counts is not None:
                round_ = self._rounds.of_new_labels()
                self._note(
                    place.case, [sample], counts, round_, submission.author, submission.seconds
                )
            if not stale:
                self._worklist.note_status(sample, submission.status, submission.author)
            self._requests.keep(submission.key, submission.digest, answer)
        return answer

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
