"""Annotations that people take back, and bring back: each a version more, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from alunet.errors import InputError
from alunet.pool import CaseGeometry
from alunet.project.annotations import Annotations
from alunet.project.learned import Learned
from alunet.project.refusals import ChangedMeanwhile
from alunet.project.requests import Requests
from alunet.project.rounds import Rounds
from alunet.project.samples import Place, Samples
from alunet.project.settings import Settings
from alunet.project.work_rows import newest_version
from alunet.project.worklist import Worklist
from alunet.schema import NOT_ANNOTATED, SampleState, Status
from alunet.storage.database import Database

TAKEN_BACK = "taken back"
"""Status of a version without labels."""


class TakingBack:
    """Takes labels of samples back, and undoes that.

    The database says first that a sample is not annotated; then its voxels leave the label map. A
    crash between the two is finished by `finish`.
    """

    def __init__(
        self,
        database: Database,
        annotations: Annotations,
        samples: Samples,
        rounds: Rounds,
        worklist: Worklist,
        learned: Learned,
        requests: Requests,
        settings: Settings,
    ) -> None:
        self._db, self._annotations, self._samples = database, annotations, samples
        self._settings = settings
        self._rounds, self._worklist = rounds, worklist
        self._learned, self._requests = learned, requests

    def take_back(
        self,
        samples: Sequence[int],
        author: str,
        *,
        base: int | None = None,
        key: str = "",
        digest: str = "",
    ) -> list[SampleState]:
        """Make labeled samples of one case open again; when this returns that is on disk.

        Voxels that another labeled sample covers stay as they are.

        Args:
            base: the version that the person has seen, of a single sample; None: any.
            key, digest: see `Submission`.

        Raises:
            ChangedMeanwhile: `base` is not the newest version.
            KeyReused: the key came with another request.
            InputError: a sample is not annotated, or there is none.
        """
        places = self._places(samples)
        case = next(iter(places.values())).case
        with self._annotations.case_lock(case):
            self._places(samples)  # the case may have been erased meanwhile
            if self._requests.answer(key, digest) is None:
                self._annotations.check_unchanging()
                self._check(places, base)
                self._take_back(case, places, author, key, digest)
        return [self._state(sample, Status.TODO) for sample in places]

    def undo(
        self, samples: Sequence[int], author: str, *, key: str = "", digest: str = ""
    ) -> list[SampleState]:
        """Bring back what was taken back; voxels that were drawn since by other samples stay.

        Args:
            key, digest: see `Submission`.

        Raises:
            KeyReused: the key came with another request.
            InputError: a sample was not taken back, or something was done with it since.
        """
        places = self._places(samples)
        case = next(iter(places.values())).case
        with self._annotations.case_lock(case):
            self._places(samples)
            if self._requests.answer(key, digest) is None:
                self._annotations.check_unchanging()
                self._undo(case, places, author, key, digest)
        return [self._state(sample, Status.DONE) for sample in places]

    def finish(self) -> None:
        """Bring label maps up to date that a crash left behind."""
        for (case,) in self._db.rows("SELECT name FROM cases WHERE outdated = 1"):
            with self._annotations.case_lock(case):
                if self._db.value("SELECT outdated FROM cases WHERE name = ?", (case,)):
                    self._clear(case)

    def taken_back(self) -> set[int]:
        """Return the samples whose newest version is that they were taken back."""
        rows = self._db.rows(
            "SELECT v.sample_id FROM versions v WHERE v.status = ? AND v.number = (SELECT "
            "max(number) FROM versions w WHERE w.sample_id = v.sample_id AND NOT w.conflict)",
            (TAKEN_BACK,),
        )
        return {sample for (sample,) in rows}

    def says(self, samples: Sequence[int]) -> list[str]:
        """Return what follows for the next round, sentences for people."""
        gone = self.taken_back()
        learned = sum(self._learned.knows(sample) for sample in samples if sample in gone)
        if not learned:
            return []
        which = "it" if len(samples) == 1 else f"{learned} of {len(samples)} samples"
        return [
            f"A model learned from {which}: the next training starts anew, unless that is "
            "annotated again."
        ]

    def _places(self, samples: Sequence[int]) -> dict[int, Place]:
        if not samples:
            raise InputError("No sample is named.", "Name at least one.")
        places = {sample: self._samples.place(sample) for sample in samples}
        if len({place.case for place in places.values()}) > 1:
            raise InputError("The samples are of several cases.", "Name those of one case.")
        return places

    def _check(self, places: dict[int, Place], base: int | None) -> None:
        for sample in places:
            state, case, number = self._db.rows(
                "SELECT state, case_name, slice_raw FROM samples WHERE id = ?", (sample,)
            )[0]
            if state != "labelled":
                raise InputError(
                    f"Slice {number} of {case} is not annotated.", "There is nothing to take back."
                )
            newest = newest_version(self._db, sample)
            if base is not None and base != newest:
                raise ChangedMeanwhile(newest)

    def _take_back(
        self, case: str, places: dict[int, Place], author: str, key: str, digest: str
    ) -> None:
        maps, versions = self._annotations.maps, self._annotations.versions
        array = maps.read(case, locked=True)
        kept = self._covered(case, set(places))
        notes = []
        for sample, place in places.items():
            held, number = array[place.slices], versions.last(sample)
            base = newest_version(self._db, sample)
            gone = ~kept[place.slices]
            if not base or not np.array_equal(versions.read(sample, base)[gone], held[gone]):
                number += 1  # labels that came without a version get one, to be brought back
                versions.write(sample, number, held)
                notes.append((sample, number, base, self._author(sample), Status.DONE.value))
                base = number
            versions.write(sample, number + 1, np.full(place.shape, NOT_ANNOTATED, np.uint8))
            notes.append((sample, number + 1, base, author, TAKEN_BACK))
        with self._db.transaction():
            for note in notes:
                versions.note(*note)
            for sample in places:
                self._db.execute(
                    "UPDATE samples SET state = CASE WHEN id IN (SELECT sample_id FROM suggestions "
                    "WHERE round = ?) THEN 'suggested' ELSE 'unlabelled' END WHERE id = ?",
                    (self._rounds.on_worklist(), sample),
                )
                self._worklist.note_status(sample, Status.TODO, author)
            self._db.execute("UPDATE cases SET outdated = 1 WHERE name = ?", (case,))
            self._requests.keep(key, digest, {})
        self._clear(case)

    def _undo(
        self, case: str, places: dict[int, Place], author: str, key: str, digest: str
    ) -> None:
        maps, versions = self._annotations.maps, self._annotations.versions
        array, notes = maps.read(case, locked=True), []
        for sample, place in places.items():
            newest = newest_version(self._db, sample)
            rows = self._db.rows(
                "SELECT base, time FROM versions WHERE sample_id = ? AND number = ? AND status = ?",
                (sample, newest, TAKEN_BACK),
            )
            if not rows:
                raise InputError(
                    f"Nothing was taken back of sample {sample}, or something was done with it "
                    "since.",
                    "Annotate it.",
                )
            if rows[0][1] <= self._settings.structures_changed:
                raise InputError(
                    f"The structures changed since sample {sample} was taken back.", "Annotate it."
                )
            labels, number = versions.read(sample, rows[0][0]), versions.last(sample) + 1
            versions.write(sample, number, labels)
            notes.append((sample, number, newest, author, Status.DONE.value))
            held = array[place.slices]
            np.copyto(held, labels, where=held == NOT_ANNOTATED, casting="unsafe")
        stored = maps.write(case, array)
        with self._db.transaction():
            for note in notes:
                versions.note(*note)
            for sample in places:
                self._db.execute("UPDATE samples SET state = 'labelled' WHERE id = ?", (sample,))
                self._worklist.note_status(sample, Status.DONE, author)
            maps.keep(case, stored)
            self._requests.keep(key, digest, {})

    def _clear(self, case: str) -> None:
        """Empty the label map where no labeled sample is; the caller holds its lock."""
        covered, maps = self._covered(case), self._annotations.maps
        if not covered.any():
            maps.remove(case)
            return
        array = maps.read(case, locked=True)
        array[self._left(case, covered)] = NOT_ANNOTATED
        stored = maps.write(case, array)
        with self._db.transaction():
            maps.keep(case, stored)
            self._db.execute("UPDATE cases SET outdated = 0 WHERE name = ?", (case,))

    def _left(self, case: str, covered: np.ndarray) -> np.ndarray:
        """Which voxels lost their annotation: those that no labeled sample covers. Where the image
        is 0 there are no samples; a voxel there follows the samples of its slice, if it has some.
        """
        text = str(self._db.value("SELECT geometry FROM cases WHERE name = ?", (case,)))
        geometry = CaseGeometry.from_json(text)
        rows = self._db.rows("SELECT slice_raw FROM samples WHERE case_name = ?", (case,))
        left = ~covered
        beyond = np.ones(left.shape, bool)
        beyond[geometry.raw_crop] = False
        axis = geometry.transpose[0]
        along, cover = np.moveaxis(beyond, axis, 0), np.moveaxis(covered, axis, 0)
        for number in {number for (number,) in rows}:
            if not cover[number].any():
                along[number] = False
        return left & ~beyond

    def _covered(self, case: str, without: set[int] | None = None) -> np.ndarray:
        """Which voxels of a case are in a labeled sample that is not one of `without`."""
        shape = json.loads(str(self._db.value("SELECT shape FROM cases WHERE name = ?", (case,))))
        covered = np.zeros(shape, bool)
        for sample, *box in self._db.rows(
            "SELECT id, k_lo, k_hi, j_lo, j_hi, i_lo, i_hi FROM samples WHERE case_name = ? AND "
            "state = 'labelled'",
            (case,),
        ):
            if without is None or sample not in without:
                pairs = zip(box[::2], box[1::2], strict=True)
                covered[tuple(slice(low, high) for low, high in pairs)] = True
        return covered

    def _author(self, sample: int) -> str:
        """Who labeled a sample last."""
        found = self._db.value(
            "SELECT author FROM annotations WHERE sample_id = ? ORDER BY id DESC LIMIT 1", (sample,)
        )
        return str(found)

    def _state(self, sample: int, status: Status) -> SampleState:
        return SampleState(sample, status, newest_version(self._db, sample))
