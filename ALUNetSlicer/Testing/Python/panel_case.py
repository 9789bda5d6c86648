"""The panel in a window that nobody sees, and a person who clicks; the agent, the service and
nnU-Net are real.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import qt
import slicer
from engines import PYTHON, serve, stop
from scenes import SceneTest

from ALUNetSlicer import ALUNetSlicerWidget
from ALUNetSlicerLib.ports import qt_ports
from ALUNetSlicerLib.shell import sample_data


class Answers(qt_ports.QtDesktop):
    """Slicer's dialogs, answered by the test."""

    folder_answer = file_answer = choice_answer = color_answer = ""
    agrees = True
    row_answer = -1

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.choices: list[str] = []
        self.folder_answers: list[str] = []
        self.charts: list = []

    def confirm(self, text: str) -> bool:
        self.asked.append(text)
        return self.agrees

    def color(self, title: str, color: str) -> str:
        return self.color_answer

    def folder(self, title: str) -> str:
        return self.folder_answers.pop(0) if self.folder_answers else self.folder_answer

    def choose(self, text: str, rows) -> int:
        self.asked.append(" | ".join(rows))
        self.choices = list(rows)
        return self.choices.index(self.choice_answer) if self.choice_answer else self.row_answer

    def open_file(self, title: str) -> str:
        return self.file_answer

    def save_file(self, title: str, name: str) -> str:
        return self.file_answer

    def chart(self, chart) -> None:
        self.charts.append(chart)

    def close_chart(self) -> None:
        self.charts.append(None)


class PanelCase(SceneTest):
    """What a person does; `test_extension` holds that every control of the form is used in one
    of these ways.
    """

    device = "cpu"

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.answers = Answers()
        for name, value in (
            ("data_folder", lambda: str(self.folder / "mine")),
            ("QtDesktop", lambda: self.answers),
        ):
            patched = patch.object(qt_ports, name, value)
            patched.start()
            self.addCleanup(patched.stop)
        for name in ("where", "address", "token", "author", "recent", "structures"):
            qt_ports.QtSettings().set(name, "")
        qt_ports.QtSettings().set("python", PYTHON)
        self.serve()
        self.open()

    def serve(self) -> None:
        service, self.address, self.token = serve(self.folder / "root", device=self.device)
        self.addCleanup(stop, service)

    def open(self) -> None:
        """As Slicer does when the module is opened."""
        self.widget = ALUNetSlicerWidget()
        self.addCleanup(self.end, self.widget)
        if self.widget.shell is None:  # Slicer sets a widget up that has no parent
            self.widget.setup()
        self.widget.enter()
        self.ui, self.workspace = self.widget.shell.ui, self.widget.logic.workspace

    def end(self, widget) -> None:
        """As Slicer does when it ends; a Segment Editor that is left then takes Slicer with it."""
        widget.cleanup()
        widget.parent.deleteLater()
        slicer.app.processEvents()

    def job(self) -> tuple:
        """How far the jobs of the open project are."""
        jobs = self.workspace.jobs
        return () if jobs is None else (jobs.current, jobs.background)

    def until(self, condition, seconds: float = 60.0):
        """Wait for a condition; the time begins anew whenever a job is further."""
        end, before = time.monotonic() + seconds, self.job()
        while not (value := condition()):
            now = self.job()
            if now != before:
                end, before = time.monotonic() + seconds, now
            self.assertLess(
                time.monotonic(),
                end,
                f"waited in vain; the panel says: {self.ui.messageLabel.text!r}",
            )
            slicer.app.processEvents()
            time.sleep(0.005)
        return value

    def click(self, name: str) -> None:
        """Click a button that a person could click."""
        button = self.at_hand(name)
        button.click()

    def at_hand(self, name: str):
        """A control that a person can use."""
        control = getattr(self.ui, name)
        self.assertTrue(control.enabled, f"{name}: {control.toolTip}")
        self.assertFalse(control.isHidden(), f"{name} is hidden")
        return control

    def type(self, name: str, text: str) -> None:
        """Type into a line."""
        self.at_hand(name).text = text

    def turn(self, name: str, value: float) -> None:
        """Set a number."""
        self.at_hand(name).value = value

    def choose(self, name: str, value: str) -> None:
        """Choose a row of a list that unfolds, by what it stands for."""
        place = self.at_hand(name).findData(value)
        self.assertGreaterEqual(place, 0, f"{name} has no {value!r}")
        getattr(self.ui, name).setCurrentIndex(place)

    def pick(self, name: str, row: int) -> None:
        """Click a row of a table."""
        self.at_hand(name).cellClicked(row, 0)

    def tick(self, name: str, row: int, on: bool) -> None:
        """Tick a row of a list, or not."""
        self.at_hand(name).item(row).setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)

    def fold(self, name: str) -> None:
        """Open or close a section."""
        section = self.at_hand(name)
        section.collapsed = not section.collapsed

    def connect(self) -> None:
        self.click("remoteRadio")
        self.type("addressEdit", self.address)
        self.type("tokenEdit", self.token)
        self.click("connectButton")
        self.until(lambda: self.workspace.state == "online")

    def create(self, name: str = "Phantoms", channels: str = "CT", unit: str | None = None) -> None:
        before = self.workspace.project
        self.click("newButton")
        self.type("nameEdit", name)
        self.type("structuresEdit", "organ, lesion")
        self.type("channelsEdit", channels)
        self.choose("presetCombo", "quick")
        if unit is not None:
            self.choose("unitCombo", unit)
        self.click("createButton")
        self.until(lambda: self.workspace.project is not before)

    def add_phantoms(self) -> list:
        nodes = sample_data.load()
        self.until(lambda: self.ui.volumesList.count == sample_data.CASES)
        self.click("addVolumesButton")
        self.until(lambda: len(self.workspace.status.cases) == sample_data.CASES)
        return nodes

    def round(self, budget: int, seconds: float = 300) -> None:
        before = self.workspace.session.worklist.round
        self.turn("budgetSpin", budget)
        self.click("nextRoundButton")
        self.until(lambda: self.workspace.jobs.current is not None)
        self.assertTrue(self.ui.jobBox.isVisibleTo(self.ui.roundSection))
        self.until(
            lambda: self.workspace.session.worklist.round != before,
            seconds,
        )
        self.until(lambda: self.workspace.jobs.current is None)

    def shown(self) -> int:
        """The sample on screen."""
        session = self.workspace.session
        return -1 if session is None or session.current is None else session.current.sample

    def truth(self) -> np.ndarray:
        item = self.workspace.session.current
        number = int(item.case.rsplit("_", 1)[1]) - 1
        return sample_data.phantom(number)[1][item.box.slices]
