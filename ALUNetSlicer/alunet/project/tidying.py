"""Remove old events and jobs of a project, and what killed jobs left."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from alunet.project.project import Project
from alunet.schema import ENDED
from alunet.storage.files import cut_log, remove_leftovers

KEPT_EVENTS = 20_000
KEPT_JOBS = 500
"""Jobs that have ended, each with its log."""
KEPT_RESULTS = 20
"""Files that jobs made; those of the last day stay, however many they are."""
MOST_LOG_BYTES = 4 << 20
_DAY = 24 * 3600.0
_AT_ONCE = 2_000
EXPORTING = "tmp-export-"
"""Begin of the names of folders that an export makes in a project for its own use."""


def forget_old(project: Project) -> None:
    """Forget old events and jobs, in short steps beside those who work with the project."""
    while project.events.forget(KEPT_EVENTS, _AT_ONCE):
        pass
    ended = [job for job in project.jobs.all() if job.state in ENDED]
    for job in ended[:-KEPT_JOBS]:
        _remove_files(project.jobs.folder, job.id, project.jobs.result(job.id))
        project.jobs.forget(job.id)
    made = [job for job in ended[-KEPT_JOBS:] if job.result]
    for job in made[:-KEPT_RESULTS]:
        if time.time() - (job.finished or 0.0) > _DAY:
            result = project.jobs.result(job.id)
            if result is not None:
                result.unlink(missing_ok=True)
            project.jobs.forget_result(job.id)
    for log in project.jobs.folder.glob("*.log"):
        cut_log(log, MOST_LOG_BYTES)


def remove_left(project: Project) -> None:
    """Remove what killed jobs left half made; the project was opened for this alone.

    Opening it so has removed what they left in its other folders.
    """
    folder, going_on = project.jobs.folder, project.jobs.all(unfinished=True)
    if folder.is_dir():
        remove_leftovers(folder)
        numbers = {str(job.id) for job in going_on}
        for path in folder.iterdir():
            if path.is_dir() and path.name.partition("-")[0] not in numbers:
                shutil.rmtree(path, ignore_errors=True)
    for path in project.root.glob(f"{EXPORTING}*"):
        shutil.rmtree(path, ignore_errors=True)


def _remove_files(folder: Path, number: int, result: Path | None) -> None:
    for file in (folder / f"{number}.log", folder / f"{number}.lock", result):
        if file is not None:
            file.unlink(missing_ok=True)
