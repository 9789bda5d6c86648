"""How unsure the model is of the slice on screen, computed when somebody wants to see it: this
slice first, then those that come next.
"""

from __future__ import annotations

from alunet.schema import JobKind, JobState
from ALUNetSlicerLib.annotate.session import AnnotationSession
from ALUNetSlicerLib.annotate.worklist import OPEN
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.engine.jobs import JobProgress, JobTracker

AHEAD = 20
"""So many slices at most are computed at a time: the model is loaded once for them."""


class MapsOnDemand:
    """Of one project. It works behind all else that is to be done; each slice is shown as soon as
    it is there.

    Args:
        session, jobs: of the project.
        failed: told why it cannot be computed.
    """

    def __init__(self, session: AnnotationSession, jobs: JobTracker, failed: Failed) -> None:
        self._session, self._jobs, self._failed = session, jobs, failed
        self._asked: list[int] = []
        self._round: int | None = None
        session.overlay.missing.connect(self._missing)
        jobs.changed.connect(self._look)

    def _missing(self) -> None:
        item, worklist = self._session.current, self._session.worklist
        if item is None or self._jobs.background is not None or not worklist.round:
            return  # before the first model there is nothing to compute
        if item.sample in self._asked and self._round == worklist.round:
            return  # it was tried with this model
        others = [other.sample for other in worklist if other.status in OPEN]
        place = others.index(item.sample) + 1 if item.sample in others else 0
        behind = [sample for sample in others[place:] if sample != item.sample]
        self._asked, self._round = [item.sample, *behind][:AHEAD], worklist.round
        self._jobs.start(JobKind.UNCERTAINTY, {"samples": self._asked}, self._ended, self._refused)

    def _refused(self, why: Failure) -> None:
        self._asked = []
        self._failed(why)

    def _look(self, job: JobProgress) -> None:
        """A slice more may be there."""
        if job.kind == JobKind.UNCERTAINTY and self._session.overlay.lacking:
            self._session.overlay.show(self._session.current)

    def _ended(self, job: JobProgress) -> None:
        """Show it; another slice that is on screen meanwhile is computed next."""
        if job.state == JobState.CANCELLED:
            self._asked = []
        self._look(job)
