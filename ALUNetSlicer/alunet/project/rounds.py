"""The rounds of a project: which one it is, what state it is in, and what its batch was chosen
for.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

from alunet.errors import InputError
from alunet.storage.database import Database

CHOSEN = "chosen"
"""The strategy of a round whose labels are all of slices that people chose."""
UNASKED = "unasked"
"""The strategy of a round whose labels were not suggested."""
_COLUMNS = "number, strategy, budget, state, query, record, anew"

_TOUCHED = """
WITH now AS (SELECT id FROM counted_samples WHERE state = 'labelled')
SELECT EXISTS (SELECT 1 FROM now) AND (
    EXISTS (SELECT 1 FROM annotations WHERE round >= ? AND sample_id IN (SELECT id FROM now))
    OR EXISTS (SELECT 1 FROM learned WHERE sample_id NOT IN (SELECT id FROM now))
    OR EXISTS (SELECT 1 FROM now WHERE id NOT IN (SELECT sample_id FROM learned)))
"""


class RoundState(str, Enum):
    """What is done in a round now."""

    OPEN = "open"  # its batch is chosen, or annotated
    TRAINING = "training"  # on its labels; labels that come meanwhile belong to the next round
    FINISHED = "finished"


@dataclass(frozen=True)
class Round:
    """One round of active learning.

    Attributes:
        budget: samples of its batch proper; 0 where people chose all of them.
        query: ``diagnostics`` and ``costs`` of the choice; None while no strategy has chosen.
        record: what the finished round is remembered by; None before.
        anew: whether its training began without the weights of the round before.
    """

    number: int
    strategy: str
    budget: int
    state: RoundState
    query: dict[str, Any] | None
    record: dict[str, Any] | None
    anew: bool = False


class Rounds:
    """The table of rounds; numbers grow from 0 on, and only the last can be open."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[Round]:
        """Return the rounds by number."""
        return self._rounds("ORDER BY number")

    def _rounds(self, which: str, *values: object) -> list[Round]:
        return [
            _round(row) for row in self._db.rows(f"SELECT {_COLUMNS} FROM rounds {which}", values)
        ]

    def finished(self) -> list[Round]:
        """Return the finished rounds by number."""
        return self._rounds("WHERE state = 'finished' ORDER BY number")

    def current(self) -> int:
        """Return the number of the round that is open or trained, or that comes next."""
        return self._db.number("SELECT count(*) FROM rounds WHERE state = 'finished'")

    def begun(self) -> Round | None:
        """Return the round that is open or trained, or None between two rounds."""
        return next(iter(self._rounds("WHERE number = ?", self.current())), None)

    def touched(self) -> bool:
        """Return whether a training would learn from anything else than the last one did."""
        return bool(self._db.value(_TOUCHED, (self.current(),)))

    def of_new_labels(self) -> int:
        """Return the round that labels submitted now belong to: while one is trained, the next."""
        begun = self.begun()
        return self.current() + int(begun is not None and begun.state is RoundState.TRAINING)

    def on_worklist(self) -> int:
        """Return the round whose batch people see: the newest with a batch, else the one that
        comes next.
        """
        newest = self._db.rows("SELECT max(round) FROM suggestions")[0][0]
        return self.current() if newest is None else int(newest)

    def begin(self, strategy: str, budget: int) -> Round:
        """Open the current round, or give an open one without a batch another strategy and
        budget; return it.
        """
        number = self.current()
        self._db.execute(
            "INSERT INTO rounds (number, strategy, budget, state, started)"
            " VALUES (?, ?, ?, 'open', ?) ON CONFLICT (number) DO UPDATE"
            " SET strategy = excluded.strategy, budget = excluded.budget WHERE query IS NULL",
            (number, strategy, budget, time.time()),
        )
        return self._rounds("WHERE number = ?", number)[0]

    def keep_query(self, number: int, query: dict[str, Any]) -> None:
        """Note how the batch was chosen; from now on the round has one."""
        self._db.execute("UPDATE rounds SET query = ? WHERE number = ?", (_text(query), number))

    def add_costs(self, number: int, costs: dict[str, Any]) -> None:
        """Note once what a step after the choice took, of a batch that a strategy chose."""
        query = self._rounds("WHERE number = ?", number)[0].query
        if query is not None:
            self.keep_query(number, {**query, "costs": {**costs, **query["costs"]}})

    def forget_query(self, number: int) -> None:
        """Let the batch of an open round be chosen anew."""
        self._db.execute(
            "UPDATE rounds SET query = NULL WHERE number = ? AND state = 'open'", (number,)
        )

    def set_training(self, number: int, training: bool) -> None:
        """Note that the training of a begun round starts, or that it was stopped."""
        states = (
            (RoundState.TRAINING, RoundState.OPEN)
            if training
            else (RoundState.OPEN, RoundState.TRAINING)
        )
        change = "UPDATE rounds SET state = ? WHERE number = ? AND state = ?"
        self._db.execute(change, (states[0].value, number, states[1].value))

    def rename_structure(self, old: str, new: str) -> None:
        """Let what was measured in finished rounds follow the name of a structure."""
        for round_ in self.finished():
            record = round_.record or {}
            tables = record.get("metrics") or {"dice": record.get("dice") or {}}
            for metric, values in tables.items():
                tables[metric] = {new if k == old else k: v for k, v in values.items()}
            if "metrics" not in record and "dice" in record:
                record["dice"] = tables["dice"]
            self._db.execute(
                "UPDATE rounds SET record = ? WHERE number = ?", (_text(record), round_.number)
            )

    def begin_anew(self, number: int) -> None:
        """Note that the training of a begun round begins without earlier weights."""
        self._db.execute("UPDATE rounds SET anew = 1 WHERE number = ?", (number,))

    def anew(self, number: int) -> bool:
        """Return whether the training of a round began without earlier weights."""
        return bool(self._db.value("SELECT anew FROM rounds WHERE number = ?", (number,)))

    def finish(self, number: int, record: dict[str, Any]) -> None:
        """Note the result of a begun round.

        Raises:
            InputError: the round was not begun.
        """
        cursor = self._db.execute(
            "UPDATE rounds SET state = 'finished', record = ?, finished = ? WHERE number = ?",
            (_text(record), time.time(), number),
        )
        if cursor.rowcount != 1:
            raise InputError(f"Round {number} was not begun.", "Begin it first.")


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _round(row: tuple[Any, ...]) -> Round:
    number, strategy, budget, state, query, record, anew = row
    return Round(
        number=number,
        strategy=strategy,
        budget=budget,
        state=RoundState(state),
        query=None if query is None else json.loads(query),
        record=None if record is None else json.loads(record),
        anew=bool(anew),
    )
