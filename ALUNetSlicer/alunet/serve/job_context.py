"""What a job is done with."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from alunet.loop.annotation_loop import AnnotationLoop
from alunet.project import Project
from alunet.schema import Emit, Job


@dataclass(frozen=True)
class JobContext:
    """A job about to be done.

    Attributes:
        root: folder of the service's projects.
        project: open for this job alone.
        threads: of child processes; None: all cores.
        emit: hears the progress.
        cancel: set when it is to end.
    """

    root: Path
    project: Project
    job: Job
    threads: int | None
    emit: Emit
    cancel: threading.Event

    def is_cancelled(self) -> bool:
        """Return whether the job is to end, also where a library kept this process so busy that
        `cancel` could not be set.
        """
        jobs = self.project.jobs
        return self.cancel.is_set() or jobs.cancelled_since(self.job.id) is not None

    def annotation_loop(self) -> AnnotationLoop:
        """The project's loop."""
        loop = AnnotationLoop(self.project, emit=self.emit, cancel=self.cancel)
        loop.loop.threads = self.threads or loop.loop.threads
        return loop

    def result(self, name: str) -> Path:
        """Where the file goes that the job makes."""
        return self.project.jobs.folder / f"{self.job.id}-{name}"
