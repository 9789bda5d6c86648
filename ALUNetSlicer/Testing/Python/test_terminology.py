"""Structures have the colour and the code that Slicer's terminology gives them, wherever it
knows their name.
"""

from __future__ import annotations

import itertools
import unittest

import slicer
from scenes import SceneTest, random_volume

from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation
from ALUNetSlicerLib.mrml.terminology import appearance_of

LIVER, KIDNEY, LEFT = "SCT^10200004^Liver", "SCT^64033007^Kidney", "SCT^7771000^Left"
"""Codes of SNOMED CT."""


class TerminologyTest(SceneTest):
    def test_a_structure_is_found_by_its_name(self):
        for name in ("Liver", "liver", " LIVER "):
            self.assertIn(LIVER, appearance_of(name, 1).entry)
        self.assertEqual(
            appearance_of("liver", 1).color, tuple(part / 255 for part in (221, 130, 101))
        )

    def test_a_side_is_found_before_and_behind_the_name(self):
        for name in ("left kidney", "Kidney_left", "kidney-LEFT"):
            self.assertIn(KIDNEY, appearance_of(name, 1).entry)
            self.assertIn(LEFT, appearance_of(name, 1).entry)
        self.assertIn(KIDNEY, appearance_of("kidney", 1).entry)
        self.assertNotIn(LEFT, appearance_of("kidney", 1).entry)

    def test_what_it_does_not_know_has_a_colour_of_its_own(self):
        looks = [appearance_of(f"structure of mine {value}", value) for value in range(1, 9)]
        self.assertEqual({known.entry for known in looks}, {""})
        for one, other in itertools.combinations(looks, 2):
            self.assertGreater(
                max(abs(a - b) for a, b in zip(one.color, other.color, strict=True)), 0.05
            )

    def test_a_case_has_segments_with_these_codes_and_keeps_what_a_person_changed(self):
        volume = random_volume(self.generator)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        labels = {"background": 0, "liver": 1, "left kidney": 2, "mine": 3}
        segmentation = CaseSegmentation(node, volume, labels)
        liver, kidney, mine = (
            node.GetSegmentation().GetSegment(name) for name in segmentation.segment_ids
        )
        self.assertIn(LIVER, liver.GetTerminology())
        self.assertIn(LEFT, kidney.GetTerminology())
        self.assertNotIn("SCT^10200004", mine.GetTerminology())
        self.assertEqual(mine.GetName(), "mine")
        liver.SetColor(0.1, 0.2, 0.3)
        CaseSegmentation(node, volume, labels)
        self.assertEqual(liver.GetColor(), (0.1, 0.2, 0.3))


if __name__ == "__main__":
    unittest.main()
