"""Slices that people choose themselves: they join the worklist behind what a strategy suggests."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from alunet.errors import InputError
from alunet.pool import CaseGeometry
from alunet.project.history import History
from alunet.project.rounds import CHOSEN
from alunet.project.samples import chosen_by
from alunet.schema import WorkRow

_AXES = "kji"


class NotPlanned(InputError):
    """The pool has no samples of the case yet."""

    def __init__(self, case: str) -> None:
        super().__init__(f"Case {case!r} is not planned yet.", "Plan the project first: a job of kind 'plan'.")


class AlreadyAnnotated(InputError):
    """The slice has labels, so that nobody has to be asked for them."""

    def __init__(self, case: str, number: int) -> None:
        super().__init__(f"Slice {number} of {case} is annotated already.", "Choose another one.")


class Choosing(History):
    """The part of a `Project` that takes a person's own choice into the worklist."""

    def choose(self, case: str, axis: int, number: int, author: str) -> tuple[list[WorkRow], bool]:
        """Puts the samples of a slice behind the newest batch; when this returns they are on disk.

        What is in that batch already stays as it is, and what is annotated is left out. A slice that somebody skipped
        in an earlier round is asked for again. Where nothing was ever suggested, the next round begins with it.

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
        self._check_writable()
        with self._db.transaction():
            states = self._samples_of_slice(case, axis, number)
            round = self._round_to_join()
            rows = self._db.rows("SELECT sample_id FROM suggestions WHERE round = ?", (round,))
            shown = {sample for (sample,) in rows} & set(states)
            new = [sample for sample, state in states.items() if state != "labelled" and sample not in shown]
            if not new and not shown:
                raise AlreadyAnnotated(case, number)
            if new:
                self._join(round, new, author)
            return [row for row in self.work(round) if row.sample in states], bool(new)

    def _samples_of_slice(self, case: str, axis: int, number: int) -> dict[int, str]:
        """State of each sample of a slice, by ascending id."""
        shape = self._case_row(case)[0]
        role, geometry = self._db.rows("SELECT role, geometry FROM cases WHERE name = ?", (case,))[0]
        if role != "pool":
            raise InputError(f"Case {case!r} is for evaluation.", "Choose a slice of a case of the pool.")
        low, high = self._db.rows("SELECT min(slice_raw), max(slice_raw) FROM samples WHERE case_name = ?", (case,))[0]
        if geometry is None or low is None:
            raise NotPlanned(case)
        own = CaseGeometry.from_json(geometry).transpose[0]
        if axis != own:
            raise InputError(f"{case} is not sliced across axis {axis}.", f"It is across axis {own} ({_AXES[own]}).")
        if not 0 <= number < shape[own]:
            raise InputError(f"{case} has no slice {number}.", f"Its slices are 0 to {shape[own] - 1}.")
        states = "SELECT id, state FROM samples WHERE case_name = ? AND slice_raw = ? ORDER BY id"
        rows = self._db.rows(states, (case, number))
        if not rows:
            raise InputError(f"Slice {number} of {case} is empty in the image.", f"Use slices {low} to {high}.")
        return dict(rows)

    def _round_to_join(self) -> int:
        """The round of the newest batch, also while it is trained; where there is none, the one that comes next."""
        number = self.rounds.on_worklist()
        if number == self.rounds.current() and self.rounds.begun() is None:
            self.rounds.begin(CHOSEN, 0)
        return number

    def _join(self, round: int, samples: Sequence[int], author: str) -> None:
        """Appends samples to a round's batch, within the caller's transaction."""
        last = self._db.value("SELECT max(rank) FROM suggestions WHERE round = ?", (round,))
        first = 0 if last is None else int(str(last)) + 1
        self._db.many(
            "INSERT INTO suggestions (round, rank, sample_id, reason, author) VALUES (?, ?, ?, ?, ?)",
            [(round, rank, sample, chosen_by(author), author) for rank, sample in enumerate(samples, first)],
        )
        ids = [(sample,) for sample in samples]
        self._db.many("UPDATE samples SET state = 'suggested' WHERE id = ?", ids)
        self._db.many("DELETE FROM skipped WHERE sample_id = ?", ids)
        self._db.many("DELETE FROM work WHERE status = 'skipped' AND sample_id = ?", ids)
        data = {"round": round, "samples": list(samples), "author": author}
        row = (time.time(), "worklist", json.dumps(data, ensure_ascii=False))
        self._db.execute("INSERT INTO events (time, kind, data) VALUES (?, ?, ?)", row)

    def chosen(self, round: int) -> list[tuple[int, str]]:
        """Samples that people chose and that were first labelled in a round, by id, each with its reason."""
        return self._db.rows(
            "SELECT a.sample_id, s.reason FROM (SELECT sample_id, min(round) AS first FROM annotations"
            " GROUP BY sample_id) a JOIN suggestions s ON s.sample_id = a.sample_id AND s.author IS NOT NULL"
            " WHERE a.first = ? GROUP BY a.sample_id ORDER BY a.sample_id",
            (round,),
        )
