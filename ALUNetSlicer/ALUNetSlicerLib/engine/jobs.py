"""Long work of the engine as a person follows it: what runs, how far it is, how long it will
take, and its end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from alunet import schema
from alunet.schema import ENDED, JobKind, JobState
from ALUNetSlicerLib.engine.agent_process import AgentProcess, about_job
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.engine.messages import (
    ConnectionNews,
    Epoch,
    JobNews,
    News,
    NewsKind,
    Progress,
    ProjectNews,
    StepNews,
    read_progress,
)
from ALUNetSlicerLib.ports.signal import Signal

BACKGROUND = (JobKind.UNCERTAINTY,)
"""Kinds of work that give way to all others, so that nobody has to wait for them."""


@dataclass(frozen=True)
class JobProgress:
    """One piece of work, as a person follows it.

    Attributes:
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
    kind: JobKind
    state: JobState
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
    def of_row(cls, row: schema.Job) -> JobProgress:
        """The job of a row as the engine gives it; progress that is not known here is left out."""
        error = None if row.error is None else Failure.of_problem(row.error)
        error = error and replace(error, about=about_job(row.kind))
        job = cls(row.id, row.kind, row.state, waiting=row.waiting, error=error, result=row.result)
        with contextlib.suppress(ValueError):
            job = job if row.progress is None else job.told(read_progress(row.progress))
        return replace(job, state=row.state, waiting=row.waiting)

    def told(self, news: News | None) -> JobProgress:
        """The job after one of its events; only those that say how far it is change it."""
        running = replace(self, state=JobState.RUNNING, waiting="")
        if isinstance(news, Progress):
            return replace(
                running,
                phase=news.phase,
                done=news.done,
                total=news.total or 0,
                unit=news.unit or "",
                seconds_left=news.seconds_left,
            )
        if isinstance(news, Epoch):
            return replace(
                running,
                phase="train",
                done=news.epoch,
                total=news.epochs,
                unit="epochs",
                dice=news.dice,
                seconds_left=news.seconds_left,
            )
        if isinstance(news, StepNews) and news.state == "started":
            return replace(running, phase=news.name, done=0, total=0, unit="", seconds_left=None)
        if isinstance(news, JobNews) and news.state == JobState.QUEUED:
            return replace(self, state=news.state, waiting=news.waiting)
        return self


class JobTracker:
    """The newest work on one project, of any person: one that runs on the engine is found
    again after a restart. Imports of cases are followed by those who ask for them.

    Args:
        agent: with an engine chosen; the project must be followed.
        project: id.

    Attributes:
        current: what runs or waits now; None for nothing.
        background: of the kinds `BACKGROUND`, what was started here; None for nothing.
        changed: emits the `JobProgress` whenever something is known of it.
        ended: emits the `JobProgress` once when it has ended.
    """

    def __init__(self, agent: AgentProcess, project: str) -> None:
        self.current: JobProgress | None = None
        self.background: JobProgress | None = None
        self.changed, self.ended = Signal(), Signal()
        self._agent, self._project = agent, project
        self._waiting_for: dict[int, Callable[[JobProgress], None]] = {}
        agent.event.connect(self._hear)

    def refresh(self, failed: Failed = lambda why: None) -> None:
        """Ask what runs."""

        def take(rows: list[schema.Job]) -> None:
            running = [
                JobProgress.of_row(row)
                for row in rows
                if row.state not in ENDED and row.kind not in (JobKind.IMPORT, *BACKGROUND)
            ]
            if running:
                self._set(running[0])
            # report each job that ended meanwhile, also one without an event, once
            known = [job.id for job in (self.current, self.background) if job is not None]
            for number in {*known, *self._waiting_for}:
                self._ask(number)

        self._agent.ask("jobs", take, failed, project=self._project)

    def start(
        self,
        kind: JobKind,
        options: dict[str, Any],
        ended: Callable[[JobProgress], None] | None = None,
        failed: Failed = lambda why: None,
    ) -> None:
        """Start a piece of work.

        Args:
            kind, options: see the engine's description of jobs.
            ended: gets this very job when it is over, however.
            failed: called instead where it could not be started.
        """

        def take(row: schema.Job) -> None:
            job = JobProgress.of_row(row)
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
        def take(row: schema.Job) -> None:
            job = JobProgress.of_row(row)
            if job.state in ENDED:
                self._finish(job)

        self._agent.ask("job", take, project=self._project, job=number)

    def _hear(self, event: object) -> None:
        if isinstance(event, ConnectionNews) and event.state == "online":
            self.refresh()  # the end of a job may have been asked for in vain
        if not isinstance(event, ProjectNews) or event.project != self._project:
            return
        if event.kind == NewsKind.GAP:
            self.refresh()
        if event.job is None:
            return
        news, known = event.content, [self.current, self.background]
        job = next((job for job in known if job is not None and job.id == event.job), None)
        if isinstance(news, JobNews) and news.kind == JobKind.IMPORT:
            return
        if isinstance(news, JobNews) and news.state in ENDED:
            self._ask(event.job)  # for its result, and why it failed
        elif job is not None:
            self._set(job.told(news))
        elif isinstance(news, JobNews) and self._of_others(news):
            self._set(JobProgress(event.job, news.kind, news.state))

    def _of_others(self, news: JobNews) -> bool:
        """Whether it is work that another person started, and all wait for."""
        free = self.current is None and news.kind not in BACKGROUND
        return free and news.state == JobState.RUNNING

    def _set(self, job: JobProgress) -> None:
        if job.kind in BACKGROUND:
            self.background = job
        else:
            self.current = job
        self.changed.emit(job)

    def _finish(self, job: JobProgress) -> None:
        known = job.id in [own.id for own in (self.current, self.background) if own is not None]
        listener = self._waiting_for.pop(job.id, None)
        if known and job.kind in BACKGROUND:
            self.background = None
        elif known:
            self.current = None
        if job.state == JobState.DONE:
            self._agent.answered.emit(about_job(job.kind))
        if known or listener is not None:
            self.changed.emit(job)
            self.ended.emit(job)
        if listener is not None:
            listener(job)
