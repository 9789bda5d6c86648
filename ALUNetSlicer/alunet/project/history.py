"""Every version of the labels that were submitted, one sample at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import InputError
from alunet.project.sharing import Place, Sharing
from alunet.schema import SampleState, Status
from alunet.storage.files import atomic_path


class StaleVersion(InputError):
    """Labels were based on another version than the newest one; they are kept, but count for nothing.

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
        labels: uint8 or uint16, of the shape of the sample's raw box; classes, or `NOT_ANNOTATED` for open voxels.
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


class History(Sharing):
    """The part of a `Project` that keeps every version of what people submit."""

    def submit(self, sample: int, submission: Submission) -> SampleState:
        """Keeps labels as the sample's next version; when this returns, or raises StaleVersion, they are on disk.

        A submission whose key was there before gives the same answer again and changes nothing.

        Raises:
            StaleVersion: the base is not the newest version.
            KeyReused: the key came with other content.
            InputError: there is no such sample, or the labels have another shape or other values.
        """
        self._check_writable()
        place = self.place(sample)
        self.check_values(sample, submission.labels, place.shape)
        with self.case_lock(place.case):
            answer = self.answer(submission.key, submission.digest)
            if answer is None:
                answer = self._keep(sample, place, submission)
        if "kept" in answer:
            raise StaleVersion(answer["version"], answer["kept"])
        return SampleState(sample, Status(answer["status"]), answer["version"])

    def _keep(self, sample: int, place: Place, submission: Submission) -> dict[str, Any]:
        newest, last = self._numbers(sample)
        stale, number = submission.base != newest, last + 1
        self._write_version(sample, number, submission.labels)
        counts = None
        if submission.status is Status.DONE and not stale:
            counts = self._store(place.case, [(sample, place.slices, submission.labels)])
        answer: dict[str, Any] = {"version": number, "status": submission.status.value}
        if stale:
            answer = {"version": newest, "kept": number}
        with self._db.transaction():
            self._db.execute(
                "INSERT INTO versions (sample_id, number, base, conflict, author, seconds, status, time)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (sample, number, submission.base, int(stale), submission.author, submission.seconds,
                 submission.status.value, time.time()),
            )  # fmt: skip
            if counts is not None:
                round_ = self.rounds.of_new_labels()
                self._note(place.case, [sample], counts, round_, submission.author, submission.seconds)
            if not stale:
                self._set_status(sample, submission.status, submission.author)
                self._tell(sample, submission.status)
            self.keep_answer(submission.key, submission.digest, answer)
        return answer

    def _version_file(self, sample: int, number: int) -> Path:
        return self.annotations_dir / "history" / f"{sample}-{number}.npz"

    def _write_version(self, sample: int, number: int, labels: np.ndarray) -> None:
        file = self._version_file(sample, number)
        file.parent.mkdir(exist_ok=True)
        for leftover in file.parent.glob(f"tmp-*-{sample}-*.npz"):
            leftover.unlink(missing_ok=True)
        with atomic_path(file) as temporary:
            np.savez_compressed(temporary, labels=labels)

    def version(self, sample: int, number: int | None = None) -> tuple[int, np.ndarray]:
        """Number and labels of a submitted version.

        Args:
            number: None: the newest that counts, or what is annotated where that was never submitted (number 0).

        Raises:
            InputError: there is no such version, or nothing is annotated.
        """
        place = self.place(sample)
        wanted = self._numbers(sample)[0] if number is None else number
        known = self._db.value("SELECT 1 FROM versions WHERE sample_id = ? AND number = ?", (sample, wanted))
        if known is not None:
            with np.load(self._version_file(sample, wanted), allow_pickle=False) as content:
                return wanted, content["labels"]
        state = self._db.value("SELECT state FROM samples WHERE id = ?", (sample,))
        if number is None and state == "labelled":
            return 0, self.annotation(place.case)[place.slices]
        raise InputError(f"Sample {sample} has no version {wanted}.", "Nothing was submitted for it yet.")
