"""The panel, clicked as a radiologist does, against a real agent, a real service and the real nnU-Net."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import slicer
from engines import PYTHON, serve, stop
from scenes import SceneTest

from ALUNetSlicer import ALUNetSlicerWidget
from ALUNetSlicerLib import qt_ports, sample_data


class Answers(qt_ports.Desktop):
    """Slicer's dialogs, answered by the test."""

    folder_answer = file_answer = ""
    agrees = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.charts: list = []

    def confirm(self, text: str) -> bool:
        self.asked.append(text)
        return self.agrees

    def folder(self, title: str) -> str:
        return self.folder_answer

    def open_file(self, title: str) -> str:
        return self.file_answer

    def save_file(self, title: str, name: str) -> str:
        return self.file_answer

    def chart(self, chart) -> None:
        self.charts.append(chart)


class PanelTest(SceneTest):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.answers = Answers()
        for name, value in (("data_folder", lambda: str(self.folder / "mine")), ("Desktop", lambda: self.answers)):
            patched = patch.object(qt_ports, name, value)
            patched.start()
            self.addCleanup(patched.stop)
        qt_ports.QtSettings().set("python", PYTHON)
        for name in ("where", "address", "token", "recent"):
            qt_ports.QtSettings().set(name, "")
        self.serve()
        self.open()

    def serve(self) -> None:
        service, self.address, self.token = serve(self.folder / "root")
        self.addCleanup(stop, service)

    def open(self) -> None:
        """As Slicer does when the module is opened."""
        self.widget = ALUNetSlicerWidget()
        self.addCleanup(self.widget.cleanup)
        self.widget.setup()
        self.widget.enter()
        self.ui, self.workspace = self.widget.shell.ui, self.widget.logic.workspace

    def until(self, condition, seconds: float = 60.0):
        end = time.monotonic() + seconds
        while not (value := condition()):
            self.assertLess(time.monotonic(), end, f"waited in vain; the panel says: {self.ui.messageLabel.text!r}")
            slicer.app.processEvents()
            time.sleep(0.005)
        return value

    def click(self, name: str) -> None:
        """Click a button that a person could click."""
        button = getattr(self.ui, name)
        self.assertTrue(button.enabled, f"{name}: {button.toolTip}")
        button.click()

    def connect(self) -> None:
        self.ui.remoteRadio.checked = True
        self.ui.addressEdit.text, self.ui.tokenEdit.text = self.address, self.token
        self.click("connectButton")
        self.until(lambda: self.workspace.state == "online")

    def create(self, name: str = "Phantoms") -> None:
        self.click("newButton")
        self.ui.nameEdit.text, self.ui.structuresEdit.text = name, "organ, lesion"
        self.ui.epochsSpin.value = 1
        self.click("createButton")
        self.until(lambda: self.workspace.project is not None)

    def add_phantoms(self) -> list:
        nodes = sample_data.load()
        self.until(lambda: self.ui.volumesList.count == sample_data.CASES)
        self.click("addVolumesButton")
        self.until(lambda: len(self.workspace.project["status"]["cases"]) == sample_data.CASES)
        return nodes

    def round(self, budget: int, seconds: float = 300) -> None:
        before = self.workspace.session.worklist.round
        self.ui.budgetSpin.value = budget
        self.click("nextRoundButton")
        self.until(lambda: self.workspace.jobs.current is not None)
        self.assertTrue(self.ui.jobBox.isVisibleTo(self.ui.roundSection))
        self.until(lambda: self.workspace.session.worklist.round != before, seconds)
        self.until(lambda: self.workspace.jobs.current is None)

    def shown(self) -> int:
        """The sample on screen."""
        session = self.workspace.session
        return -1 if session is None or session.current is None else session.current.sample

    def truth(self) -> np.ndarray:
        item = self.workspace.session.current
        number = int(item.case.rsplit("_", 1)[1]) - 1
        return sample_data.phantom(number)[1][item.box.slices]

    def test_from_volumes_to_the_second_round(self):
        ui = self.ui
        self.assertFalse(ui.createButton.enabled)
        self.assertIn("Connect the engine", ui.newButton.toolTip)
        ui.remoteRadio.checked = True
        self.assertIn("address", ui.connectButton.toolTip)
        ui.addressEdit.text, ui.tokenEdit.text = self.address, self.token
        self.click("testButton")
        self.until(lambda: "✓" in ui.testLabel.text)
        self.connect()
        self.assertIn(self.address, self.answers.asked[0])
        self.assertIn("Ready", ui.engineStateLabel.text)
        self.create()
        nodes = self.add_phantoms()
        self.assertIn("4 cases", ui.projectLabel.text)
        self.round(4)
        self.assertIn("0 of 4 done", ui.progressLabel.text)
        self.annotate_batch(nodes)
        self.round(3)
        self.results()

    def test_the_first_slice_is_one_that_somebody_chose(self):
        if slicer.app.layoutManager() is None:
            self.skipTest("Slicer without a window has no views")
        self.connect()
        self.create()
        self.click("addSliceButton")
        self.until(lambda: "no case" in self.ui.messageLabel.text)
        node = self.add_phantoms()[1]
        self.until(lambda: self.ui.strategyCombo.enabled)
        self.ui.strategyCombo.setCurrentIndex(2)
        self.assertIn("Add slice shown", self.ui.nextRoundButton.toolTip)
        logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(node.GetID())
        logic.GetSliceNode().SetOrientation("Axial")
        logic.GetSliceNode().SetSliceOffset(7 * sample_data.SPACING[2] + 0.4)
        self.click("addSliceButton")
        self.until(lambda: self.shown() >= 0, 120)
        item = self.workspace.session.current
        self.assertEqual((item.case, item.box.axis, item.box.index), ("Phantom_2", 0, 7))
        self.assertIn("chosen by", item.reason)
        self.comes_back()

    def comes_back(self) -> None:
        """After a restart of Slicer: the engine by itself, the slice and its half-done paint with the project."""
        session = self.workspace.session
        half = np.zeros(session.current.box.shape, np.uint8)
        half[..., 10:20, 5:30] = 2
        session.paint(half)
        sample = self.shown()
        self.widget.cleanup()
        slicer.mrmlScene.Clear(0)
        self.open()
        self.until(lambda: self.workspace.state == "online")
        self.assertEqual(len(self.answers.asked), 1, "what is sent where is asked once")
        self.until(lambda: self.ui.openButton.enabled)
        self.click("openButton")
        self.until(lambda: self.shown() == sample)
        np.testing.assert_array_equal(self.workspace.session.labels(), half)
        self.assertIn("begun", self.ui.worklistTable.item(0, 4).text())

    def annotate_batch(self, nodes: list) -> None:
        ui, session = self.ui, self.workspace.session
        self.assertIn("Click a slice", ui.doneButton.toolTip)
        ui.worklistTable.cellClicked(0, 0)
        self.until(lambda: self.shown() >= 0)
        item = session.current
        volume = session.desk.volume(item.case)
        self.assertIn(volume, nodes, "the volume of the scene is shown, not a copy")
        if slicer.app.layoutManager() is not None:  # Slicer without a window has no views
            logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
            offset = logic.GetSliceNode().GetSliceOffset()
            self.assertEqual(logic.GetSliceIndexFromOffset(offset, volume), item.box.index + 1)
        self.assertFalse(ui.overlayCheck.enabled)
        self.assertIn("no model yet", ui.overlayCheck.toolTip)
        first, truth = self.shown(), self.truth()
        session.paint(truth)
        self.click("emptyButton")
        self.assertEqual(session.labels().max(), 0)
        session.paint(truth)
        self.click("doneButton")
        self.until(lambda: self.shown() not in (-1, first))
        self.click("previousButton")
        self.until(lambda: self.shown() == first)
        np.testing.assert_array_equal(session.labels(), truth, "a finished slice is opened again")
        for action in ("doneButton", "nothingButton", "flagButton", "skipButton"):
            before = self.shown()
            self.click(action)
            self.until(lambda before=before: self.shown() != before)
        self.until(lambda: session.worklist.counts()["unsent"] == 0)
        statuses = [row.status for row in session.worklist][:4]
        self.assertEqual(statuses, ["done", "done", "flagged", "skipped"])
        self.assertIn("2 of 4 done", ui.progressLabel.text)
        ui.lockCheck.click()
        self.assertFalse(session.locked)
        ui.lockCheck.click()
        self.assertTrue(session.locked)
        ui.proposalsCheck.click()
        self.assertFalse(session.proposals)
        ui.proposalsCheck.click()

    def results(self) -> None:
        ui, session = self.ui, self.workspace.session
        self.until(lambda: ui.segmentButton.enabled)
        first = next(iter(session.worklist)).sample
        ui.worklistTable.cellClicked(0, 0)
        self.until(lambda: self.shown() == first)
        self.click("proposalButton")
        ui.overlayCheck.click()
        if slicer.app.layoutManager() is not None:
            self.until(lambda: slicer.util.getFirstNodeByName("ALUNet uncertainty") is not None, 120)
        self.until(lambda: ui.segmentButton.enabled)
        self.click("segmentButton")
        self.until(lambda: "in the scene" in ui.exportLabel.text, 120)
        self.answers.file_answer = str(self.folder / "labels.zip")
        self.until(lambda: ui.exportLabelsButton.enabled)
        self.click("exportLabelsButton")
        self.until(lambda: (self.folder / "labels.zip").is_file(), 120)
        self.answers.file_answer = str(self.folder / "model.zip")
        self.until(lambda: ui.exportModelButton.enabled)
        self.click("exportModelButton")
        self.until(lambda: (self.folder / "model.zip").is_file(), 120)
        self.assertIn("slices labelled", ui.resultsLabel.text)
        self.click("plotButton")
        self.assertEqual([chart.GetYAxisTitle() for chart in self.answers.charts], ["Dice on annotated slices"])
