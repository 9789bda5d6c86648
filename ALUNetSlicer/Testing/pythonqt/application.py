"""Slicer's application as far as a panel sees it, over PySide6 and the real core of Slicer."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from pythonqt import core, scripted, widgets
from pythonqt.proxy import Proxy, QtModule, plain, remember

_kept: list[Any] = []


def install() -> None:
    """Make `qt`, `ctk` and the rest of Slicer's application importable; once."""
    if "qt" in sys.modules:
        return
    core.start()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["slicer"])
    folder = tempfile.mkdtemp(prefix="alunet-settings-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, folder)
    application.setOrganizationName("alunet-test")
    _fonts()
    window = QtWidgets.QMainWindow()
    _kept.extend([application, window])
    sys.modules["qt"], sys.modules["ctk"] = QtModule("qt"), types.ModuleType("ctk")
    _application(application, Path(folder))
    _utilities(window)
    scripted.install()
    sys.excepthook = remember  # VTK gives it what an observer raises


def _fonts() -> None:
    """Without a screen Qt finds no fonts: matplotlib brings one."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    QtGui.QFontDatabase.addApplicationFont(str(fonts / "DejaVuSans.ttf"))
    QtGui.QFontDatabase.addApplicationFont(str(fonts / "DejaVuSans-Bold.ttf"))
    QtWidgets.QApplication.setFont(QtGui.QFont("DejaVu Sans", 9))


class _LayoutManager:
    """Gives slice views that have nodes and no window."""

    def __init__(self) -> None:
        self._views: dict[str, Any] = {}
        self._interactors: dict[str, Any] = {}

    def sliceWidget(self, name: str) -> Any:
        """As in Slicer the logic stays the same one, and has its node again after the scene was
        closed.
        """
        known = self._views.get(name)
        if known is None:
            self._views[name] = widgets.slice_view(name)
        elif known.GetSliceNode() is None or known.GetSliceNode().GetScene() is None:
            widgets.give_node(known, name)
        interactor = self._interactors.setdefault(name, vtk.vtkRenderWindowInteractor())
        view = SimpleNamespace(interactor=lambda: interactor)
        return SimpleNamespace(sliceLogic=lambda: self._views[name], sliceView=lambda: view)

    def sliceViewNames(self) -> tuple[str, ...]:
        return ("Red", "Green", "Yellow")


def _application(application: Any, folder: Path) -> None:
    logic = slicer.app.applicationLogic
    manager = _LayoutManager()
    slicer.app = SimpleNamespace(
        applicationLogic=logic,
        layoutManager=lambda: manager,
        processEvents=application.processEvents,
        startupEnvironment=lambda: Proxy(QtCore.QProcessEnvironment.systemEnvironment()),
        slicerHome=str(folder),
        testingEnabled=lambda: True,
        connect=lambda signal, action: True,
        disconnect=lambda signal, action: True,
    )


def _utilities(window: Any) -> None:
    util = slicer.util
    util.mainWindow = lambda verbose=True: Proxy(window)
    util.loadUI = lambda path: Proxy(widgets.load(path))
    util.childWidgetVariables = _children
    util.findChild = lambda widget, name: Proxy(plain(widget).findChild(QtWidgets.QWidget, name))
    util.showStatusMessage = lambda text, duration=0: False
    util.startupEnvironment = lambda: dict(os.environ)


def _children(widget: Any) -> Any:
    named = {
        child.objectName(): Proxy(child)
        for child in plain(widget).findChildren(QtWidgets.QWidget)
        if child.objectName()
    }
    return SimpleNamespace(**named)
