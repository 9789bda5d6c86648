"""Remove what is no longer needed while the service runs, so that nothing grows without bound.

========================  ==========================================================================
uploads                   a week after they were touched last; a day, where half of the allowed
                          number wait. Those that an import waits for stay
copies in other forms     a day after they were used last; the oldest first, where they are more
                          than 10 GiB
temporary files           at the start of the service, or an hour after they were written
events, jobs, their logs  see `alunet.project.tidying`
log of the service        the newer half, where it is larger than 8 MiB
========================  ==========================================================================
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from alunet.errors import AlunetError
from alunet.project import Project
from alunet.project.tidying import forget_old, remove_left
from alunet.serve import imports
from alunet.serve.projects import Projects
from alunet.serve.service_thread import ServiceThread
from alunet.serve.settings import ServiceSettings
from alunet.serve.uploads import Uploads
from alunet.storage.files import cut_log, remove_leftovers
from alunet.storage.locks import InUse

_PAUSE_SECONDS = 3600.0
_HOUR, _DAY, _WEEK = 3600.0, 24 * 3600.0, 7 * 24 * 3600.0
_MOST_COPIES_BYTES = 10 << 30
_MOST_LOG_BYTES = 8 << 20
_JUST_USED_SECONDS = 600.0


class Housekeeping:
    """Tidies up behind one service, in a thread of its own.

    Args:
        settings, projects, uploads: of the service, which has not begun to serve.
    """

    def __init__(self, settings: ServiceSettings, projects: Projects, uploads: Uploads) -> None:
        self._settings, self._projects, self._uploads = settings, projects, uploads
        self._seen: dict[str, float] = {}
        projects.clear_making()
        remove_leftovers(settings.own)  # no other process writes there
        self._thread = ServiceThread("The housekeeping", self._tidy)
        self._thread.start()

    def stuck(self) -> list[str]:
        """What does not go on, a line each."""
        return self._thread.stuck()

    def close(self) -> None:
        """Stop tidying."""
        self._thread.close()

    def _tidy(self) -> float:
        remove_leftovers(self._settings.own, older_than=_HOUR)
        cut_log(self._settings.own / "service.log", _MOST_LOG_BYTES)
        forget_copies(self._settings.own / "converted", _DAY, _MOST_COPIES_BYTES)
        self._forget_uploads()
        for identifier in self._projects.ids():
            self._thread.goes_on()
            with contextlib.suppress(AlunetError):  # of a project, health tells
                self._tidy_project(identifier)
            if self._thread.closing:
                break
        return _PAUSE_SECONDS

    def _forget_uploads(self) -> None:
        crowded = self._uploads.count() > self._settings.limits.uploads // 2
        old = self._uploads.unused(_DAY if crowded else _WEEK)
        if not old:
            return
        with self._uploads.held():
            needed = imports.needed(self._projects)
            for upload in old if needed is not None else ():
                if upload not in (needed or ()):
                    self._uploads.drop(upload)

    def _tidy_project(self, identifier: str) -> None:
        """Tidy a project that was written to since the last time."""
        with self._projects.open(identifier) as project:
            written = _written(project.root)
            if self._seen.get(identifier) == written:
                return
            forget_old(project)
            folder = project.root
        with contextlib.suppress(InUse), Project.open(folder) as project:
            remove_left(project)
            self._seen[identifier] = _written(folder)


def _written(folder: Path) -> float:
    """When a project's database was written last."""
    files = (folder / "project.db", folder / "project.db-wal")
    return max(file.stat().st_mtime for file in files if file.is_file())


def forget_copies(folder: Path, kept_seconds: float, most: int) -> None:
    """Remove copies that were not used for so long, and the oldest beyond `most` bytes."""
    now, total = time.time(), 0
    copies = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
    for path, about in sorted(copies, key=lambda copy: copy[1].st_mtime, reverse=True):
        total, age = total + about.st_size, now - about.st_mtime
        if age > kept_seconds or (total > most and age > _JUST_USED_SECONDS):
            with contextlib.suppress(OSError):  # Windows keeps what is being read
                path.unlink()
