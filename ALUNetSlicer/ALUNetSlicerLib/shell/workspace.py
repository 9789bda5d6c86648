"""A person's place of work: the agent, the engine that it reaches, the project that is open. It
knows no widget.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from alunet.schema import (
    Health,
    JobKind,
    JobState,
    ProjectInfo,
    StrategyInfo,
    StructureChange,
)
from ALUNetSlicerLib.annotate.person import Person, login
from ALUNetSlicerLib.annotate.session import AnnotationSession
from ALUNetSlicerLib.engine.agent_process import NO_AGENT, WRONG_VERSION, AgentProcess
from ALUNetSlicerLib.engine.case_list import CaseList
from ALUNetSlicerLib.engine.case_upload import CaseUpload, UploadProgress
from ALUNetSlicerLib.engine.failure import Done, Failed, Failure
from ALUNetSlicerLib.engine.jobs import JobProgress, JobTracker
from ALUNetSlicerLib.engine.local_files import LocalFiles
from ALUNetSlicerLib.engine.messages import (
    ConnectionNews,
    JobNews,
    NewsKind,
    OutboxNews,
    ProjectNews,
    ProjectStatus,
    ProjectWithStatus,
)
from ALUNetSlicerLib.engine.place import EnginePlace
from ALUNetSlicerLib.engine.refused import OutboxRefusals
from ALUNetSlicerLib.engine.results import Results
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Editor, Timer, UserSettings
from ALUNetSlicerLib.ports.signal import Signal
from ALUNetSlicerLib.shell.leftovers import remove_leftovers
from ALUNetSlicerLib.shell.maps_on_demand import MapsOnDemand
from ALUNetSlicerLib.shell.notices import Notices
from ALUNetSlicerLib.shell.own_slices import OwnSlices
from ALUNetSlicerLib.shell.recent import RecentProjects

_DEVICES = 15.0
"""Seconds that an engine takes at most to find its devices."""
_CONNECTION = "connection"
"""What is tried where the engine is reached; see `Failure.about`."""
_SOON = 1.0
"""Seconds until the project is asked about again after a slice arrived; many may arrive at once."""


class Workspace:
    """What stays while somebody goes from project to project.

    Args:
        agent, timer: of the main thread.
        settings: of the person.
        folder: of this computer's drafts and of files on their way.
        view, editor: see `AnnotationSession`.
        local: gives the engine on this computer, see `LocalFiles`.

    Attributes:
        place: the engine's; None before one is chosen.
        state: "none", "starting", "online" or "offline".
        outdated: whether it is offline because of different versions of the contract.
        given_up: whether it is offline and nobody tries again but a person.
        health: what the engine said of itself last; None at first.
        strategies: ways to choose slices that the engine offers, the usual ones first; empty while
            that is not known.
        why: why it is offline, for people.
        session, jobs, results, case_upload, case_list, own_slices: of the open project, else
            None.
        project: what the engine says of it; None where none is open.
        recent: projects that were opened on this computer.
        local_files: lists the person's folders.
        refused: what was handed in and this engine did not take.
        notices: what a person must know now, and the log of it.
        engine_changed, project_changed: emit nothing.
        opened: emits nothing, after another project was opened or the open one closed.
        failed: emits a `Failure` for a person.
    """

    def __init__(
        self,
        agent: AgentProcess,
        timer: Timer,
        settings: UserSettings,
        folder: Path,
        view: Callable[[], SliceView | None],
        editor: Editor,
        local: Callable[[], EnginePlace],
    ) -> None:
        self.place: EnginePlace | None = None
        self.state, self.why, self.outdated, self.given_up = "none", "", False, False
        self.health: Health | None = None
        self.strategies: list[StrategyInfo] = []
        self.session: AnnotationSession | None = None
        self.jobs: JobTracker | None = None
        self.results: Results | None = None
        self.case_upload: CaseUpload | None = None
        self.case_list: CaseList | None = None
        self.own_slices: OwnSlices | None = None
        self.project: ProjectWithStatus | None = None
        self.recent = RecentProjects(settings)
        self.engine_changed, self.project_changed, self.opened, self.failed = (
            Signal(),
            Signal(),
            Signal(),
            Signal(),
        )
        self.agent, self.settings, self.local_files = agent, settings, LocalFiles(agent, local)
        self._timer, self._folder, self._view, self._editor = timer, folder, view, editor
        self._stop_asking: Callable[[], None] = lambda: None
        self._opening: object = None
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(OSError):  # drafts are patients' images
            folder.chmod(0o700)
        remove_leftovers(folder)
        agent.event.connect(self._hear)
        self.refused, self.notices = OutboxRefusals(agent), Notices()
        self.failed.connect(self.notices.add)
        agent.answered.connect(self.notices.settle)
        for part in (agent, self.refused):
            part.failed.connect(self.failed.emit)

    @property
    def status(self) -> ProjectStatus:
        """Status of the open project; an empty one where none is open."""
        return ProjectStatus() if self.project is None else self.project.status

    @property
    def author(self) -> str:
        """Who works here: the name that was given, else the one that the person is logged in by."""
        return self.settings.get("author") or login()

    # --- the engine -------------------------------------------------------------------------------

    def choose(self, place: EnginePlace) -> None:
        """Belong to an engine; it is started or reached meanwhile."""
        if self.project is not None:
            self.close()
        self.place, self.state, self.why, self.health = place, "starting", "", None
        self.outdated, self.given_up, self._opening = False, False, None
        self.agent.start()
        self.agent.ask("choose", failed=self._here(self._unreachable), **place.args())
        self.refused.refresh()
        self.engine_changed.emit()

    def test(self, place: EnginePlace, done: Done, failed: Failed) -> None:
        """Test the way to an engine; `done` gets its steps, a list of `ConnectionStep`."""
        self.agent.start()
        self.agent.ask("test", done, failed, **place.args())

    def _here(self, action: Callable[..., None]) -> Callable[..., None]:
        """An answer of the engine that is chosen now, and of no other."""
        place = self.place
        return lambda *given: action(*given) if self.place is place else None

    def _unreachable(self, why: Failure) -> None:
        self.state, self.why, self.outdated = "offline", str(why), why.code == WRONG_VERSION
        self.given_up = why.code == NO_AGENT
        self.failed.emit(replace(why, about=_CONNECTION))
        self.engine_changed.emit()

    # --- projects ---------------------------------------------------------------------------------

    def projects(self, done: Done) -> None:
        """The projects on the engine, a list of `ProjectWithStatus`."""
        self.agent.ask("projects", self._here(done), self._here(self.failed.emit))

    def create(
        self,
        name: str,
        labels: list[str],
        channels: list[str],
        done: Callable[[], None],
        **recipe: Any,
    ) -> None:
        """Make a project and open it.

        Args:
            recipe: see `ProjectRequest` of the engine.
        """

        def made(project: ProjectWithStatus) -> None:
            self.open(project.id, done)

        self.agent.ask(
            "create_project",
            self._here(made),
            self.failed.emit,
            name=name,
            labels=labels,
            channels=channels,
            **recipe,
        )

    def open(self, project: str, done: Callable[[], None] = lambda: None) -> None:
        """Open a project of the engine; what runs there is found again. Where the person opens or
        closes another one meanwhile, that counts.
        """
        opening = self._opening = object()

        def take(found: ProjectWithStatus) -> None:
            if self._opening is not opening:
                return
            self.close()
            self.project = found
            self.notices.put_away(but=(_CONNECTION, "outbox"))
            self._set_up(found)
            self.recent.opened(self.place.to, found.id, found.name)
            self.opened.emit()
            self.session.refresh(done)

        self.agent.ask("project", take, self.failed.emit, project=project)

    def _set_up(self, project: ProjectWithStatus) -> None:
        name, labels, person = project.id, project.labels, Person(self.author, self._folder)
        self.agent.ask("follow", project=name, after=project.event)
        self.session = AnnotationSession(
            self.agent, self._timer, person, self.place.to, name, labels, self._view, self._editor
        )
        self.jobs, self.case_upload = (
            JobTracker(self.agent, name),
            CaseUpload(self.agent, name, self._folder, self.local_files.args),
        )
        self.case_list = CaseList(self.agent, name, self.author)
        self.case_list.changed.connect(self.refresh)
        self.results = Results(self.agent, self.jobs, name, labels, self.local_files)
        self.results.colors = project.colors
        self.session.know_structures(*structures_of(project))
        self.own_slices = OwnSlices(
            self.agent, name, self.author, self.session, self.jobs, self._view
        )
        self.own_slices.added.connect(self.refresh)
        for part in (self.session, self.own_slices, self.case_list):
            part.failed.connect(self.failed.emit)
        self.session.shown.connect(lambda _item: self.agent.answered.emit("show"))
        self._maps = MapsOnDemand(self.session, self.jobs, self.failed.emit)
        self.jobs.ended.connect(self._job_ended)
        self.jobs.refresh(self.failed.emit)

    def close(self) -> None:
        """Close the open project; what runs on the engine runs on."""
        self._opening = None
        if self.project is None:
            return
        for part in (self.session, self.jobs, self.own_slices, self.case_list):
            part.close()
        self.agent.ask("unfollow", project=self.project.id)
        self.session = self.jobs = self.results = self.case_upload = self.own_slices = None
        self.case_list = None
        self.project = None
        self.opened.emit()

    def refresh(self, done: Callable[[], None] = lambda: None) -> None:
        """Ask for the open project's status; call `done` after the answer or the failure, if the
        project is still open.
        """
        if self.project is None:
            return
        session = self.session

        def take(found: ProjectWithStatus) -> None:
            if self.session is session:
                self._take_project(found)
                done()

        def failed(why: Failure) -> None:
            if self.session is session:
                self.failed.emit(why)
                done()

        self.agent.ask("project", take, failed, project=self.project.id)

    def _take_project(self, found: ProjectWithStatus) -> None:
        """Take over the project's status; ignore an answer that is older than the known one."""
        before = self.project
        if found.event < before.event:
            return
        self.project = found
        if structures_of(before) != structures_of(found):
            self._use_structures(found)
        self.project_changed.emit()

    def _use_structures(self, project: ProjectWithStatus) -> None:
        """Let the session know the structures of the project as they are now."""
        self.session.use_structures(*structures_of(project))
        self.results.labels, self.results.colors = project.labels, project.colors

    def change_structures(
        self, call: str, done: Callable[[StructureChange], None], failed: Failed, **given: Any
    ) -> None:
        """Change the structures of the open project for all who work on it.

        Args:
            call: "add_structure", "edit_structure" or "remove_structure".
            given: its arguments.
        """

        def changed(change: StructureChange) -> None:
            self.refresh(lambda: done(change))

        self.agent.ask(call, changed, failed, project=self.project.id, author=self.author, **given)

    def kept(self, name: str, otherwise: float) -> float:
        """What was kept of the open project on this computer."""
        found = None if self.project is None else self.recent.find(self.place.to, self.project.id)
        return otherwise if found is None else found.numbers.get(name, otherwise)

    def keep(self, name: str, value: float) -> None:
        """Keep a number of the open project for the next time that it is opened on this
        computer.
        """
        if self.project is not None:
            self.recent.keep(self.place.to, self.project.id, name, value)

    def add_volumes(
        self,
        groups: list[tuple[str, list[Any]]],
        arrived: Callable[[str], None],
        done: Callable[[], None],
        failed: Failed,
        told: Callable[[UploadProgress], None] = lambda news: None,
    ) -> None:
        """Make cases of volume nodes or image files, see `CaseUpload.send`; the nodes become
        those of the cases. Where another project was opened meanwhile, only failures are reported.
        """
        images, session = dict(groups), self.session

        def here(action: Callable[..., None]) -> Callable[..., None]:
            return lambda *given: action(*given) if self.session is session else None

        def adopt(name: str) -> None:
            if not isinstance(images[name][0], Path):
                session.case_nodes.adopt(name, images[name][0])
            arrived(name)

        def refused(why: Failure) -> None:
            (failed if self.session is session else self.failed.emit)(why)

        self.case_upload.send(
            groups, here(adopt), here(lambda: self.refresh(done)), refused, here(told)
        )

    # --- what must be done before what ------------------------------------------------------------

    def missing(self) -> str:
        """What must be done before a round can be started; empty where one can."""
        if self.state != "online":
            return _("The engine is not connected.")
        if self.project is None:
            return _("No project is open.")
        if not self.status.cases:
            return _("The project has no cases: add volumes.")
        if self.jobs.current is not None:
            return _("Something is running already.")
        if self.status.rounds and not (self.status.labelled or self.session.worklist.counts().done):
            return _("No slice is annotated yet.")
        return ""

    def shutdown(self) -> None:
        """Slicer ends, or the module is unloaded: drafts are kept, the agent ends, what runs on
        the engine runs on.
        """
        self.close()
        self._stop_asking()
        self.agent.event.disconnect(self._hear)
        self.agent.failed.disconnect(self.failed.emit)
        self.agent.answered.disconnect(self.notices.settle)
        self.refused.close()
        self.agent.close()

    def _job_ended(self, job: JobProgress) -> None:
        if job.error is not None:
            self.failed.emit(job.error)
        if self.session is not None and job.kind in (JobKind.PLAN, JobKind.ROUND):
            self.session.refresh()
        elif self.session is not None and job.kind == JobKind.PREDICT:
            self.session.new_proposals()
        self.refresh()

    def _ask_health(self) -> None:
        """The engine has found its devices by now."""

        def take(health: Health) -> None:
            self.health = health
            self.engine_changed.emit()

        if self.state == "online":
            self.agent.ask("health", self._here(take))

    def _take_strategies(self, rows: list[StrategyInfo]) -> None:
        self.strategies = [row for row in rows if not row.simulation]
        self.engine_changed.emit()

    def _hear(self, event: object) -> None:
        if isinstance(event, ProjectNews) and event.kind in (NewsKind.STRUCTURES, NewsKind.GAP):
            self.refresh()
        if isinstance(event, ConnectionNews):
            self._connected(event)
        elif (isinstance(event, OutboxNews) and event.stored is not None) or _brings_case(event):
            self._stop_asking()
            # how much is labelled, in how many minutes
            self._stop_asking = self._timer.later(_SOON, self.refresh)

    def _connected(self, news: ConnectionNews) -> None:
        self.state, self.health = news.state, news.health or self.health
        self.why = "" if news.error is None else str(news.error)
        self.outdated = news.error is not None and news.error.code == WRONG_VERSION
        self.given_up = False
        if news.error is not None:
            self.failed.emit(replace(news.error, about=_CONNECTION))
        self.engine_changed.emit()
        if self.state == "online":
            self.notices.settle(_CONNECTION)
            self.refused.refresh()
            self.agent.ask("strategies", self._here(self._take_strategies))
        if self.health is not None and self.health.device == "unknown":
            self._timer.later(_DEVICES, self._ask_health)


def structures_of(project: ProjectInfo) -> tuple[dict[str, int], dict[str, str], dict[str, int]]:
    """Numbers and own colors of a project's structures by name, and what became of removed ones."""
    return project.labels, project.colors, project.replaced


def _brings_case(event: object) -> bool:
    """Whether a case was imported, of any person."""
    news = event.content if isinstance(event, ProjectNews) else None
    kind = JobKind.IMPORT
    return isinstance(news, JobNews) and (news.kind, news.state) == (kind, JobState.DONE)
