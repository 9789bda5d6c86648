"""What Slicer's module classes do: the description, a panel in its window, the scene, the tests."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import slicer

from ALUNetSlicerLib.mrml.canvas import CANVAS
from ALUNetSlicerLib.ports import qt_ports
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.segment_editor import SegmentEditor
from ALUNetSlicerLib.shell import sample_data
from ALUNetSlicerLib.shell.console import Console
from ALUNetSlicerLib.shell.scene_state import SceneState

__all__ = ["Console", "Shell", "close", "describe_module", "forget", "run_tests"]
_TESTS = Path(__file__).resolve().parents[2] / "Testing" / "Python"


def describe_module(parent: Any) -> None:
    """Fill in what Slicer's menus and its help say."""
    parent.title = "ALUNet"
    parent.categories = ["Active Learning"]
    parent.dependencies = ["Segmentations", "SegmentEditor", "Terminologies"]
    parent.contributors = ["ALUNetSlicer contributors"]
    parent.helpText = _(
        "Label medical images with the help of a model that asks for the slices it learns most "
        "from. "
        "Connect the engine, make a project of the loaded volumes, annotate the suggested slices "
        "with the Segment "
        "Editor below, and click <i>Next round</i>: the model is trained and suggests the next "
        "slices."
    )
    parent.acknowledgementText = _(
        "Slices are chosen by uncertainty-aware submodular mutual information (USIM; Föllmer et "
        "al., MIDL 2024); the "
        "model is nnU-Net (Isensee et al., Nature Methods 2021)."
    )
    icon = str(Path(__file__).resolve().parents[2] / "Resources" / "Icons" / "ALUNetSlicer.png")
    slicer.app.connect("startupCompleted()", lambda: sample_data.register(icon))


class PanelLike(Protocol):
    """What the shell asks of the panel that it is given."""

    @property
    def keys(self) -> dict[str, Callable[[], None]]:
        """Key -> action."""

    def enter(self) -> None:
        """The module was opened."""

    def leave(self) -> None:
        """Another module is opened."""

    def close(self) -> None:
        """The module is unloaded."""

    def volumes_changed(self) -> None:
        """The scene has other volumes."""


PanelOf = Callable[..., PanelLike]
"""Makes a panel; called with what `ALUNetSlicerLib.panel.Panel` takes."""


class Shell:
    """The panel inside Slicer: it follows the window and the scene.

    Args:
        widget: the module's, with a logic.
        panel_of: makes the panel.
    """

    def __init__(self, widget: Any, panel_of: PanelOf) -> None:
        self._widget = widget
        self._form = slicer.util.loadUI(widget.resourcePath("UI/ALUNetSlicer.ui"))
        widget.layout.addWidget(self._form)
        ui = slicer.util.childWidgetVariables(self._form)
        # nothing to paint in
        parts = widget.logic.assemble(SegmentEditor(ui.editor, CANVAS))
        self._form.setMRMLScene(slicer.mrmlScene)
        self.ui, self._workspace = ui, parts.workspace
        self._activity, desktop = qt_ports.QtActivity(), qt_ports.QtDesktop()
        given = (ui, parts.workspace, parts.local, desktop, parts.timer, self._activity)
        self.panel = panel_of(*given)
        self._keys = qt_ports.Shortcuts()
        self._entered, self._closing, self._closed = False, False, False
        self._state, self._timer = self._make_state(), parts.timer
        self._stop_listing: Callable[[], None] = lambda: None
        self._workspace.opened.connect(self._opened)
        self._observe()

    def _observe(self) -> None:
        widget, scene = self._widget, slicer.mrmlScene
        for event, action in (
            (scene.StartCloseEvent, self._scene_closes),
            (scene.EndCloseEvent, self._scene_closed),
            (scene.EndImportEvent, self._scene_loaded),
            (scene.NodeAddedEvent, self._nodes_changed),
            (scene.NodeRemovedEvent, self._nodes_changed),
        ):
            widget.addObserver(scene, event, action)
        slicer.app.connect("aboutToQuit()", self.close)

    def enter(self) -> None:
        """The module is opened."""
        self._entered = True
        self.panel.enter()
        self._keys.install(self.panel.keys)

    def exit(self) -> None:
        """Another module is opened."""
        self._entered = False
        self._keys.remove()
        self.panel.leave()

    def close(self) -> None:
        """The module is unloaded, or Slicer ends; may come twice."""
        if self._closed:
            return
        self._closed = True
        self._stop_listing()
        slicer.app.disconnect("aboutToQuit()", self.close)
        self._keys.remove()
        self.panel.close()
        self._activity.close()
        self._workspace.opened.disconnect(self._opened)
        self._workspace.shutdown()
        self._widget.logic.end()
        qt_ports.wait_for_ending()

    # --- the scene --------------------------------------------------------------------------------

    def _make_state(self) -> SceneState:
        return SceneState(self._widget.logic.getParameterNode())

    def _opened(self) -> None:
        session = self._workspace.session
        if session is not None:
            session.shown.connect(self._shown)

    def _shown(self, item: Any) -> None:
        self._state.engine, self._state.project = (
            self._workspace.place.to,
            self._workspace.project.id,
        )
        self._state.sample = item.sample

    def _scene_closes(self, *_values: Any) -> None:
        self._closing = True
        if self._workspace.session is not None:
            self._workspace.session.scene_closing()

    def _scene_closed(self, *_values: Any) -> None:
        self._closing = False
        self._state = self._make_state()
        if self._entered:
            self.panel.enter()

    def _scene_loaded(self, *_values: Any) -> None:
        """Go on where the scene was saved, where that engine is at hand."""
        self._state = state = self._make_state()
        workspace = self._workspace
        known = workspace.place is not None and workspace.place.to == state.engine
        if state.project and state.sample >= 0 and known:
            sample = state.sample
            # called for the project that it was opened for, while that is open
            workspace.open(state.project, lambda: workspace.session.resume(sample))
        self._nodes_changed()

    def _nodes_changed(self, *_values: Any) -> None:
        """List the volumes again, once after many changes."""
        if not self._closing:
            self._stop_listing()
            self._stop_listing = self._timer.later(0.2, self.panel.volumes_changed)


def close(widget: Any) -> None:
    """The module's widget goes, perhaps before it was set up."""
    if widget.shell is not None:
        widget.shell.close()


def forget() -> None:
    """Let the package be imported anew, with what it shares with the engine."""
    for name in [
        name for name in sys.modules if name.split(".")[0] in ("ALUNetSlicerLib", "alunet")
    ]:
        del sys.modules[name]


def run_tests() -> None:
    """Run the tests of the Slicer side.

    Raises:
        AssertionError: one failed.
    """
    sys.path.insert(0, str(_TESTS))
    try:
        suite = unittest.defaultTestLoader.discover(str(_TESTS), "test_*.py")
        result = unittest.TextTestRunner(verbosity=2).run(suite)
    finally:
        sys.path.remove(str(_TESTS))
    if not result.wasSuccessful():
        raise AssertionError(
            f"{len(result.failures) + len(result.errors)} of {result.testsRun} tests failed."
        )
