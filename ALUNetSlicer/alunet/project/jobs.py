"""The jobs of a project, as its database remembers them; whether one is alive, its lock knows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.project.events import Events
from alunet.schema import ENDED, Job, JobKind, JobState, Problem, from_json, to_json
from alunet.storage.database import Database
from alunet.storage.locks import is_locked

_COLUMNS = (
    "id, kind, state, config, progress, waiting, error, created, started, finished, "
    "heartbeat, result, attempts"
)


class Jobs:
    """The table of jobs.

    Args:
        folder: of their locks, logs and results; made with the first.
    """

    def __init__(self, database: Database, events: Events, folder: Path) -> None:
        self._db, self._events, self.folder = database, events, folder

    def add(self, kind: JobKind, options: dict[str, Any]) -> int:
        """Notes a job that waits to be started; gives its number."""
        cursor = self._db.execute(
            "INSERT INTO jobs (kind, state, config, created) VALUES (?, 'queued', ?, ?)",
            (kind.value, json.dumps(options, ensure_ascii=False), time.time()),
        )
        return int(cursor.lastrowid or 0)

    def all(self, *, unfinished: bool = False) -> list[Job]:
        """The jobs by number; all, or those that wait or run."""
        which = "WHERE state IN ('queued', 'running')" if unfinished else ""
        return [
            _job(row) for row in self._db.rows(f"SELECT {_COLUMNS} FROM jobs {which} ORDER BY id")
        ]

    def get(self, number: int) -> Job:
        """One job; raises InputError where there is none."""
        rows = self._db.rows(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (number,))
        if not rows:
            raise InputError(f"There is no job {number}.", "See the list of jobs.")
        return _job(rows[0])

    def lock(self, number: int) -> Path:
        """The file whose lock the job's process holds for as long as it lives."""
        self.folder.mkdir(exist_ok=True)
        return self.folder / f"{number}.lock"

    def lives(self, number: int) -> bool:
        """Whether some process is doing the job, or waiting to."""
        return is_locked(self.lock(number))

    def process(self, number: int) -> int | None:
        """Number of the process that did the job last."""
        found = self._db.value("SELECT pid FROM jobs WHERE id = ?", (number,))
        return None if found is None else int(str(found))

    def result(self, number: int) -> Path | None:
        """The file that a job made, if it made one."""
        name = self._db.value("SELECT result FROM jobs WHERE id = ?", (number,))
        return None if name is None else self.folder / str(name)

    def note(self, number: int, **columns: Any) -> None:
        """Changes what is known of a job that has not ended; columns as in the table ``jobs``."""
        changes = ", ".join(f"{name} = ?" for name in columns)
        where = "WHERE id = ? AND state IN ('queued', 'running')"
        self._db.execute(f"UPDATE jobs SET {changes} {where}", (*columns.values(), number))

    def wait(self, number: int, why: str) -> None:
        """Notes, and adds an event, that a job waits, and why."""
        with self._db.transaction():
            if self.get(number).state not in ENDED:
                self.note(number, state=JobState.QUEUED.value, waiting=why)
                self._tell(number)

    def begin(self, number: int) -> None:
        """Notes that a job runs now, once more or for the first time."""
        self.note(number, state=JobState.RUNNING.value, waiting="")
        counted = (
            "UPDATE jobs SET attempts = attempts + 1, started = coalesce(started, ?) WHERE id = ?"
        )
        self._db.execute(counted, (time.time(), number))
        self._tell(number)

    def end(
        self,
        number: int,
        state: JobState,
        problem: Problem | None = None,
        result: Path | None = None,
    ) -> None:
        """Notes how a job ended; one that has ended stays as it is."""
        with self._db.transaction():
            if self.get(number).state in ENDED:
                return
            self.note(
                number,
                finished=time.time(),
                error=None if problem is None else json.dumps(to_json(problem), ensure_ascii=False),
                result=None if result is None else result.name,
                waiting="",
                state=state.value,
            )
            self._tell(number)

    def cancel(self, number: int) -> None:
        """Asks for the end of a job; its process, or the service, sees to it."""
        self._db.execute(
            "UPDATE jobs SET cancelled = coalesce(cancelled, ?) WHERE id = ?", (time.time(), number)
        )

    def cancelled_since(self, number: int) -> float | None:
        """Seconds since the end of a job was asked for, or None."""
        moment = self._db.value("SELECT cancelled FROM jobs WHERE id = ?", (number,))
        return None if moment is None else time.time() - float(str(moment))

    def kept_note(self, number: int, name: str, value: Any) -> Any:
        """What an earlier attempt of the job noted under that name; the first one notes `value`."""
        with self._db.transaction():
            notes = json.loads(
                str(self._db.value("SELECT notes FROM jobs WHERE id = ?", (number,)))
            )
            if name not in notes:
                notes[name] = value
                self.note(number, notes=json.dumps(notes))
        return notes[name]

    def forget(self, number: int) -> None:
        """Forget a job that has ended."""
        where = "WHERE id = ? AND state NOT IN ('queued', 'running')"
        self._db.execute(f"DELETE FROM jobs {where}", (number,))

    def forget_result(self, number: int) -> None:
        """Note that the file that a job made is gone."""
        self._db.execute("UPDATE jobs SET result = NULL WHERE id = ?", (number,))

    def _tell(self, number: int) -> None:
        job = self.get(number)
        error = None if job.error is None else to_json(job.error)
        data = {"job": number, "kind": job.kind.value, "state": job.state.value, "error": error}
        data |= {"waiting": job.waiting} if job.waiting else {}
        self._events.add("job", data)


def _job(row: tuple[Any, ...]) -> Job:
    number, kind, state, options, progress, waiting, error, *times, result, attempts = row
    created, started, finished, heartbeat = times
    return Job(
        id=number,
        kind=JobKind(kind),
        state=JobState(state),
        options=json.loads(options),
        progress=None if progress is None else json.loads(progress),
        waiting=waiting,
        error=None if error is None else from_json(Problem, json.loads(error)),
        created=created,
        started=started,
        finished=finished,
        heartbeat=heartbeat,
        result=result is not None,
        attempts=attempts,
    )
