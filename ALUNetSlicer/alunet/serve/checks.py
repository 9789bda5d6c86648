"""Compares the projects of a service with what was stored, while nothing else is to do."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable

from alunet.errors import AlunetError
from alunet.project.checking import Checked, check
from alunet.schema import Event
from alunet.serve.projects import Projects
from alunet.serve.service_thread import ServiceThread

_LOOK_SECONDS = 60.0
_NAMED = 20
_NICE = 10
log = logging.getLogger("alunet.serve")


class Checks:
    """Compares the projects with what was stored, one after the other, at intervals.

    When a project was checked last is kept in its database, so that a restarted service
    does not check all of them again.

    Args:
        every: seconds between two checks of a project; None: never.
        busy: whether a job waits or runs; a check then stops, and begins again later.
    """

    def __init__(
        self,
        projects: Projects,
        every: float | None,
        busy: Callable[[], bool],
        look: float = _LOOK_SECONDS,
    ) -> None:
        self._projects, self._every, self._busy, self._look = projects, every, busy, look
        self._begun = False
        self._thread = ServiceThread("The check of the projects", self._check_all)
        if every is not None:
            self._thread.start()

    def stuck(self) -> list[str]:
        """What does not go on, a line each."""
        return [] if self._every is None else self._thread.stuck()

    def close(self) -> None:
        """Stop, in the middle of a project too."""
        self._thread.close()

    def _check_all(self) -> float:
        """Check the projects that are due; give when to look again."""
        if not self._begun:
            self._begin()
            return self._look
        for identifier in self._projects.ids():
            if self._thread.closing or self._busy():
                break
            try:
                self._check(identifier)
            except _Stopped:
                break
            except (AlunetError, OSError) as error:  # this one waits for its next turn
                log.warning("%s cannot be checked: %s", identifier, error)
        return self._look

    def _begin(self) -> None:
        """Let all others go first; on Linux that can be said of one thread alone."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.nice(_NICE)
        self._begun = True

    def _check(self, identifier: str) -> None:
        with self._projects.open(identifier) as project:
            last = project.settings.checked
            if last is not None and time.time() - last["moment"] < (self._every or 0):
                return
            found = check(project, self._heard)
            project.settings.checked = summary(found)
        for damage in found.damages:
            log.error("%s: %s", identifier, damage.text)

    def _heard(self, event: Event) -> None:
        """Stop the check where a job waits or runs."""
        self._thread.goes_on()
        if self._thread.closing or self._busy():
            raise _Stopped


class _Stopped(Exception):
    """A check is to end now."""


def summary(found: Checked) -> dict[str, object]:
    """What a project keeps of its last check: ``moment``, ``files``, ``damages`` (how many), and
    the first of them in words.
    """
    says = [damage.text for damage in found.damages[:_NAMED]]
    count = len(found.damages)
    return {"moment": found.moment, "files": found.files, "damages": count, "says": says}
