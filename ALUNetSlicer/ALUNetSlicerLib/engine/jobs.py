"""Long work of the engine as a person follows it: what runs, how far it is, how long it will take, and its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ALUNetSlicerLib.engine.agent_process import Agent
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.ports.signal import Signal

ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        kind: "round", "predict", "uncertainty", "export", …
        state: "queued", "running", "done", "failed" or "cancelled".
        phase: what it does now: "plan", "train", "score", …; empty at first.
        done, total: how much of the phase is done; 0 where nothing is told.
        unit: of these: "epochs", "steps", "slices", …
        dice: of the last epoch, None where there is none.
        seconds_left: of the phase, None where it is not known.
        waiting: why a queued job waits.
        error: why it failed.
        result: whether it has a file to fetch.
    """

    id: int
    kind: str
    state: str
    phase: str = ""
    done: float = 0
    total: float = 0
    unit: str = ""
    dice: float | None = None
    seconds_left: float | None = None
    waiting: str = ""
    error: Failure | None = None
    result: bool = False

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Job:
        """The job of a row as the engine gives it."""
        error = Failure(**row["error"]) if row["error"] else None
        job = cls(row["id"], row["kind"], row["state"], waiting=row["waiting"], error=error, result=row["result"])
        if row["progress"]:
            job = replace(job.told(row["progress"]["kind"], row["progress"]), state=row["state"])
        return job

    def told(self, kind: str, data: dict[str, Any]) -> Job:
        """The job after one of its events."""
        if kind == "progress":
            return replace(
                self, state="running", waiting="", phase=data["phase"], done=data["done"], total=data["total"] or 0,
                unit=data.get("unit") or "", seconds_left=data.get("seconds_left"),
            )  # fmt: skip
        if kind == "epoch":
            return replace(
                self, state="running", waiting="", phase="train", done=data["epoch"], total=data["epochs"],
                unit="epochs", dice=data.get("dice"), seconds_left=data.get("seconds_left"),
            )  # fmt: skip
        if kind == "step" and data["state"] == "started":
            return replace(
                self, state="running", waiting="", phase=data["name"], done=0, total=0, unit="", seconds_left=None
            )  # fmt: skip
        return self


class Jobs:
    """The newest work on one project, whoever started it: one that runs on the engine is found again after a restart.

    Args:
        agent: with an engine chosen; the project must be followed.
        project: id.

    Attributes:
        current: what runs or waits now; None for nothing.
        changed: emits the `Job` whenever something is known of it.
        ended: emits the `Job` once when it has ended.
    """

    def __init__(self, agent: Agent, project: str) -> None:
        self.current: Job | None = None
        self.changed, self.ended = Signal(), Signal()
        self._agent, self._project = agent, project
        self._waiting_for: dict[int, Callable[[Job], None]] = {}
        agent.event.connect(self._hear)

    def refresh(self, failed: Failed = lambda why: None) -> None:
        """Ask what runs."""

        def take(rows: list[dict[str, Any]]) -> None:
            running = [Job.of_row(row) for row in rows if row["state"] not in ENDED]
            if running:
                self._set(running[0])

        self._agent.ask("jobs", take, failed, project=self._project)

    def start(
        self, kind: str, options: dict[str, Any], ended: Callable[[Job], None] | None = None,
        failed: Failed = lambda why: None,
    ) -> None:  # fmt: skip
        """Start a piece of work.

        Args:
            kind, options: see the engine's description of jobs.
            ended: gets this very job when it is over, however.
            failed: called instead where it could not be started.
        """

        def take(row: dict[str, Any]) -> None:
            job = Job.of_row(row)
            if ended is not None:
                self._waiting_for[job.id] = ended
            if job.state in ENDED:
                self._finish(job)
            else:
                self._set(job)
                self._ask(job.id)  # its end may have been told before its number was

        self._agent.ask("start", take, failed, project=self._project, kind=kind, options=options)

    def cancel(self, failed: Failed = lambda why: None) -> None:
        """End what runs; `ended` tells when it has ended."""
        if self.current is not None:
            self._agent.ask("cancel_job", failed=failed, project=self._project, job=self.current.id)

    def close(self) -> None:
        """Listen no more; what runs goes on."""
        self._agent.event.disconnect(self._hear)

    def _ask(self, number: int) -> None:
        def take(row: dict[str, Any]) -> None:
            job = Job.of_row(row)
            if job.state in ENDED:
                self._finish(job)

        self._agent.ask("job", take, project=self._project, job=number)

    def _hear(self, event: dict[str, Any]) -> None:
        if event["event"] != "project" or event["project"] != self._project or "job" not in event["data"]:
            return
        number, data = event["data"]["job"], event["data"]
        if event["kind"] == "job" and data["state"] in ENDED:
            self._ask(number)  # for its result, and why it failed
        elif event["kind"] == "job" and data["state"] == "running" and self.current is None:
            self._set(Job(number, data["kind"], "running"))  # somebody else's
        elif self.current is not None and number == self.current.id:
            self._set(self.current.told(event["kind"], data))

    def _set(self, job: Job) -> None:
        self.current = job
        self.changed.emit(job)

    def _finish(self, job: Job) -> None:
        known = self.current is not None and self.current.id == job.id
        listener = self._waiting_for.pop(job.id, None)
        if known:
            self.current = None
        if known or listener is not None:
            self.changed.emit(job)
            self.ended.emit(job)
        if listener is not None:
            listener(job)
