"""What the Python console can do, with the names that Slicer's own modules have.

logic = slicer.util.getModuleLogic("ALUNetSlicer")
logic.connect()                               # or logic.connect("ssh://me@gpu-box")
logic.wait(lambda: logic.online)
logic.openProject("Liver tumours")
logic.wait(lambda: logic.session is not None and len(logic.session.worklist))
logic.nextSlice()
logic.wait(lambda: logic.currentSlice is not None)
logic.setLabels(logic.labels() * 0 + 1)       # paint, here with numpy
logic.submit()                                # hand in, and go to the next
logic.nextRound(strategy="usimf", budget=20)

study = logic.simulate("/data/Task04_Hippocampus", "/tmp/study", ["usimf", "random"], rounds=3)
study.ended.connect(lambda why: print(why or "done"))   # the curves are plotted, too
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import slicer

from alunet.schema import Code, JobKind, Status
from ALUNetSlicerLib.annotate.session import AnnotationSession
from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.engine.case_upload import case_name
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.engine.messages import ProjectWithStatus
from ALUNetSlicerLib.engine.place import EnginePlace
from ALUNetSlicerLib.engine.simulation import Simulation
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Editor
from ALUNetSlicerLib.ports.segment_editor import NoEditor
from ALUNetSlicerLib.shell import assembly
from ALUNetSlicerLib.shell.workspace import Workspace


class Console:
    """Calls that return at once; `wait` turns Slicer's event loop until something is so."""

    def __init__(self) -> None:
        self._parts: assembly.Parts | None = None
        self._studies: list[Simulation] = []

    def assemble(self, editor: Editor) -> assembly.Parts:
        """Make the workspace, with the editor of the panel; once."""
        if self._parts is None:
            self._parts = assembly.assemble(editor)
            self._parts.workspace.failed.connect(lambda why: logging.error("ALUNet: %s", why))
            self._parts.workspace.agent.start()
        return self._parts

    @property
    def workspace(self) -> Workspace:
        """The place of work; made here where no panel made it."""
        return self.assemble(NoEditor()).workspace

    @property
    def session(self) -> AnnotationSession | None:
        """The work on the open project."""
        return self.workspace.session

    @property
    def online(self) -> bool:
        """Whether the engine answers."""
        return self.workspace.state == "online"

    def wait(self, condition: Callable[[], Any], seconds: float = 600.0) -> bool:
        """Turn the event loop until a condition holds; False where it does not in time."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            slicer.app.processEvents()
            time.sleep(0.005)
        return True

    def connect(self, to: str = "local", token: str = "") -> None:
        """Belong to an engine: "local", "ssh://me@host" or "https://host:port"."""
        workspace = self.workspace
        workspace.choose(self._parts.local.place() if to == "local" else EnginePlace(to, token))

    def createProject(
        self, name: str, structures: Sequence[str], channels: Sequence[str] = ("CT",), **recipe: Any
    ) -> None:
        """Make a project and open it.

        Args:
            recipe: preset, train_for (seconds a round), epochs, iterations, seed; unit: "slice"
                suggests whole slices, "tile" parts of large ones.
        """
        self.workspace.create(name, list(structures), list(channels), lambda: None, **recipe)

    def openProject(self, project: str) -> None:
        """Open a project by its name or its id."""
        workspace = self.workspace

        def take(projects: list[ProjectWithStatus]) -> None:
            found = [known.id for known in projects if project in (known.id, known.name)]
            if found:
                workspace.open(found[0])
            else:
                message = _("There is no project '{name}'.").format(name=project)
                names = ", ".join(known.name for known in projects) or _("none")
                hint = _("There are: {names}.").format(names=names)
                workspace.failed.emit(Failure(Code.NOT_FOUND.value, message, hint, about="project"))

        workspace.projects(take)

    def addVolumes(self, volumes: Sequence[Any], done: Callable[[], None] = lambda: None) -> None:
        """Make a case of each volume node."""
        taken, groups = list(self.workspace.status.cases), []
        for volume in volumes:
            groups.append((case_name(volume, taken), [volume]))
            taken.append(groups[-1][0])
        self.workspace.add_volumes(groups, lambda name: None, done, self.workspace.failed.emit)

    @property
    def currentSlice(self) -> Slice | None:
        """The slice on screen."""
        return None if self.session is None else self.session.current

    def nextSlice(self) -> None:
        """Show the next slice that is to be done."""
        self._need().next()

    def goTo(self, sample: int) -> None:
        """Show a slice of the worklist by its number."""
        self._need().go_to(sample)

    def labels(self) -> np.ndarray:
        """Labels of the slice on screen: its box, (k, j, i)."""
        return self._need().labels()

    def setLabels(self, labels: np.ndarray) -> None:
        """Paint the slice on screen."""
        self._need().paint(labels)

    def submit(self) -> None:
        """Hand the slice on screen in, and show the next."""
        self._need().submit()

    def skip(self) -> None:
        """Leave the slice on screen out."""
        self._need().set_status(Status.SKIPPED)

    def nextRound(
        self, strategy: str | None = None, budget: int | None = None, train_for: float | None = None
    ) -> None:
        """Train, and suggest the next slices; `logic.workspace.jobs.current` tells how far it is.

        Args:
            strategy, budget: without: as in the round before.
            train_for: seconds that the training may take; without: as the project has it.
        """
        self._need()
        given = {"strategy": strategy, "budget": budget, "train_for": train_for}
        options = {name: value for name, value in given.items() if value is not None}
        self.workspace.jobs.start(JobKind.ROUND, options, failed=self.workspace.failed.emit)

    def simulate(
        self, dataset: str, out: str, strategies: Sequence[str], **options: Any
    ) -> Simulation:
        """Play whole runs on a labelled data set in the background, and plot the curves at the end.

        Args:
            dataset: folder, in Decathlon or nnU-Net form.
            out: folder of the study.
            strategies: names, see ``alunet strategies``.
            options: of ``alunet simulate``: rounds, budget, initial, epochs, iterations, limit,
                seed, group, …
        """
        parts = self.assemble(NoEditor())
        study = assembly.simulate(parts, dataset, out, strategies, options)
        self._studies.append(study)
        return study

    def end(self) -> None:
        """Slicer ends: a simulation that runs ends, too; the same call goes on where it was."""
        for study in self._studies:
            study.cancel()

    def _need(self) -> AnnotationSession:
        if self.session is None:
            raise RuntimeError(
                "No project is open: call connect(), then openProject() or createProject()."
            )
        return self.session
