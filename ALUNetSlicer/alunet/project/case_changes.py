"""Cases that leave a project, come back or change their role, and what follows from it.

Samples keep their rows and numbers: arrays are indexed by them. Whether they count is a matter of
their case (the view ``counted_samples``), so that each of these changes is one row, and can be
undone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from alunet.errors import InputError
from alunet.project.case_table import check_role
from alunet.project.cases import Cases
from alunet.project.events import Events
from alunet.project.learned import Learned
from alunet.project.rounds import Rounds
from alunet.storage.database import Database


@dataclass(frozen=True)
class CaseRecord:
    """One row of the list of cases.

    Attributes:
        name: of an erased case a neutral one.
        state: "present", "removed" or "erased".
        annotated: labeled samples, whether they count or not.
        changed: when state or role was changed last, seconds since 1970; None: never.
        changed_by: who did; empty where that is not known.
    """

    name: str
    role: str
    state: str
    annotated: int
    changed: float | None
    changed_by: str


class CaseChanges:
    """Changes which cases count, and as what."""

    def __init__(
        self, database: Database, cases: Cases, rounds: Rounds, learned: Learned, events: Events
    ) -> None:
        self._db, self._cases, self._rounds = database, cases, rounds
        self._learned, self._events = learned, events

    def records(self) -> list[CaseRecord]:
        """Return all cases by name, also those that were removed or erased."""
        rows = self._db.rows(
            "SELECT name, role, state, (SELECT count(*) FROM samples s WHERE s.case_name = c.name "
            "AND s.state = 'labelled'), changed, coalesce(changed_by, '') FROM cases c "
            "WHERE state != 'erasing' ORDER BY name"
        )
        return [CaseRecord(*row) for row in rows]

    def remove(self, name: str, author: str = "") -> list[str]:
        """Take a case out of the project; all that it has stays on disk until it is restored.

        Returns:
            What follows, sentences for people; for a case that was removed before the same.

        Raises:
            InputError: there is no such case.
        """
        self._set(name, author, state="removed")
        annotated = self._annotated(name)
        says = ["It counts for nothing now; what it has stays until it is restored or erased."]
        if annotated:
            says.append(f"No longer counted: {_slices(annotated)}.")
        return says + self._says_of_training(name) + self._says_of_tests(name)

    def restore(self, name: str, author: str = "") -> list[str]:
        """Take a case in again, with all that it had; see `remove`."""
        self._set(name, author, state="present")
        return self._says_of_use(name) + self._says_of_tests(name)

    def set_role(self, name: str, role: str, author: str = "") -> list[str]:
        """Use a case to learn from ("pool") or to evaluate on ("test"); see `remove`.

        Raises:
            InputError: there is no such case or role, or the case was removed.
        """
        check_role(role)
        self._cases.row(name)
        if self._db.value("SELECT state FROM cases WHERE name = ?", (name,)) != "present":
            raise InputError(f"Case '{name}' was removed.", "Restore it first.")
        self._set(name, author, role=role)
        return self._says_of_use(name) + self._says_of_tests(name)

    def _set(self, name: str, author: str, **change: str) -> None:
        """Change one column of a case; a case that has the value already stays as it is."""
        self._db.check_writable()
        ((column, value),) = change.items()
        with self._db.transaction():
            self._cases.row(name)
            if self._db.value(f"SELECT {column} FROM cases WHERE name = ?", (name,)) == value:
                return
            self._db.execute(
                f"UPDATE cases SET {column} = ?, changed = ?, changed_by = ? WHERE name = ?",
                (value, time.time(), author or None, name),
            )
            self._events.add("case", {"case": name, column: value, "author": author})

    def _annotated(self, name: str) -> int:
        """How many slices of a case are annotated."""
        return self._db.number(
            "SELECT count(DISTINCT slice_raw) FROM samples WHERE case_name = ? AND "
            "state = 'labelled'",
            (name,),
        )

    def _says_of_use(self, name: str) -> list[str]:
        role, label = self._db.rows("SELECT role, label FROM cases WHERE name = ?", (name,))[0]
        annotated = self._annotated(name)
        if role == "test":
            says = ["It is evaluated on, and never suggested or learned from."]
            if label is None:
                says = [
                    "It has no reference label, so it is neither learned from nor evaluated on."
                ]
            if annotated:
                says.append(f"Not counted while it is so: {_slices(annotated)}.")
            return says + self._says_of_training(name)
        planned = self._db.value("SELECT 1 FROM samples WHERE case_name = ?", (name,))
        says = [
            "It can be suggested from now on."
            if planned
            else "It can be suggested once the project is planned again."
        ]
        return [*says, f"Counted again: {_slices(annotated)}."] if annotated else says

    def _says_of_training(self, name: str) -> list[str]:
        if not self._learned.of_case(name):
            return []
        left = self._db.value("SELECT 1 FROM counted_samples WHERE state = 'labelled'")
        if left is None:
            return [
                "The last model learned from it, and nothing else is annotated: annotate first."
            ]
        return ["The last model learned from it, so the next training starts anew, without it."]

    def _says_of_tests(self, name: str) -> list[str]:
        """Whether the curve goes on with other test cases than before."""
        tests = [round_.record.get("tests") for round_ in self._rounds.finished() if round_.record]
        if not tests or tests[-1] is None:
            return []
        now = sorted(case.name for case in self._cases.all("test") if case.label is not None)
        if sorted(tests[-1]) == now:
            return []
        return ["From the next round on the test set is another one; older results stay."]


def _slices(count: int) -> str:
    return "1 annotated slice" if count == 1 else f"{count} annotated slices"
