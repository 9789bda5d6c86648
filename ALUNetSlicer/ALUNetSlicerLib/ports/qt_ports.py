"""Slicer and Qt as the rest of this package needs them. The one file that imports `qt`: direct
calls, no decisions. The editor is in `segment_editor`.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import qt
import slicer

View = TypeVar("View")
SETTINGS = "ALUNet/"
VIEW = "Red"
"""The slice view that slices are shown in."""
BAR_COLOR = "#e08a2c"
"""Readable on Slicer's light and dark styles."""


def python() -> str:
    """Slicer's own interpreter, started without its launcher: what is put on PYTHONPATH stays in
    front.
    """
    real = [
        Path(slicer.app.slicerHome) / "bin" / name for name in ("python-real", "python-real.exe")
    ]
    return next((str(file) for file in real if file.is_file()), sys.executable)


def data_folder() -> str:
    """Folder of this person on this computer, the same for every version of Slicer."""
    return qt.QStandardPaths.writableLocation(qt.QStandardPaths.GenericDataLocation) + "/ALUNet"


def startup_environment() -> dict[str, str]:
    """Variables for a foreign program: without what Slicer's launcher added."""
    return slicer.util.startupEnvironment()


_ending: list[Any] = []
"""Processes that were closed and have not ended yet, and those that say in this moment that they
have.
"""


def _keep(process: Any) -> None:
    """Until its program has ended: a QProcess that is dropped kills it and holds the window
    meanwhile.
    """
    _ending.append(process)
    process.connect("finished(int,QProcess::ExitStatus)", lambda *_: _drop(process))


def _drop(process: Any) -> None:
    """Forget it when its signal has returned: one that is destroyed while it emits takes Slicer
    with it.
    """
    qt.QTimer.singleShot(0, lambda: _ending.remove(process))


def wait_for_ending(milliseconds: int = 3000) -> None:
    """Give closed processes a moment to end by themselves: Slicer ends."""
    for process in list(_ending):
        process.waitForFinished(milliseconds)


class QtProcess:
    """A program with pipes.

    Args:
        command: program and arguments.
        environment: all its variables.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = list(command), dict(environment)
        self._process: Any = None
        self._heard: Callable[[bytes], None] = lambda data: None
        self._ended: Callable[[str], None] = lambda words: None
        self._words = b""
        self.code: int | None = None

    def start(self, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        self._heard, self._ended, self._words = heard, ended, b""
        variables = qt.QProcessEnvironment()
        for name, value in self._environment.items():
            variables.insert(name, value)
        self._process = process = qt.QProcess()
        process.setProcessEnvironment(variables)
        for signal, action in self._slots():
            process.connect(signal, action)
        process.start(self._command[0], self._command[1:])

    def write(self, data: bytes) -> None:
        if self._process is not None:
            self._process.write(data)

    def close(self) -> None:
        process = self._let_go()
        if process is not None:
            _keep(process)
            process.closeWriteChannel()

    def kill(self) -> None:
        """End it at once, as a crash would; `ended` is called."""
        if self._process is not None:
            _keep(self._process)
            self._process.kill()

    def _let_go(self) -> Any:
        process, self._process = self._process, None
        for signal, action in self._slots() if process is not None else ():
            process.disconnect(signal, action)
        return process

    def _slots(self) -> tuple[tuple[str, Callable[..., None]], ...]:
        return (
            ("readyReadStandardOutput()", self._read),
            ("readyReadStandardError()", self._read_words),
            ("finished(int,QProcess::ExitStatus)", self._finish),
            ("errorOccurred(QProcess::ProcessError)", self._fail),
        )

    def _read(self) -> None:
        self._heard(self._process.readAllStandardOutput().data())

    def _read_words(self) -> None:
        self._words = (self._words + self._process.readAllStandardError().data())[-2000:]

    def _finish(self, code: int, *_: Any) -> None:
        self.code = code
        self._read()
        self._read_words()
        self._done()
        self._ended(self._words.decode("utf-8", "replace").strip()[-500:])

    def _fail(self, error: int) -> None:
        if error == qt.QProcess.FailedToStart:  # all others are followed by `finished`
            self._done()
            self._ended(f"{self._command[0]} cannot be started.")

    def _done(self) -> None:
        process = self._let_go()
        _ending.append(process)
        _drop(process)


class QtTimer:
    """Time of Slicer's event loop."""

    def __init__(self) -> None:
        self._timers: dict[int, Any] = {}
        self._numbers = itertools.count()

    def now(self) -> float:
        return time.monotonic()

    def later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        number, timer = next(self._numbers), qt.QTimer()
        self._timers[number] = timer  # one that nothing refers to never fires

        def act() -> None:
            # not while it emits
            qt.QTimer.singleShot(0, lambda: self._timers.pop(number, None))
            action()

        def stop() -> None:
            if number in self._timers:
                self._timers[number].stop()
                qt.QTimer.singleShot(0, lambda: self._timers.pop(number, None))

        timer.setSingleShot(True)
        timer.connect("timeout()", act)
        timer.start(round(1000 * seconds))
        return stop


class QtActivity:
    """Mouse and keys in Slicer: where the mouse is, and what the slice views hear."""

    _EVENTS = ("KeyPressEvent", "LeftButtonPressEvent", "RightButtonPressEvent", "MouseMoveEvent")
    _WHEEL = ("MouseWheelForwardEvent", "MouseWheelBackwardEvent")
    _FIRST = 100.0  # a view's own style, at 1, keeps what it uses from the others

    def __init__(self) -> None:
        self._count = 0
        self._heard: list[tuple[Any, int]] = []

    def mark(self) -> Any:
        if not self._heard:
            self._listen()
        place = qt.QCursor.pos()
        active = qt.QApplication.activeWindow() is not None
        return self._count, (place.x(), place.y()) if active else None

    def close(self) -> None:
        for interactor, tag in self._heard:
            interactor.RemoveObserver(tag)
        self._heard.clear()

    def _listen(self) -> None:
        manager = slicer.app.layoutManager()
        for name in manager.sliceViewNames() if manager is not None else ():
            interactor = manager.sliceWidget(name).sliceView().interactor()
            for event in (*self._EVENTS, *self._WHEEL):
                tag = interactor.AddObserver(event, self._hear, self._FIRST)
                self._heard.append((interactor, tag))

    def _hear(self, *_values: Any) -> None:
        self._count += 1


class QtSettings:
    """Slicer's settings of the person."""

    def get(self, name: str, otherwise: str = "") -> str:
        return str(qt.QSettings().value(SETTINGS + name, otherwise))

    def set(self, name: str, value: str) -> None:
        settings = qt.QSettings()
        settings.setValue(SETTINGS + name, value)
        settings.sync()


class RedView(Generic[View]):
    """Gives the Red slice view, None where there is no window.

    Args:
        view_of: makes a view of the slice logic and of a function that gives those of the other
            views.
    """

    def __init__(self, view_of: Callable[[Any, Callable[[], list[Any]]], View]) -> None:
        self._view_of = view_of
        self._view: View | None = None

    def __call__(self) -> View | None:
        manager = slicer.app.layoutManager()
        widget = manager.sliceWidget(VIEW) if manager is not None else None
        if self._view is None and widget is not None:
            self._view = self._view_of(widget.sliceLogic(), self._beside)
        return self._view

    @staticmethod
    def _beside() -> list[Any]:
        manager = slicer.app.layoutManager()
        return [
            manager.sliceWidget(name).sliceLogic()
            for name in manager.sliceViewNames()
            if name != VIEW
        ]


class QtDesktop:
    """Dialogs, cells and charts."""

    _layouts = (0, 0)
    """Before and with a chart."""

    def confirm(self, text: str) -> bool:
        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle="ALUNet"))

    def color(self, title: str, color: str) -> str:
        window = slicer.util.mainWindow()
        chosen = qt.QColorDialog.getColor(qt.QColor(color), window, title)
        return chosen.name() * chosen.isValid()

    def folder(self, title: str) -> str:
        return qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)

    def choose(self, text: str, rows: Sequence[str]) -> int:
        dialog, combo = qt.QDialog(slicer.util.mainWindow()), qt.QComboBox()
        dialog.setWindowTitle("ALUNet")
        buttons = qt.QDialogButtonBox()
        buttons.setStandardButtons(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        buttons.connect("accepted()", dialog.accept)
        buttons.connect("rejected()", dialog.reject)
        for row in rows:
            combo.addItem(row)
        layout = qt.QVBoxLayout(dialog)
        for widget in (qt.QLabel(text), combo, buttons):
            layout.addWidget(widget)
        return combo.currentIndex if dialog.exec_() else -1

    def open_file(self, title: str) -> str:
        return qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title)

    def save_file(self, title: str, name: str) -> str:
        return qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, name)

    def cell(self, text: str, tip: str = "") -> Any:
        item = qt.QTableWidgetItem(text)
        item.setToolTip(tip or text)
        return item

    def bar(self, text: str, tip: str = "") -> Any:
        """A cell whose text is a bar."""
        item = self.cell(text, tip)
        item.setForeground(qt.QBrush(qt.QColor(BAR_COLOR)))
        return item

    def tick(self, text: str, ticked: bool, tip: str = "", usable: bool = True) -> Any:
        item = qt.QListWidgetItem(text)
        item.setToolTip(tip or text)
        item.setFlags(
            qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable if usable else qt.Qt.NoItemFlags
        )
        item.setCheckState(qt.Qt.Checked if ticked and usable else qt.Qt.Unchecked)
        return item

    def ticked(self, item: Any) -> bool:
        return item.checkState() == qt.Qt.Checked

    def status(self, text: str) -> None:
        slicer.util.showStatusMessage(text, 4000)

    def chart(self, chart: Any) -> None:
        """Show a chart in a plot view."""
        manager = slicer.app.layoutManager()
        if manager is not None:
            before = manager.layout
            slicer.modules.plots.logic().ShowChartInLayout(chart)
            self._layouts = before, manager.layout

    def close_chart(self) -> None:
        manager, (before, during) = slicer.app.layoutManager(), self._layouts
        if manager is not None and manager.layout == during != before:
            manager.setLayout(before)


class Shortcuts:
    """Keys of the main window, while the module is open."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, Callable[[], None]]] = []

    def install(self, keys: Mapping[str, Callable[[], None]]) -> None:
        window = slicer.util.mainWindow()
        for key, action in keys.items() if window is not None else ():
            shortcut = qt.QShortcut(window)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.connect("activated()", action)
            self._made.append((shortcut, action))

    def remove(self) -> None:
        for shortcut, action in self._made:
            shortcut.disconnect("activated()", action)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._made.clear()
