"""A person's place of work: the agent, the engine that it reaches, the project that is open. It knows no widget."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ALUNetSlicerLib.annotate.person import Person
from ALUNetSlicerLib.annotate.session import Session
from ALUNetSlicerLib.engine.agent_process import Agent
from ALUNetSlicerLib.engine.case_upload import CaseUpload
from ALUNetSlicerLib.engine.failure import Done, Failed, Failure
from ALUNetSlicerLib.engine.jobs import Job, Jobs
from ALUNetSlicerLib.engine.place import EnginePlace
from ALUNetSlicerLib.engine.results import Results
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Editor, Settings, Timer
from ALUNetSlicerLib.ports.signal import Signal

RECENT = 8
"""So many projects are remembered."""
_DEVICES = 15.0
"""Seconds that an engine takes at most to find its devices."""
_SOON = 1.0
"""Seconds until the project is asked about again after a slice arrived; many may arrive at once."""


class Workspace:
    """What stays while somebody goes from project to project.

    Args:
        agent, timer: of the main thread.
        settings: of the person.
        folder: of this computer's drafts and of files on their way.
        view, editor: see `Session`.

    Attributes:
        place: the engine's; None before one is chosen.
        state: "none", "starting", "online" or "offline".
        health: what the engine said of itself last; empty at first.
        strategies: ways to choose slices that the engine offers, the usual ones first; empty while that is not known.
        why: why it is offline, for people.
        session, jobs, results, case_upload: of the open project, else None.
        project: what the engine says of it, with its "status"; None where none is open.
        engine_changed, project_changed: emit nothing.
        opened: emits nothing, after another project was opened or the open one closed.
        failed: emits a `Failure` for a person.
    """

    def __init__(
        self, agent: Agent, timer: Timer, settings: Settings, folder: Path, view: Callable[[], SliceView | None],
        editor: Editor,
    ) -> None:  # fmt: skip
        self.place: EnginePlace | None = None
        self.state, self.why = "none", ""
        self.health: dict[str, Any] = {}
        self.strategies: list[dict[str, Any]] = []
        self.session: Session | None = None
        self.jobs: Jobs | None = None
        self.results: Results | None = None
        self.case_upload: CaseUpload | None = None
        self.project: dict[str, Any] | None = None
        self.engine_changed, self.project_changed, self.opened, self.failed = Signal(), Signal(), Signal(), Signal()
        self.agent, self.settings = agent, settings
        self._timer, self._folder, self._view, self._editor = timer, folder, view, editor
        self._stop_asking: Callable[[], None] = lambda: None
        folder.mkdir(parents=True, exist_ok=True)
        agent.event.connect(self._hear)

    @property
    def author(self) -> str:
        """Who works here: the name that was given, else the one that the person is logged in by."""
        return self.settings.get("author") or _login()

    # --- the engine -------------------------------------------------------------------------------------------

    def choose(self, place: EnginePlace) -> None:
        """Belong to an engine; it is started or reached meanwhile."""
        if self.project is not None:
            self.close()
        self.place, self.state, self.why, self.health = place, "starting", "", {}
        self.agent.start()
        self.agent.ask("choose", failed=self._unreachable, **place.args())
        self.engine_changed.emit()

    def test(self, place: EnginePlace, done: Done, failed: Failed) -> None:
        """Test the way to an engine; `done` gets its steps: name, ok, text and hint of each."""
        self.agent.start()
        self.agent.ask("test", done, failed, **place.args())

    def _unreachable(self, why: Failure) -> None:
        self.state, self.why = "offline", str(why)
        self.engine_changed.emit()

    # --- projects ---------------------------------------------------------------------------------------------

    def projects(self, done: Done) -> None:
        """The projects on the engine: id, name, labels and channels of each."""
        self.agent.ask("projects", done, self.failed.emit)

    def create(
        self, name: str, labels: list[str], channels: list[str], done: Callable[[], None], **recipe: Any
    ) -> None:  # fmt: skip
        """Make a project and open it.

        Args:
            recipe: see `ProjectRequest` of the engine.
        """

        def made(row: dict[str, Any]) -> None:
            self.open(row["id"], done)

        self.agent.ask(
            "create_project", made, self.failed.emit, name=name, labels=labels, channels=channels, **recipe
        )

    def open(self, project: str, done: Callable[[], None] = lambda: None) -> None:
        """Open a project of the engine; what runs there is found again."""

        def take(row: dict[str, Any]) -> None:
            self.close()
            self.project = row
            self._set_up(row)
            self._remember(row)
            self.opened.emit()
            self.session.refresh(done)

        self.agent.ask("project", take, self.failed.emit, project=project)

    def _set_up(self, row: dict[str, Any]) -> None:
        name, person = row["id"], Person(self.author, self._folder)
        self.agent.ask("follow", project=name, after=row["event"])
        self.session = Session(
            self.agent, self._timer, person, self.place.to, name, row["labels"], self._view, self._editor
        )
        self.jobs, self.case_upload = Jobs(self.agent, name), CaseUpload(self.agent, name, self._folder)
        self.results = Results(self.agent, self.jobs, name, row["labels"])
        self.session.failed.connect(self.failed.emit)
        self.session.overlay.missing.connect(self._compute_overlay)
        self.jobs.ended.connect(self._job_ended)
        self.jobs.refresh(self.failed.emit)

    def close(self) -> None:
        """Close the open project; what runs on the engine runs on."""
        if self.project is None:
            return
        self.session.close()
        self.jobs.close()
        self.agent.ask("unfollow", project=self.project["id"])
        self.session = self.jobs = self.results = self.case_upload = self.project = None
        self.opened.emit()

    def refresh(self, done: Callable[[], None] = lambda: None) -> None:
        """Ask how the open project stands."""
        if self.project is None:
            return
        name = self.project["id"]

        def take(row: dict[str, Any]) -> None:
            if self.project is not None and self.project["id"] == name:
                self.project = row
                self.project_changed.emit()
                done()

        self.agent.ask("project", take, self.failed.emit, project=name)

    def recent(self) -> list[dict[str, Any]]:
        """Projects that were opened on this computer, the last first: "to", "id", "name" and what is kept of each."""
        try:
            rows = json.loads(self.settings.get("recent", "[]"))
        except ValueError:
            return []
        return [row for row in rows if isinstance(row, dict) and {"to", "id", "name"} <= set(row)]

    def _remember(self, row: dict[str, Any]) -> None:
        place = (self.place.to, row["id"])
        known = {(other["to"], other["id"]): other for other in self.recent()}
        this = {**known.pop(place, {}), "to": self.place.to, "id": row["id"], "name": row["name"]}
        self.settings.set("recent", json.dumps([this, *known.values()][:RECENT]))

    def kept(self, name: str, otherwise: float) -> float:
        """What was kept of the open project on this computer."""
        value = self._row().get(name)
        return value if isinstance(value, (int, float)) else otherwise

    def keep(self, name: str, value: float) -> None:
        """Keep a number of the open project for the next time that it is opened on this computer."""
        row = self._row()
        if row:
            rows = [{**known, name: value} if known == row else known for known in self.recent()]
            self.settings.set("recent", json.dumps(rows))

    def _row(self) -> dict[str, Any]:
        """What is remembered of the open project."""
        place = None if self.project is None else (self.place.to, self.project["id"])
        return next((known for known in self.recent() if (known["to"], known["id"]) == place), {})

    def add_volumes(
        self, groups: list[tuple[str, list[Any]]], arrived: Callable[[str], None], done: Callable[[], None],
        failed: Failed,
    ) -> None:  # fmt: skip
        """Make cases of volume nodes or image files, see `CaseUpload.send`; the nodes become those of the cases."""
        images = dict(groups)

        def adopt(name: str) -> None:
            if self.session is not None and not isinstance(images[name][0], Path):
                self.session.case_nodes.adopt(name, images[name][0])
            arrived(name)

        self.case_upload.send(groups, adopt, lambda: self.refresh(done), failed)

    def add_slice_shown(self) -> None:
        """Put the slice of the view into the worklist; a project that is not planned yet is planned first."""
        view = self._view()
        place = None if view is None else view.place()
        case = "" if place is None else self.session.case_nodes.case_of(place[0])
        if not case:
            hint = "Show a volume that you added there, then try again."
            self.failed.emit(Failure("no_case", "The Red view shows no case of this project.", hint))
            return

        def refused(why: Failure) -> None:
            if why.code == "not_ready" and self.jobs.current is None:
                self.jobs.start("plan", {}, planned, self.failed.emit)
            else:
                self.failed.emit(why)

        def planned(job: Job) -> None:
            if job.state == "done" and self.session is not None:
                self._add_slice(case, place[1], place[2], self.failed.emit)

        self._add_slice(case, place[1], place[2], refused)

    def _add_slice(self, case: str, axis: int, index: int, failed: Failed) -> None:
        def added(rows: list[dict[str, Any]]) -> None:
            self.session.refresh(lambda: self.session.go_to(rows[0]["sample"]))
            self.refresh()

        self.agent.ask(
            "add_slice", added, failed, project=self.project["id"], case=case, axis=axis, slice=index,
            author=self.author,
        )  # fmt: skip

    # --- what must be done before what ------------------------------------------------------------------------

    def missing(self) -> str:
        """What must be done before a round can be started; empty where one can."""
        if self.state != "online":
            return _("The engine is not connected.")
        if self.project is None:
            return _("No project is open.")
        status = self.project["status"]
        if not status.get("cases"):
            return _("The project has no cases: add volumes.")
        if self.jobs.current is not None:
            return _("Something is running already.")
        if status.get("rounds") and not (status.get("labelled") or self.session.worklist.counts()["done"]):
            return _("No slice is annotated yet.")
        return ""

    def shutdown(self) -> None:
        """Slicer ends, or the module is unloaded: drafts are kept, the agent ends, what runs on the engine runs on."""
        self.close()
        self._stop_asking()
        self.agent.event.disconnect(self._hear)
        self.agent.close()

    def _compute_overlay(self) -> None:
        """The uncertainty of this model has not been computed: do that once, then show it."""
        if self.jobs.current is None and self.session.current is not None:
            cases = {"cases": [self.session.current.case]}
            self.jobs.start("uncertainty", cases, lambda job: self._overlay_ready(job.state), self.failed.emit)

    def _overlay_ready(self, state: str) -> None:
        if state == "done" and self.session is not None:
            self.session.overlay.show(self.session.current)

    def _job_ended(self, job: Job) -> None:
        if job.error is not None:
            self.failed.emit(job.error)
        if self.session is not None and job.kind in ("plan", "round"):
            self.session.refresh()
        elif self.session is not None and job.kind == "predict":
            self.session.new_proposals()
        self.refresh()

    def _ask_health(self) -> None:
        """The engine has found its devices by now."""

        def take(health: dict[str, Any]) -> None:
            self.health = health
            self.engine_changed.emit()

        if self.state == "online":
            self.agent.ask("health", take)

    def _take_strategies(self, rows: list[dict[str, Any]]) -> None:
        self.strategies = [row for row in rows if not row["simulation"]]
        self.engine_changed.emit()

    def _hear(self, event: dict[str, Any]) -> None:
        if event["event"] == "connection":
            self.state = event["state"]
            self.health = event.get("health") or self.health
            self.why = str(Failure(**event["error"])) if event.get("error") else ""
            self.engine_changed.emit()
            if self.state == "online":
                self.agent.ask("strategies", self._take_strategies)
            if self.health.get("device") == "unknown":
                self._timer.later(_DEVICES, self._ask_health)
        elif event["event"] == "outbox" and event["state"] == "sent":
            self._stop_asking()
            self._stop_asking = self._timer.later(_SOON, self.refresh)  # how much is labelled, in how many minutes


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a Python of each age has its own where the system knows no name
        return "annotator"
