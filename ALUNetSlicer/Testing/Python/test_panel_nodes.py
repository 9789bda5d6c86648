"""The panel where somebody removes nodes, paints everywhere, works by script, and takes labels
home.
"""

from __future__ import annotations

import os
import unittest
import zipfile

import numpy as np
import slicer
from engines import real_images, slow
from panel_case import PanelCase

from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation
from ALUNetSlicerLib.mrml.terminology import hex_colors
from ALUNetSlicerLib.ports import qt_ports


def runs(process: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@slow
class PanelNodesTest(PanelCase):
    def begin(self) -> None:
        self.connect()
        self.create()
        self.add_phantoms()
        self.choose("strategyCombo", "spread")
        self.round(3)
        self.pick("worklistTable", 0)
        self.until(lambda: self.shown() >= 0)

    def paint(self) -> np.ndarray:
        session = self.workspace.session
        session.paint(self.truth())
        return session.labels()

    def test_nodes_go_paint_is_everywhere_and_labels_are_taken_home(self):
        self.begin()
        session, ui = self.workspace.session, self.ui
        item, painted = session.current, self.paint()
        self.assertTrue(ui.goOnButton.isHidden())
        for node in (
            lambda: session.case_nodes.segmentation(item.case).node,
            lambda: session.case_nodes.volume(item.case),
        ):
            slicer.mrmlScene.RemoveNode(node())
            self.assertRegex(ui.messageLabel.text, "was removed .* What you painted is kept")
            self.assertFalse(ui.doneButton.enabled)
            self.assertTrue(ui.editor.isHidden())
            self.assertIsNone(ui.editor.segmentationNode())
            self.click("goOnButton")
            self.until(lambda: self.shown() == item.sample)
            self.assertTrue(ui.goOnButton.isHidden())
            self.assertEqual(ui.messageLabel.text, "", "the slice is on screen again")
            np.testing.assert_array_equal(session.labels(), painted)
        self.another_volume(item)
        self.everywhere(item)
        self.taken_home(item, painted)

    def another_volume(self, item) -> None:
        """Slicer shows in all views what it loads: the panel says that it is not the slice."""
        manager, ui = slicer.app.layoutManager(), self.ui
        if manager is None:
            return
        layers = manager.sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
        other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "loaded")
        layers.SetBackgroundVolumeID(other.GetID())
        self.assertRegex(ui.messageLabel.text, f"shows “loaded”, but you paint in {item.case}")
        self.pick("worklistTable", 0)
        self.until(lambda: not ui.messageLabel.text)
        volume = self.workspace.session.case_nodes.volume(item.case)
        self.assertEqual(layers.GetBackgroundVolumeID(), volume.GetID())
        slicer.mrmlScene.RemoveNode(other)

    def everywhere(self, item) -> None:
        """Paint in four slices that nobody asked for is handed in, as somebody agrees."""
        session = self.workspace.session
        self.click("lockCheck")
        listed = {row.box.index for row in session.worklist if row.case == item.case}
        case = session.case_nodes.canvas.case
        free = [index for index in range(case.read_all().shape[0]) if index not in listed][:4]
        labels = case.read_all()
        labels[free, 5:15, 5:15] = 1
        case.write_all(labels)
        asked = len(self.answers.asked)
        self.click("doneButton")
        self.assertIn("further slices that you painted (4)", self.answers.asked[asked])
        own = [row for row in session.worklist if "chosen by" in row.reason]
        self.until(lambda: sum(row.sent for row in self.of_slices(item.case, free)) == 4)
        self.until(lambda: session.worklist.counts().unsent == 0)
        self.assertEqual(own, [])
        self.until(lambda: self.workspace.status.slices >= 5)
        self.click("lockCheck")
        self.click("doneButton")
        self.assertEqual(len(self.answers.asked), asked + 1, "they are in no list no more")

    def of_slices(self, case: str, numbers: list[int]) -> list:
        """The rows of some slices of a case."""
        rows = self.workspace.session.worklist
        return [row for row in rows if row.case == case and row.box.index in numbers]

    def taken_home(self, item, painted) -> None:
        """What is exported first says what its voxels mean, and loads as it was painted."""
        self.fold("resultsSection")
        self.assertEqual(self.ui.formatCombo.currentData, "seg.nrrd")
        target = self.folder / "labels.zip"
        self.answers.file_answer = str(target)
        self.until(lambda: self.ui.exportLabelsButton.enabled)
        self.click("exportLabelsButton")
        self.until(target.is_file, 120)
        zipfile.ZipFile(target).extractall(self.folder / "labels")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(self.folder / "labels" / f"{item.case}.seg.nrrd"))
        self.assertTrue(storage.ReadData(node))
        segments = node.GetSegmentation()
        project = self.workspace.project
        for name, color in hex_colors(project.labels, project.colors).items():
            segment = segments.GetSegment(segments.GetSegmentIdBySegmentName(name))
            shown = "#" + "".join(f"{round(255 * part):02x}" for part in segment.GetColor())
            self.assertEqual(shown, color)
        self.assertEqual(segments.GetNumberOfSegments(), 2)
        volume = self.workspace.session.case_nodes.volume(item.case)
        found = CaseSegmentation(node, volume, project.labels)
        np.testing.assert_array_equal(found.read(item.box), painted)


@slow
class ScriptsTest(PanelCase):
    def test_a_project_that_a_script_makes_is_in_the_panel(self):
        self.connect()
        self.create("First")
        before = self.workspace.project
        self.widget.logic.createProject("By script", ["organ"], preset="quick")
        self.until(lambda: self.workspace.project not in (None, before))
        self.until(lambda: self.ui.projectCombo.currentText == "By script")
        self.assertIn("By script", self.ui.projectSection.text)
        self.assertGreaterEqual(self.ui.projectCombo.findText("First"), 0)

    def test_the_end_of_slicer_ends_a_simulation(self):
        data = str(real_images("Task04_Hippocampus"))
        options = {"rounds": 9, "budget": 2, "initial": 4, "epochs": 1, "limit": 5}
        study = self.widget.logic.simulate(data, str(self.folder / "study"), ["random"], **options)
        process = study._process._process.processId()
        self.until(lambda: (self.folder / "study").is_dir())
        self.assertTrue(runs(process))
        self.widget.cleanup()
        self.assertFalse(study.running)
        qt_ports.wait_for_ending()
        self.until(lambda: not runs(process))


if __name__ == "__main__":
    unittest.main()
