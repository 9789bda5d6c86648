"""Structures that a person adds, renames, colors and removes in the panel, with a slice open."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from panel_case import PanelCase
from session_case import made_by

_POOL = """
import sys
from pathlib import Path
import numpy as np
import SimpleITK as sitk
from planned_project import plan, suggest
from alunet.loop.setup import Setup, create

root = Path(sys.argv[1])
labels = {"background": 0, "organ": 1, "lesion": 2}
with create(root / "p", name="p", labels=labels, channels=["CT"], setup=Setup()) as made:
    for name in ("a", "b"):
        voxels = np.random.default_rng(0).integers(0, 500, (5, 20, 24), np.int16)
        image = sitk.GetImageFromArray(voxels)
        sitk.WriteImage(image, str(root / f"{name}.nii.gz"))
        made.cases.import_case(name, [root / f"{name}.nii.gz"])
    suggest(plan(made), range(10), reasons=[f"reason {n}" for n in range(10)])
"""


class StructuresTest(PanelCase):
    def setUp(self) -> None:
        super().setUp()
        shutil.copytree(Path(made_by(_POOL).name) / "p", self.folder / "root" / "p")
        self.connect()
        self.until(lambda: self.ui.projectCombo.count)
        self.click("openButton")
        self.until(lambda: self.workspace.session and len(self.workspace.session.worklist))
        self.session = self.workspace.session
        self.session.go_to(0)
        self.until(lambda: self.shown() == 0)
        self.fold("projectSection")
        self.click("structuresButton")

    def segments(self) -> list[str]:
        found = self.session.case_nodes.segmentation("a").node.GetSegmentation()
        ids = [found.GetNthSegmentID(n) for n in range(found.GetNumberOfSegments())]
        return [found.GetSegment(i).GetName() for i in ids if i.startswith("ALUNet_")]

    def test_the_open_slice_goes_on_through_every_change(self):
        ui, session = self.ui, self.session
        painted = np.zeros(session.current.box.shape, np.uint8)
        painted[..., 2:8, 3:9], painted[..., 10:14, 3:9] = 1, 2
        session.paint(painted)
        self.assertIn("name first", ui.addStructureButton.toolTip)
        self.type("structureNameEdit", "vessel")
        self.click("addStructureButton")
        self.until(lambda: self.segments() == ["organ", "lesion", "vessel"])
        self.until(lambda: "number 3" in ui.structureNotesLabel.text)
        np.testing.assert_array_equal(session.labels(), painted)
        self.choose("structureCombo", 1)
        self.type("structureNameEdit", "liver")
        self.click("renameStructureButton")
        self.until(lambda: self.segments() == ["liver", "lesion", "vessel"])
        self.answers.color_answer = "#102030"
        self.choose("structureCombo", 3)
        self.click("colorStructureButton")
        self.until(lambda: self.workspace.project.colors == {"vessel": "#102030"})
        segments = session.case_nodes.segmentation("a").node.GetSegmentation()
        shown = segments.GetSegment("ALUNet_3").GetColor()
        np.testing.assert_allclose(shown, [16 / 255, 32 / 255, 48 / 255], atol=1e-6)
        self.removed(painted)

    def removed(self, painted: np.ndarray) -> None:
        """What is painted and not handed in follows, too."""
        session = self.session
        self.hand_in(painted)
        session.go_to(1)
        self.until(lambda: self.shown() == 1)
        session.paint(painted)
        self.choose("structureCombo", 2)
        self.answers.choice_answer = "liver"
        self.click("removeStructureButton")
        self.until(lambda: self.segments() == ["liver", "vessel"])
        self.assertIn("lesion", self.answers.asked[-2])
        self.assertIn("liver", self.answers.choices)
        merged = np.where(painted == 2, 1, painted)
        np.testing.assert_array_equal(session.labels(), merged)
        session.go_to(0)
        self.until(lambda: self.shown() == 0)
        np.testing.assert_array_equal(session.labels(), merged)
        self.hand_in(merged)
        self.assertEqual(self.ui.messageLabel.text, "")

    def hand_in(self, labels: np.ndarray) -> None:
        self.session.paint(labels)
        sample = self.shown()
        self.session.submit(lambda: None)
        self.until(lambda: self.session.worklist.find(sample).status == "done")
        self.until(lambda: self.session.worklist.counts().unsent == 0)

    def test_a_new_structure_asks_what_annotated_slices_say_of_it(self):
        painted = np.ones(self.session.current.box.shape, np.uint8)
        painted[..., 5:, :] = 0
        self.hand_in(painted)
        self.type("structureNameEdit", "vessel")
        self.answers.choice_answer = ""
        self.click("addStructureButton")
        self.until(lambda: self.answers.choices)
        self.assertEqual(len(self.answers.choices), 2)
        self.assertNotIn("vessel", self.workspace.project.labels)
        self.answers.choice_answer = self.answers.choices[0]  # look at them again
        self.click("addStructureButton")
        self.until(lambda: "vessel" in self.workspace.project.labels)
        self.until(lambda: self.session.worklist.find(0).status == "flagged")
        self.session.paint(painted)
        self.hand_in(painted)
        self.assertEqual(self.ui.messageLabel.text, "", "no conflict with the change")
