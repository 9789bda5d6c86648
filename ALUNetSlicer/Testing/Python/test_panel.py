"""The panel, clicked as a radiologist does, against a real agent, a real service and the real
nnU-Net.
"""

from __future__ import annotations

import zipfile

import numpy as np
import slicer
from engines import slow
from panel_case import PanelCase
from scenes import make_volume

from ALUNetSlicerLib.mrml.volume_file import write_volume
from ALUNetSlicerLib.shell import sample_data


@slow
class PanelTest(PanelCase):
    device = "auto"

    def test_from_volumes_to_the_second_round(self):
        ui = self.ui
        self.assertFalse(ui.createButton.enabled)
        self.assertIn("Connect the engine", ui.newButton.toolTip)
        self.click("remoteRadio")
        self.assertIn("address", ui.connectButton.toolTip)
        self.type("addressEdit", self.address)
        self.type("authorEdit", " ")
        self.assertIn("your name", ui.connectButton.toolTip)
        self.type("authorEdit", "Ada")
        self.type("tokenEdit", self.token)
        self.click("testButton")
        self.until(lambda: "✓" in ui.testLabel.text)
        self.connect()
        self.assertIn(f"{self.address} and kept there, with your name, Ada", self.answers.asked[0])
        self.assertIn("Ready", ui.engineStateLabel.text)
        self.create()
        nodes = self.add_phantoms()
        self.assertIn("4 cases", ui.projectLabel.text)
        self.add_test_case()
        self.assertEqual(ui.strategyCombo.currentData, "spread", "there is no model yet")
        self.round(4)
        self.assertIn("0 of 4 done", ui.progressLabel.text)
        self.assertTrue(ui.recentLabel.isHidden(), "no round has trained yet")
        self.annotate_batch(nodes)
        self.assertEqual(
            (ui.trainForSpin.value, ui.trainForSpin.text), (1.0, "1.0 min"), "a quick look"
        )
        self.turn("trainForSpin", 0.1)
        self.assertRegex(ui.forecastLabel.text, r"^About \d+ s: 6 training, ")
        self.assertEqual(ui.strategyCombo.currentData, "usimf", "the next batch is a model's")
        self.round(3)
        self.until(lambda: not ui.recentLabel.isHidden())
        self.assertRegex(ui.recentLabel.text, r"^Recent rounds: \d\.\d min$")
        self.results()

    def test_the_first_slice_is_one_that_somebody_chose(self):
        if slicer.app.layoutManager() is None:
            self.skipTest("Slicer without a window has no views")
        self.connect()
        self.create()
        node = self.add_phantoms()[1]
        self.assertTrue(self.ui.annotateSection.collapsed)
        self.choose("strategyCombo", "")
        self.assertIn("Add slice shown", self.ui.nextRoundButton.toolTip)
        self.assertFalse(self.ui.annotateSection.collapsed, "the button is there")
        self.click("addSliceButton")
        self.until(lambda: "no case" in self.ui.messageLabel.text)
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
        """After a restart of Slicer: the engine by itself, the slice and its half-done paint
        with the project.
        """
        session = self.workspace.session
        half = np.zeros(session.current.box.shape, np.uint8)
        half[..., 10:20, 5:30] = 2
        session.paint(half)
        sample = self.shown()
        self.until(lambda: not self.ui.trainForSpin.isHidden())
        self.turn("trainForSpin", 2.5)
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
        self.assertEqual(self.ui.trainForSpin.value, 2.5, "the time is remembered")

    def annotate_batch(self, nodes: list) -> None:
        ui, session = self.ui, self.workspace.session
        self.until(lambda: self.shown() >= 0)
        self.assertEqual(session.current.rank, 0, "the first slice is shown by itself")
        self.pick("worklistTable", 0)
        item = session.current
        volume = session.case_nodes.volume(item.case)
        self.assertIn(volume, nodes, "the volume of the scene is shown, not a copy")
        if slicer.app.layoutManager() is not None:  # Slicer without a window has no views
            logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
            offset = logic.GetSliceNode().GetSliceOffset()
            self.assertEqual(logic.GetSliceIndexFromOffset(offset, volume), item.box.index + 1)
        self.assertTrue(ui.worklistTable.isColumnHidden(3), "no model was unsure yet")
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
        self.goes_on(lambda: self.click("doneButton"))
        self.goes_on(lambda: self.click("nothingButton"))
        self.goes_on(lambda: self.click("flagButton"))
        self.goes_on(lambda: self.click("skipButton"))
        self.until(lambda: session.worklist.counts().unsent == 0)
        statuses = [row.status for row in session.worklist][:4]
        self.assertEqual(statuses, ["done", "done", "flagged", "skipped"])
        self.assertIn("2 of 4 done", ui.progressLabel.text)
        self.assertIn("Every slice of this batch is done", ui.missingLabel.text)
        self.click("lockCheck")
        self.assertFalse(session.locked)
        self.click("lockCheck")
        self.assertTrue(session.locked)
        self.click("proposalsCheck")
        self.assertFalse(session.loader.proposals)
        self.click("proposalsCheck")

    def goes_on(self, action) -> None:
        before = self.shown()
        action()
        self.until(lambda: self.shown() != before)

    def results(self) -> None:
        ui, session = self.ui, self.workspace.session
        self.until(lambda: ui.segmentButton.enabled)
        first = next(iter(session.worklist)).sample
        self.pick("worklistTable", 0)
        self.until(lambda: self.shown() == first)
        self.click("proposalButton")
        self.assertFalse(self.ui.worklistTable.isColumnHidden(3))
        self.click("overlayCheck")
        if slicer.app.layoutManager() is not None:
            self.until(lambda: self.workspace.jobs.background is not None)
            self.assertTrue(ui.segmentButton.enabled, "nobody waits for a look at the uncertainty")
            self.assertTrue(ui.nextRoundButton.enabled)
            self.until(
                lambda: slicer.util.getFirstNodeByName("ALUNet uncertainty") is not None, 120
            )
        self.until(lambda: ui.segmentButton.enabled)
        self.choose("caseCombo", "Phantom_2")
        self.click("segmentButton")
        self.until(lambda: "in the scene" in ui.exportLabel.text, 120)
        self.assertIsNotNone(slicer.util.getNode("Phantom_2 segmented"))
        for ending in ("nii.gz", "nrrd"):
            self.choose("formatCombo", ending)
            names = self.exported(ending, lambda: self.click("exportLabelsButton"))
            self.assertTrue(
                names and all(name.endswith((ending, ".json")) for name in names), names
            )
        self.exported("model", lambda: self.click("exportModelButton"))
        self.assertIn("slices labeled", ui.resultsLabel.text)
        self.click("plotButton")
        self.classes(self.answers.charts[0])

    def exported(self, name: str, action) -> list[str]:
        """The names in a zip file that an export writes."""
        target = self.folder / f"{name}.zip"
        self.answers.file_answer = str(target)
        self.until(lambda: self.ui.exportLabelsButton.enabled)
        action()
        self.until(target.is_file, 120)
        with zipfile.ZipFile(target) as packed:
            return packed.namelist()

    def classes(self, chart) -> None:
        """Dice of every structure on the case that nobody trains on."""
        self.assertEqual(chart.GetYAxisTitle(), "Dice on the test cases")
        names = {
            chart.GetNthPlotSeriesNode(n).GetName()
            for n in range(chart.GetNumberOfPlotSeriesNodes())
        }
        self.assertEqual(names, {"Dice, organ", "Dice, lesion", "Dice, mean"})
        self.assertRegex(self.ui.resultsLabel.text, r"Dice: organ \d\.\d\d, lesion \d\.\d\d, mean")

    def add_test_case(self) -> None:
        """A case with labels, as somebody at a terminal adds it."""
        image, truth = sample_data.phantom(7)
        files = [self.folder / "test.nrrd", self.folder / "test-label.nrrd"]
        for voxels, file in zip((image, truth), files, strict=True):
            node = make_volume(voxels, np.diag([*sample_data.SPACING, 1.0]))
            write_volume(node, file)
            slicer.mrmlScene.RemoveNode(node)
        added: list = []
        self.workspace.agent.ask(
            "add_case",
            added.append,
            lambda why: self.fail(str(why)),
            project=self.workspace.project.id,
            name="Test",
            images=[str(files[0])],
            label=str(files[1]),
            role="test",
        )
        self.until(lambda: added)
