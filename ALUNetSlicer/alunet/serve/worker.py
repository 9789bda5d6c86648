"""One job in a process of its own: ``python -m alunet.serve.worker ROOT PROJECT JOB THREADS``.

It outlives the service that started it. It lives as long as it holds the job's lock; while others
have the device or the project it waits and says so; it ends within seconds when somebody cancels
the job, with everything that it started.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from alunet.errors import AlunetError, Cancelled
from alunet.project import Project
from alunet.schema import ENDED, Code, Event, Job, JobKind, JobState, Problem
from alunet.schema.private import close_to_others
from alunet.serve import imports, tasks
from alunet.serve.job_context import JobContext
from alunet.serve.priority import (
    comes_before,
    gives_way,
    note_holder,
    waits_for,
    waits_for_device,
)
from alunet.serve.problems import problem_of
from alunet.storage.disk_space import check_room
from alunet.storage.failures import Locked, StorageFailure
from alunet.storage.locks import FileLock, InUse

_LOOK_SECONDS = 0.25
_BEAT_SECONDS = 2.0
_PATIENCE_SECONDS = 3.0
"""How long a cancelled job may take to end by itself."""
_SHOWN = ("progress", "epoch", "step")


class Watch(threading.Thread):
    """Writes the job's events and heartbeat, and looks whether it is cancelled or the disk gets
    full; has a connection of its own.

    Attributes:
        cancel: set when the job is to end, or to give way.
        failure: why it is to end, where it was not cancelled.
        paused: set when it is to give way to another one, and to go on afterwards.
        running: whether it has its turn.
    """

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(daemon=True)
        self._folder, self._number = folder, number
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._waiting: list[Event] = []
        self.cancel, self._done = threading.Event(), threading.Event()
        self.failure: Exception | None = None
        self.paused, self.running = threading.Event(), False

    def emit(self, event: Event) -> None:
        """Takes an event from any thread."""
        self._events.put(event)

    def run(self) -> None:
        """Works until `finish`."""
        try:
            with Project.open(self._folder, shared=True) as project:
                self._watch(project)
        except Exception as error:  # noqa: BLE001  else the job could not be cancelled
            self.failure = self.failure or error
            self.paused.clear()
            self.cancel.set()

    def _watch(self, project: Project) -> None:
        beat, asked, last = 0.0, 0.0, False
        while not last:
            last = self._done.wait(_LOOK_SECONDS)
            beats = time.monotonic() - beat > _BEAT_SECONDS
            beat = time.monotonic() if beats else beat
            if self._look(project, beats):
                self.paused.clear()
                asked = asked or time.monotonic()
                self.cancel.set()
                if not last and time.monotonic() - asked > _PATIENCE_SECONDS:
                    self._end(project)

    def _look(self, project: Project, beats: bool) -> bool:
        """Write what happened, and look around; whether the job is to end."""
        try:
            self._write(project)
            if beats:
                project.jobs.note(self._number, heartbeat=time.time())
                check_room(project.root)
            if self.running and self._must_give_way(project):
                self.paused.set()
                self.cancel.set()
            return (
                self.failure is not None or project.jobs.cancelled_since(self._number) is not None
            )
        except Locked:
            return self.failure is not None
        except StorageFailure as failure:
            self.failure = self.failure or failure
            return True

    def _must_give_way(self, project: Project) -> bool:
        job = project.jobs.get(self._number)
        return gives_way(job) and comes_before(project, job) is not None

    def finish(self) -> None:
        """Writes what is left and ends."""
        self._done.set()
        self.join()

    def _write(self, project: Project) -> None:
        """The events since the last time; of those that only count up, the last of each phase."""
        while not self._events.empty():
            self._waiting.append(self._events.get())
        kept = [
            event
            for place, event in enumerate(self._waiting)
            if not _overtaken(event, self._waiting[place + 1 :])
        ]
        with project.together():
            for event in kept:
                data = {**event.data, "job": self._number}
                project.events.add(event.kind, data)
                if event.kind in _SHOWN:
                    shown = json.dumps({"kind": event.kind, **event.data}, ensure_ascii=False)
                    project.jobs.note(self._number, progress=shown)
        self._waiting.clear()  # not before: where they cannot be written, they wait

    def _end(self, project: Project) -> None:
        """The job did not end by itself: end the process and all that it started."""
        for helper in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                helper.kill()
        try:
            imports.clean_up(project, project.jobs.get(self._number))
            state = JobState.CANCELLED if self.failure is None else JobState.FAILED
            project.jobs.end(
                self._number, state, None if self.failure is None else problem_of(self.failure)
            )
        finally:
            os._exit(0)


def _overtaken(event: Event, later: list[Event]) -> bool:
    phase = event.data.get("phase")
    return event.kind == "progress" and any(
        new.kind == "progress" and new.data.get("phase") == phase for new in later
    )


def work(root: Path, identifier: str, number: int, threads: int | None) -> None:
    """Do a job, unless another process does it or it has ended; after an import the imports that
    wait behind it, which need no process each.
    """
    following: int | None = number
    with Project.open(root / identifier, shared=True) as project:
        while following is not None:
            lock = FileLock(project.jobs.lock(following))
            if not lock.take():
                return
            if project.jobs.get(following).state not in ENDED:
                project.jobs.note(following, pid=os.getpid(), heartbeat=time.time())
                _work(root, project, project.jobs.get(following), threads)
            lock.release()
            following = _next_import(project, following)


def _next_import(project: Project, number: int) -> int | None:
    if project.jobs.get(number).kind is not JobKind.IMPORT:
        return None
    waiting = project.jobs.all(unfinished=True)
    return next((job.id for job in waiting if job.kind is JobKind.IMPORT), None)


def _work(root: Path, project: Project, job: Job, threads: int | None) -> None:
    watch = Watch(project.root, job.id)
    watch.start()
    state, problem, result = JobState.DONE, None, None
    try:
        result = _in_turn(root, project, job, threads, watch)
    except Cancelled:
        state = JobState.CANCELLED
    except AlunetError as error:
        state, problem = JobState.FAILED, problem_of(error)
    except Exception as error:
        logging.exception("the job failed")
        state, problem = JobState.FAILED, problem_of(error)
    watch.finish()
    if state is JobState.CANCELLED and watch.failure is not None:
        state, problem = JobState.FAILED, problem_of(watch.failure)
    project.jobs.end(job.id, state, problem, result)


def _in_turn(
    root: Path, project: Project, job: Job, threads: int | None, watch: Watch
) -> Path | None:
    """Do the job when it is its turn; where it had to give way, once more when the others are
    done.
    """
    while True:
        try:
            with _turn(root, project, job, watch) as owned:
                check_room(project.root)
                project.jobs.begin(job.id)
                watch.running = True
                return tasks.run(JobContext(root, owned, job, threads, watch.emit, watch.cancel))
        except Cancelled:
            if not watch.paused.is_set():
                raise
        finally:
            watch.running = False
        watch.paused.clear()
        watch.cancel.clear()
        if watch.failure is not None:  # it came between the two
            raise Cancelled("The job cannot be watched.")


@contextlib.contextmanager
def _turn(root: Path, project: Project, job: Job, watch: Watch) -> Iterator[Project]:
    """Waits until the job may run, and gives the project for it alone."""
    device = FileLock(root / ".alunet" / "device.lock")
    try:
        while (earlier := comes_before(project, job)) is not None:
            _wait(project, job, watch, waits_for(earlier))
        holder = root / ".alunet" / "device.holder"
        while job.kind in tasks.ON_DEVICE and not device.take():
            _wait(project, job, watch, waits_for_device(holder))
        if job.kind in tasks.ON_DEVICE:
            note_holder(holder, project, job)
        with _own(project, job, watch) as owned:
            yield owned
    finally:
        device.release()


def comes_first(number: int) -> str:
    """Why a job waits for that one."""
    return f"Job {number} of this project comes first."


def _own(project: Project, job: Job, watch: Watch) -> Project:
    while True:
        try:
            return Project.open(project.root)
        except InUse:
            _wait(project, job, watch, "Another program is using the project.")


def _wait(project: Project, job: Job, watch: Watch, why: str) -> None:
    if project.jobs.get(job.id).waiting != why:
        project.jobs.wait(job.id, why)
    if watch.cancel.wait(_LOOK_SECONDS):
        raise Cancelled("Cancelled before it began.")


def main(arguments: list[str]) -> int:
    """Do the job that the arguments name."""
    close_to_others()
    root, identifier, number, threads = arguments
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    work(Path(root), identifier, int(number), int(threads) or None)
    return 0


def interrupted() -> Problem:
    """Why a job failed that died too often."""
    return Problem(
        Code.FAILED,
        "The job's process died several times.",
        "Its log has the story; start it again.",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
