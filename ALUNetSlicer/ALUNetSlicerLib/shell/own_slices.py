"""Slices that a person chooses: the one in the view goes into the worklist."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from alunet.schema import Code, JobKind, JobState, WorkRow
from ALUNetSlicerLib.annotate.other_slices import Place
from ALUNetSlicerLib.annotate.session import AnnotationSession
from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.engine.jobs import JobProgress, JobTracker
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.signal import Signal


class OwnSlices:
    """Of one project.

    Args:
        agent: with an engine chosen.
        project: id.
        author: who chooses.
        session, jobs: of the project.
        view: gives the view, or None without views.

    Attributes:
        added: emits nothing; the project has a slice more in its worklist.
        failed: emits a `Failure` for a person.
    """

    def __init__(
        self,
        agent: AgentProcess,
        project: str,
        author: str,
        session: AnnotationSession,
        jobs: JobTracker,
        view: Callable[[], SliceView | None],
    ) -> None:
        self.added, self.failed = Signal(), Signal()
        self._agent, self._project, self._author = agent, project, author
        self._session, self._jobs, self._view = session, jobs, view
        self._closed = False

    def add_shown(self) -> None:
        """Put the slice of the view into the worklist; where it must be, the project is planned
        first.
        """
        place = self._shown()
        case = "" if place is None else self._session.case_nodes.case_of(place[0])
        if not case:
            words = _("The Red view shows no case of this project.")
            hint = _("Show a volume that you added there, then try again.")
            self.failed.emit(Failure("no_case", words, hint, about="add_slice"))
            return

        def refused(why: Failure) -> None:
            if why.code == Code.NOT_READY and self._jobs.current is None:
                self._jobs.start(JobKind.PLAN, {}, planned, self.failed.emit)
            else:
                self.failed.emit(why)

        def planned(job: JobProgress) -> None:
            if job.state == JobState.DONE and not self._closed:
                self._add(case, place[1], place[2], self.failed.emit)

        self._add(case, place[1], place[2], refused)

    def _shown(self) -> tuple[Any, int, int] | None:
        """Which slice of which volume node the view shows; None for none."""
        view = self._view()
        try:
            return None if view is None else view.place()
        except ValueError:  # under a transform that is not linear there are no slices
            return None

    def hand_in(self, places: list[Place]) -> None:
        """Put slices into the worklist that were painted without being asked for, and hand them
        in.
        """
        others = self._session.other_slices
        painted = {case: others.all_of(case) for case, _axis, _index in places}
        known = {item.sample for item in self._session.worklist}  # what is painted there is a draft

        def listed(rows: list[WorkRow], whole: np.ndarray) -> None:
            for row in [row for row in rows if row.sample not in known]:
                item = Slice.of_row(row, self._author)
                (others.keep_paint if self._closed else others.hand_in)(item, whole)
            self.added.emit()

        def refused(why: Failure, place: Place) -> None:
            others.further[place] = None  # it is asked about again
            self.failed.emit(why)

        for place in places:
            then = partial(listed, whole=painted[place[0]])
            self._ask_for(*place, then, partial(refused, place=place))

    def close(self) -> None:
        """Add nothing more."""
        self._closed = True

    def _add(self, case: str, axis: int, index: int, failed: Failed) -> None:
        def added(rows: list[WorkRow]) -> None:
            if not self._closed:
                self._session.refresh(lambda: self._session.go_to(rows[0].sample))
                self.added.emit()

        self._ask_for(case, axis, index, added, failed)

    def _ask_for(
        self,
        case: str,
        axis: int,
        index: int,
        added: Callable[[list[WorkRow]], None],
        failed: Failed,
    ) -> None:
        self._agent.ask(
            "add_slice",
            added,
            failed,
            project=self._project,
            case=case,
            axis=axis,
            slice=index,
            author=self._author,
        )
