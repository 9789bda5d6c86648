"""Starts the jobs' processes, and again those that died; never takes part in the work itself."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psutil

from alunet.errors import AlunetError
from alunet.model.child import with_source
from alunet.project import Project
from alunet.schema import Code, Job, JobKind, JobState, Problem
from alunet.schema.processes import module_command
from alunet.serve import imports
from alunet.serve.problems import Refused, problem_of
from alunet.serve.projects import Projects
from alunet.serve.service_thread import ServiceThread
from alunet.serve.settings import ServiceSettings
from alunet.serve.worker import comes_first, interrupted
from alunet.storage.disk_space import check_room
from alunet.storage.failures import DiskFull
from alunet.storage.locks import InUse

_LOOK_SECONDS, _IDLE_SECONDS = 0.5, 5.0
_LONGEST_PAUSE = 60.0
_GIVE_UP_SECONDS = 10.0
"""After this long, a project whose jobs fail to be looked at no longer keeps an idle service up."""
_START_SECONDS = 20.0
"""How long a process may take to lock its job."""
_PATIENCE_SECONDS = 4.0
"""How long the process of a cancelled job may take to end it."""
MOST_ATTEMPTS = 3

log = logging.getLogger("alunet.serve")


@dataclass
class _Trouble:
    """Why the jobs of a project cannot be seen to, and when that is tried again."""

    words: str
    since: float
    pause: float
    again: float


@dataclass(frozen=True)
class _Started:
    """A process that was started for a job, and how often the job had begun before."""

    process: subprocess.Popen[bytes]
    moment: float
    attempts: int


class Supervisor:
    """The jobs of all projects of a service.

    A project that cannot be opened, or a job that cannot be started, troubles no other: it is
    logged once and tried again after longer and longer pauses.

    Args:
        settings: of the service.
        projects: of the service.
    """

    def __init__(self, settings: ServiceSettings, projects: Projects) -> None:
        self._settings, self._projects = settings, projects
        self._processes: dict[tuple[str, int], _Started] = {}
        self._deaths: Counter[tuple[str, int]] = Counter()
        self._troubles: dict[str, _Trouble] = {}
        # Projects without jobs are left out: to open each of many would take long.
        identifiers = projects.ids()
        self._active, self._running = set(identifiers) - projects.catalog.idle(identifiers), 0
        self._lock = threading.Lock()
        self._thread = ServiceThread("The supervisor of the jobs", self._look_at_all)
        self._thread.start()

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return self._running

    @property
    def busy(self) -> bool:
        """Whether any job waits or runs; those that cannot be seen to do not count."""
        now = time.monotonic()
        with self._lock:
            troubles = {
                project
                for project, trouble in self._troubles.items()
                if now - trouble.since > _GIVE_UP_SECONDS
            }
            return bool(self._active - troubles)

    def stuck(self) -> list[str]:
        """What does not go on, a line each."""
        with self._lock:
            words = [trouble.words for trouble in self._troubles.values()]
        return [*self._thread.stuck(), *words]

    def wake(self, project: str) -> None:
        """There is something new about a project's jobs."""
        with self._lock:
            self._active.add(project)
            if project in self._troubles:
                self._troubles[project].again = 0.0
        self._thread.wake()

    def close(self) -> None:
        """Stops looking; the jobs go on."""
        self._thread.close()

    def _look_at_all(self) -> float:
        """See to the jobs of all projects that have some; give when to look again."""
        running = 0
        with self._lock:
            active = sorted(self._active)
        for project in active:
            trouble = self._troubles.get(project)
            if trouble is not None and time.monotonic() < trouble.again:
                continue
            try:
                running += self._look(project)
                with self._lock:
                    self._troubles.pop(project, None)
            except Exception as error:  # noqa: BLE001  it troubles no other project
                self._note(project, error)
        self._running = running
        return _LOOK_SECONDS if active else _IDLE_SECONDS

    def _note(self, project: str, error: Exception) -> None:
        """A project cannot be seen to: log it once, and leave it alone for a while."""
        problem = error.problem if isinstance(error, Refused) else None
        if problem is not None and problem.code is Code.NOT_FOUND:  # it was moved away
            with self._lock:
                self._active.discard(project)
                self._troubles.pop(project, None)
            return
        words = f"The jobs of '{project}' cannot be seen to: {error}".splitlines()[0][:300]
        words = words if problem is None else problem.message  # which was logged
        now, before = time.monotonic(), self._troubles.get(project)
        if problem is None and (before is None or before.words != words):
            log.warning("%s", words, exc_info=None if isinstance(error, AlunetError) else error)
        pause = _LOOK_SECONDS if before is None else min(_LONGEST_PAUSE, before.pause * 2)
        since = now if before is None else before.since
        with self._lock:
            self._troubles[project] = _Trouble(words, since, pause, now + pause)

    def _look(self, identifier: str) -> int:
        """Sees to the jobs of one project; how many run.

        Raises:
            OSError: of the first job that cannot be started; the others were seen to.
        """
        with self._projects.open(identifier, wait=_LOOK_SECONDS) as project:
            jobs = project.jobs.all(unfinished=True)
            imports_first = [job.id for job in jobs if job.kind is JobKind.IMPORT][:1]
            failed: OSError | None = None
            for job in jobs:
                first = job.id if job.kind is not JobKind.IMPORT else imports_first[0]
                try:
                    self._see_to(identifier, project, job, first)
                except OSError as error:
                    failed = failed or error
                    project.jobs.note(job.id, waiting=f"It cannot be started: {error}.")
            self._forget(identifier, {job.id for job in jobs})
            if not jobs:
                with self._lock:
                    if not project.jobs.all(unfinished=True):
                        self._active.discard(identifier)
            if failed is not None:
                raise failed
        return sum(job.state is JobState.RUNNING for job in jobs)

    def _forget(self, identifier: str, unfinished: set[int]) -> None:
        """Keep nothing of jobs that ended."""
        for known in [key for key in self._processes if key[0] == identifier]:
            if known[1] not in unfinished and self._processes[known].process.poll() is not None:
                del self._processes[known]
        for known in [key for key in self._deaths if key[0] == identifier]:
            if known[1] not in unfinished:
                del self._deaths[known]

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
        elif self._died(identifier, job) and not self._starting(identifier, job.id):
            _end(project, job, JobState.FAILED, interrupted())
        elif first != job.id:
            if job.waiting != comes_first(first):
                project.jobs.note(job.id, waiting=comes_first(first))
        elif not self._starting(identifier, job.id):
            self._start(identifier, project, job)

    def _starting(self, identifier: str, number: int) -> bool:
        started = self._processes.get((identifier, number))
        return (
            started is not None
            and started.process.poll() is None
            and time.monotonic() - started.moment < _START_SECONDS
        )

    def _died(self, identifier: str, job: Job) -> bool:
        """Whether its processes died too often, at work or before they came to it."""
        key = identifier, job.id
        started = self._processes.get(key)
        if started is not None and started.process.poll():
            self._deaths[key] += started.attempts == job.attempts
            del self._processes[key]
        return max(job.attempts, self._deaths[key]) >= MOST_ATTEMPTS

    def _start(self, identifier: str, project: Project, job: Job) -> None:
        try:
            check_room(project.root)
        except DiskFull as error:
            _end(project, job, JobState.FAILED, problem_of(error))
            return
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
        self._processes[identifier, job.id] = _Started(process, time.monotonic(), job.attempts)


def _end(project: Project, job: Job, state: JobState, problem: Problem | None = None) -> None:
    """End a job whose process is gone, and what that left half done."""
    if job.attempts:
        with contextlib.suppress(InUse, OSError), Project.open(project.root) as owned:
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
