"""Starts the jobs' processes, and again those that died; never takes part in the work itself."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from typing import Any

import psutil

from alunet.errors import AlunetError
from alunet.model.child import with_source
from alunet.project import Project
from alunet.schema import Job, JobKind, JobState, Problem
from alunet.schema.processes import module_command
from alunet.serve import imports
from alunet.serve.projects import Projects
from alunet.serve.settings import ServiceSettings
from alunet.serve.worker import comes_first, interrupted
from alunet.storage.locks import InUse

_LOOK_SECONDS = 0.5
_START_SECONDS = 20.0
"""How long a process may take to lock its job."""
_PATIENCE_SECONDS = 4.0
"""How long the process of a cancelled job may take to end it."""
MOST_ATTEMPTS = 3

log = logging.getLogger("alunet.serve")


class Supervisor:
    """The jobs of all projects of a service.

    Args:
        settings: of the service.
        projects: of the service.
    """

    def __init__(self, settings: ServiceSettings, projects: Projects) -> None:
        self._settings, self._projects = settings, projects
        self._processes: dict[tuple[str, int], tuple[subprocess.Popen[bytes], float]] = {}
        self._active, self._running = set(projects.ids()), 0
        self._lock, self._end, self._news = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return self._running

    @property
    def busy(self) -> bool:
        """Whether any job waits or runs."""
        return bool(self._active)

    def wake(self, project: str) -> None:
        """There is something new about a project's jobs."""
        with self._lock:
            self._active.add(project)
        self._news.set()

    def close(self) -> None:
        """Stops looking; the jobs go on."""
        self._end.set()
        self._news.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._end.is_set():
            self._news.wait(_LOOK_SECONDS if self._active else None)
            self._news.clear()
            running = 0
            for project in sorted(self._active):
                with contextlib.suppress(AlunetError):
                    running += self._look(project)
            self._running = running

    def _look(self, identifier: str) -> int:
        """Sees to the jobs of one project; how many run."""
        with self._projects.open(identifier) as project:
            jobs = project.jobs.all(unfinished=True)
            imports_first = [job.id for job in jobs if job.kind is JobKind.IMPORT][:1]
            for job in jobs:
                first = job.id if job.kind is not JobKind.IMPORT else imports_first[0]
                try:
                    self._see_to(identifier, project, job, first)
                except OSError as error:
                    log.error("job %d cannot be started: %s", job.id, error)
            if not jobs:
                with self._lock:
                    if not project.jobs.all(unfinished=True):
                        self._active.discard(identifier)
        return sum(job.state is JobState.RUNNING for job in jobs)

    def _see_to(self, identifier: str, project: Project, job: Job, first: int) -> None:
        """Start a job or end it, where one of them is due.

        Args:
            first: the job that its process begins with: imports share one.
        """
        cancelled = project.jobs.cancelled_since(job.id)
        if project.jobs.lives(job.id):
            if cancelled is not None and cancelled > _PATIENCE_SECONDS:
                _kill(project.jobs.process(job.id), identifier)
        elif cancelled is not None:
            _end(project, job, JobState.CANCELLED)
        elif job.attempts >= MOST_ATTEMPTS and not self._starting(identifier, job.id):
            _end(project, job, JobState.FAILED, interrupted())
        elif first != job.id:
            if job.waiting != comes_first(first):
                project.jobs.note(job.id, waiting=comes_first(first))
        elif not self._starting(identifier, job.id):
            self._start(identifier, project, job)

    def _starting(self, identifier: str, number: int) -> bool:
        process, begun = self._processes.get((identifier, number), (None, 0.0))
        return (
            process is not None
            and process.poll() is None
            and time.monotonic() - begun < _START_SECONDS
        )

    def _start(self, identifier: str, project: Project, job: Job) -> None:
        if job.state is JobState.RUNNING:
            project.jobs.note(
                job.id,
                state=JobState.QUEUED.value,
                waiting="Its process died; it goes on from there.",
            )
        place = [
            str(self._settings.root),
            identifier,
            str(job.id),
            str(self._settings.threads or 0),
        ]
        detached: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            detached = {
                "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
            }
        project.jobs.folder.mkdir(exist_ok=True)
        with (project.jobs.folder / f"{job.id}.log").open("ab") as output:
            process = subprocess.Popen(
                module_command(sys.executable, "alunet.serve.worker", *place),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=with_source(),
                cwd=self._settings.own,
                **detached,
            )
        self._processes[identifier, job.id] = process, time.monotonic()


def _end(project: Project, job: Job, state: JobState, problem: Problem | None = None) -> None:
    """End a job whose process is gone, and what that left half done."""
    if job.attempts:
        with contextlib.suppress(InUse), Project.open(project.root) as owned:
            imports.clean_up(owned, job)
    project.jobs.end(job.id, state, problem)


def _kill(pid: int | None, identifier: str) -> None:
    """Ends a worker and all that it started, if that process still is one of this project."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        words = process.cmdline()
        if "alunet.serve.worker" not in words or words[-3] != identifier:
            return
        for part in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                part.kill()
