"""What people are asked to annotate: suggestions, statuses, leases, and slices of people's own
choice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from alunet.errors import InputError
from alunet.pool import CaseGeometry
from alunet.project.cases import Cases
from alunet.project.events import Events
from alunet.project.lease_clock import LeaseClock
from alunet.project.refusals import AlreadyAnnotated, Leased, NotPlanned
from alunet.project.requests import Requests
from alunet.project.rounds import CHOSEN, Rounds
from alunet.project.samples import Samples
from alunet.project.suggestions import Suggestion, chosen_by
from alunet.project.work_rows import newest_version, work_rows
from alunet.schema import Lease, SampleState, Status, WorkRow
from alunet.storage.database import Database

_AXES = "kji"


class Worklist:
    """The tables of suggestions, statuses and leases."""

    def __init__(
        self,
        database: Database,
        cases: Cases,
        samples: Samples,
        rounds: Rounds,
        events: Events,
        requests: Requests,
    ) -> None:
        self._db, self._cases, self._samples, self._rounds = database, cases, samples, rounds
        self._events, self._requests = events, requests

    # --- the batch of a round ---------------------------------------------------------------------

    def suggest(
        self,
        round: int,
        ids: Sequence[int],
        gains: Sequence[float],
        reasons: Sequence[str],
        uncertainty: Sequence[float | None] | None = None,
        *,
        size: int | None = None,
    ) -> None:
        """Stores a round's batch in its order; suggesting again for the round replaces it.

        Behind the batch stays what people chose: in this round, or in the one before where it is
        still open. Where the batch holds such a sample itself, it counts as chosen all the same.

        Args:
            size: samples of the batch proper; what comes behind them is ahead. None: all.

        Raises:
            InputError: the columns differ in length, or an id is unknown or occurs twice.
        """
        shares = [None] * len(ids) if uncertainty is None else list(uncertainty)
        if not len(ids) == len(gains) == len(reasons) == len(shares):
            lengths = (
                f"{len(ids)} ids, {len(gains)} gains, {len(reasons)} reasons and "
                f"{len(shares)} uncertainties"
            )
            raise InputError(f"A batch of {lengths}.")
        samples = [int(i) for i in ids]
        self._samples.check(samples)
        with self._db.transaction():
            chosen, size = self._choices(round), len(samples) if size is None else size
            rows: list[tuple[Any, ...]] = []
            for rank, (sample, gain, reason, share) in enumerate(
                zip(samples, gains, reasons, shares, strict=True)
            ):
                author, _ = chosen.pop(sample, (None, ""))
                worth = None if gain is None else float(gain)
                rows.append(
                    (sample, worth, str(reason), share, author, rank >= size and author is None)
                )
            rows += [
                (sample, None, reason, None, author, False)
                for sample, (author, reason) in chosen.items()
            ]
            self._db.execute(
                "UPDATE samples SET state = 'unlabelled' WHERE state = 'suggested'"
                " AND id IN (SELECT sample_id FROM suggestions WHERE round = ?)",
                (round,),
            )
            self._db.execute("DELETE FROM suggestions WHERE round = ?", (round,))
            self._db.many(
                "INSERT INTO suggestions"
                " (round, rank, sample_id, gain, reason, uncertainty, author, ahead)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(round, rank, *row) for rank, row in enumerate(rows)],
            )
            self._db.execute(
                "UPDATE samples SET state = 'suggested' WHERE state = 'unlabelled'"
                " AND id IN (SELECT sample_id FROM suggestions WHERE round = ?)",
                (round,),
            )

    def _choices(self, round: int) -> dict[int, tuple[str, str]]:
        """What people chose, who and why: first in this round, then in the one before, as far as
        it is still open.
        """
        rows = self._db.rows(
            """
            SELECT s.sample_id, s.author, s.gain IS NULL, s.reason
            FROM suggestions s JOIN samples p ON p.id = s.sample_id
            WHERE s.author IS NOT NULL AND (s.round = ?
                OR s.round = (SELECT max(round) FROM suggestions WHERE round < ?)
                AND (p.state != 'labelled'
                     OR s.sample_id IN (SELECT sample_id FROM work WHERE status = 'flagged'))
                AND s.sample_id NOT IN (SELECT sample_id FROM skipped))
            ORDER BY s.round DESC, s.rank
            """,
            (round, round),
        )
        return {
            sample: (author, reason if alone else chosen_by(author))
            for sample, author, alone, reason in rows
        }

    def release(self) -> None:
        """Gives every suggested sample that nobody annotated back to the pool."""
        self._db.execute("UPDATE samples SET state = 'unlabelled' WHERE state = 'suggested'")

    def suggestions(self, round: int) -> list[Suggestion]:
        """A round's batch in its order; empty where nothing was suggested."""
        rows = self._db.rows(
            "SELECT sample_id, gain, reason, state, sample_id IN (SELECT sample_id FROM skipped),"
            " uncertainty, author, ahead FROM suggestions"
            " JOIN counted_samples p ON p.id = sample_id WHERE round = ? ORDER BY rank",
            (round,),
        )
        return [
            Suggestion(sample, gain, reason, state, bool(skipped), uncertainty, author, bool(ahead))
            for sample, gain, reason, state, skipped, uncertainty, author, ahead in rows
        ]

    def rows(self, round: int | None = None) -> list[WorkRow]:
        """Return the batch of a round in the order to work in; by default of the newest one."""
        number = self._rounds.on_worklist() if round is None else round
        return work_rows(self._db, number)

    # --- statuses and leases ----------------------------------------------------------------------

    def set_status(
        self, sample: int, status: Status, author: str, key: str = "", digest: str = ""
    ) -> SampleState:
        """Notes what somebody makes of a sample without labels; a skipped one is not suggested
        again.

        Args:
            key, digest: see `Submission`.

        Raises:
            KeyReused: the key came with another request.
            InputError: there is no such sample, DONE is asked for, or an annotated one is to be
                skipped.
        """
        self._db.check_writable()
        self._samples.place(sample)
        if status is Status.DONE:
            raise InputError("Only labels make a slice done.", "Submit them.")
        with self._db.transaction():
            labelled = (
                self._db.value("SELECT state FROM samples WHERE id = ?", (sample,)) == "labelled"
            )
            if status is Status.SKIPPED and labelled:
                raise InputError("The slice is annotated already.", "There is nothing to skip.")
            if self._requests.answer(key, digest) is None:
                self.note_status(sample, status, author)
                self._requests.keep(key, digest, {"status": status.value})
            return SampleState(sample, status, newest_version(self._db, sample))

    def note_status(self, sample: int, status: Status, author: str) -> None:
        """Store a status and tell of it, within the caller's transaction."""
        now = time.time()
        self._db.execute(
            "INSERT OR REPLACE INTO work VALUES (?, ?, ?, ?)", (sample, status.value, author, now)
        )
        if status is Status.SKIPPED:
            self._db.execute("INSERT OR IGNORE INTO skipped VALUES (?, ?)", (sample, now))
        else:
            self._db.execute("DELETE FROM skipped WHERE sample_id = ?", (sample,))
        if status is not Status.IN_PROGRESS:
            self._db.execute(
                "DELETE FROM leases WHERE sample_id = ? AND author = ?", (sample, author)
            )
        data = {
            "sample": sample,
            "status": status.value,
            "version": newest_version(self._db, sample),
        }
        self._events.add("sample", data)

    def lease(self, sample: int, author: str, seconds: float) -> Lease:
        """Gives a sample to somebody for a while, or for a while longer.

        Raises:
            Leased: it is somebody else's now.
            InputError: there is no such sample.
        """
        self._db.check_writable()
        self._samples.place(sample)
        clock = LeaseClock(self._db)
        with self._db.transaction():
            now = clock.begin()
            rows = self._db.rows("SELECT author, until FROM leases WHERE sample_id = ?", (sample,))
            if rows and rows[0][0] != author and rows[0][1] > now:
                raise Leased(clock.shown(*rows[0]))
            self._db.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (sample, author, now + seconds)
            )
            return clock.shown(author, now + seconds)

    def give_back(self, sample: int, author: str) -> None:
        """Ends somebody's lease; where there is none, nothing happens."""
        self._db.check_writable()
        self._db.execute("DELETE FROM leases WHERE sample_id = ? AND author = ?", (sample, author))

    # --- slices that people choose ----------------------------------------------------------------

    def choose(self, case: str, axis: int, number: int, author: str) -> tuple[list[WorkRow], bool]:
        """Puts the samples of a slice behind the newest batch; when this returns they are on disk.

        What is in that batch already stays as it is, and what is annotated is left out. A slice
        that somebody skipped in an earlier round is asked for again. Where nothing was ever
        suggested, the next round begins with it.

        Args:
            case: name of a pool case.
            axis: of the image array (k, j, i), the one that is sliced.
            number: of the slice across that axis in the image file.
            author: who chooses.

        Returns:
            The slice's rows of the worklist, and whether any of them is new.

        Raises:
            NotPlanned: the pool does not have the case yet.
            AlreadyAnnotated: all of the slice is annotated, and none of it is in the newest batch.
            InputError: there is no such case or slice, or the case is for evaluation.
        """
        self._db.check_writable()
        with self._db.transaction():
            states = self._samples_of_slice(case, axis, number)
            round = self._round_to_join()
            rows = self._db.rows("SELECT sample_id FROM suggestions WHERE round = ?", (round,))
            shown = {sample for (sample,) in rows} & set(states)
            new = [
                sample
                for sample, state in states.items()
                if state != "labelled" and sample not in shown
            ]
            if not new and not shown:
                raise AlreadyAnnotated(case, number)
            if new:
                self._join(round, new, author)
            return [row for row in self.rows(round) if row.sample in states], bool(new)

    def _samples_of_slice(self, case: str, axis: int, number: int) -> dict[int, str]:
        """State of each sample of a slice, by ascending id."""
        shape = self._cases.row(case).shape
        role, state, geometry = self._db.rows(
            "SELECT role, state, geometry FROM cases WHERE name = ?", (case,)
        )[0]
        if state != "present":
            raise InputError(f"Case {case!r} was removed.", "Take it in again first.")
        if role != "pool":
            raise InputError(
                f"Case {case!r} is for evaluation.", "Choose a slice of a case of the pool."
            )
        low, high = self._db.rows(
            "SELECT min(slice_raw), max(slice_raw) FROM samples WHERE case_name = ?", (case,)
        )[0]
        if geometry is None or low is None:
            raise NotPlanned(case)
        own = CaseGeometry.from_json(geometry).transpose[0]
        if axis != own:
            raise InputError(
                f"{case} is not sliced across axis {axis}.",
                f"It is across axis {own} ({_AXES[own]}).",
            )
        if not 0 <= number < shape[own]:
            raise InputError(
                f"{case} has no slice {number}.", f"Its slices are 0 to {shape[own] - 1}."
            )
        states = "SELECT id, state FROM samples WHERE case_name = ? AND slice_raw = ? ORDER BY id"
        rows = self._db.rows(states, (case, number))
        if not rows:
            raise InputError(
                f"Slice {number} of {case} is empty in the image.", f"Use slices {low} to {high}."
            )
        return dict(rows)

    def _round_to_join(self) -> int:
        """The round of the newest batch, also while it is trained; where there is none, the one
        that comes next.
        """
        number = self._rounds.on_worklist()
        if number == self._rounds.current() and self._rounds.begun() is None:
            self._rounds.begin(CHOSEN, 0)
        return number

    def _join(self, round: int, samples: Sequence[int], author: str) -> None:
        """Appends open samples to a round's batch, within the caller's transaction."""
        self._append(round, samples, author, chosen_by(author))
        ids = [(sample,) for sample in samples]
        self._db.many("UPDATE samples SET state = 'suggested' WHERE id = ?", ids)
        self._db.many("DELETE FROM skipped WHERE sample_id = ?", ids)
        self._db.many("DELETE FROM work WHERE status = 'skipped' AND sample_id = ?", ids)
        data = {"round": round, "samples": list(samples), "author": author}
        self._events.add("worklist", data)

    def _append(self, round: int, samples: Sequence[int], author: str, reason: str) -> None:
        """Write samples behind a round's batch."""
        last = self._db.value("SELECT max(rank) FROM suggestions WHERE round = ?", (round,))
        first = 0 if last is None else int(str(last)) + 1
        self._db.many(
            "INSERT INTO suggestions (round, rank, sample_id, reason, author)"
            " VALUES (?, ?, ?, ?, ?)",
            [(round, rank, sample, reason, author) for rank, sample in enumerate(samples, first)],
        )

    def flagged(self) -> set[int]:
        """Return the samples that someone is to look at again."""
        return {
            row[0] for row in self._db.rows("SELECT sample_id FROM work WHERE status = 'flagged'")
        }

    def look_again(self, samples: Sequence[int], author: str, reason: str) -> None:
        """Put annotated samples into the newest batch and flag them, within the caller's
        transaction; what is annotated stays.
        """
        round = self._round_to_join()
        shown = {
            sample
            for (sample,) in self._db.rows(
                "SELECT sample_id FROM suggestions WHERE round = ?", (round,)
            )
        }
        counted = {sample for (sample,) in self._db.rows("SELECT id FROM counted_samples")}
        new = [sample for sample in samples if sample in counted and sample not in shown]
        self._append(round, new, author, reason)
        for sample in samples:
            self.note_status(sample, Status.FLAGGED, author)
        data = {"round": round, "samples": new, "author": author}
        self._events.add("worklist", data)

    def chosen(self, round: int) -> list[tuple[int, str]]:
        """Samples that people chose and that were first labelled in a round, by id, each with
        its reason.
        """
        return self._db.rows(
            """
            SELECT a.sample_id, s.reason
            FROM (SELECT sample_id, min(round) AS first FROM annotations GROUP BY sample_id) a
            JOIN suggestions s ON s.sample_id = a.sample_id AND s.author IS NOT NULL
            WHERE a.first = ?
                AND a.sample_id IN (SELECT id FROM counted_samples WHERE state = 'labelled')
            GROUP BY a.sample_id ORDER BY a.sample_id
            """,
            (round,),
        )
