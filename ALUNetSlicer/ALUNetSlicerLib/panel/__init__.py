"""The module's panel: one class for each of its sections, in the order of work."""

from __future__ import annotations

from typing import Any

from ALUNetSlicerLib.install.local_engine import LocalEngine
from ALUNetSlicerLib.panel.annotate import AnnotateSection
from ALUNetSlicerLib.panel.cases import CasesSection
from ALUNetSlicerLib.panel.engine import EngineSection
from ALUNetSlicerLib.panel.messages import MessageBar
from ALUNetSlicerLib.panel.project import ProjectSection
from ALUNetSlicerLib.panel.refused import RefusedPart
from ALUNetSlicerLib.panel.results import ResultsSection
from ALUNetSlicerLib.panel.rounds import RoundSection
from ALUNetSlicerLib.panel.structures import StructuresPart
from ALUNetSlicerLib.ports.protocols import Activity, Desktop, Timer
from ALUNetSlicerLib.shell.workspace import Workspace


class Panel:
    """Binds widgets to a workspace; it knows no file and no process.

    Args:
        ui: has each widget of the .ui file as an attribute.
        workspace: of the module.
        local: the engine on this computer.
        desktop: dialogs and cells.
        timer: of the main thread.
        activity: whether mouse and keys are used.
    """

    def __init__(
        self,
        ui: Any,
        workspace: Workspace,
        local: LocalEngine,
        desktop: Desktop,
        timer: Timer,
        activity: Activity,
    ) -> None:
        self._ui, self._workspace = ui, workspace
        self._unfolded: set[str] = set()
        self.messages = MessageBar(ui, workspace)
        self.engine = EngineSection(ui, workspace, local, desktop)
        self.project = ProjectSection(ui, workspace, desktop)
        self.structures = StructuresPart(ui, workspace, desktop)
        self.cases = CasesSection(ui, workspace, desktop)
        self.annotate = AnnotateSection(ui, workspace, desktop, timer, activity)
        self.refused = RefusedPart(ui, workspace, desktop)
        self.rounds = RoundSection(ui, workspace)
        self.results = ResultsSection(ui, workspace, desktop)
        workspace.refused.changed.connect(self._unfold)
        workspace.engine_changed.connect(self._unfold)
        workspace.opened.connect(self._opened)
        workspace.project_changed.connect(self._unfold)
        ui.strategyCombo.connect("currentIndexChanged(int)", lambda *_values: self._unfold())

    @property
    def keys(self) -> dict[str, Any]:
        """Key -> action, of the whole panel; none of them is one of Slicer's or of the Segment
        Editor's.
        """
        return self.annotate.keys

    def enter(self) -> None:
        """The module was opened."""
        self.engine.resume()
        self.project.fill_volumes()
        self.rounds.on_screen = True
        self.annotate.enter()

    def leave(self) -> None:
        """Another module is opened."""
        self.rounds.on_screen = False
        self.annotate.leave()
        self.results.close_plot()

    def volumes_changed(self) -> None:
        """The scene has other volumes."""
        self.project.fill_volumes()

    def close(self) -> None:
        """The module is unloaded."""
        workspace = self._workspace
        self.annotate.leave()
        workspace.refused.changed.disconnect(self._unfold)
        workspace.engine_changed.disconnect(self._unfold)
        workspace.opened.disconnect(self._opened)
        workspace.project_changed.disconnect(self._unfold)
        project = (self.project, self.structures, self.cases)
        annotate = (self.annotate, self.refused)
        for section in (self.messages, self.engine, *project, *annotate, self.rounds, self.results):
            section.close()

    def _opened(self) -> None:
        session = self._workspace.session
        if session is not None:
            session.changed.connect(self._unfold)
        self._unfold()

    def _unfold(self) -> None:
        """Sections open as they become useful, each once: what a person folds or opens
        afterwards stays so.
        """
        ui, workspace = self._ui, self._workspace
        worklist = () if workspace.session is None else workspace.session.worklist
        status = workspace.status
        if workspace.state == "online":
            self._once("online", ui.projectSection)
        if status.cases:
            self._once("cases", ui.roundSection, ui.engineSection)
            if ui.strategyCombo.currentData == "":  # somebody chooses slices: the button is there
                self._once("own", ui.annotateSection)
        if workspace.refused.entries:
            self._once("refused", ui.annotateSection)
        if len(worklist):
            self._once("worklist", ui.annotateSection, ui.projectSection)
        if status.rounds and status.rounds[0].finished:
            self._once("model", ui.resultsSection)

    def _once(self, when: str, opened: Any, folded: Any = None) -> None:
        if when not in self._unfolded:
            self._unfolded.add(when)
            opened.collapsed = False
            if folded is not None:
                folded.collapsed = True
