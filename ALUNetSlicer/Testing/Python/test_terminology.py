"""Structures have the colour and the code that Slicer's terminology gives them, wherever it
knows their name.
"""

from __future__ import annotations

import itertools
import unittest
from functools import partial

import slicer
from scenes import SceneTest, random_volume

from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation
from ALUNetSlicerLib.mrml.distinct_colors import APART, apart_from, difference, least_difference
from ALUNetSlicerLib.mrml.terminology import appearance_of, appearances_of


def seen_by_deuteranope(one, other) -> float:
    """Difference of two colors for people without cones for green."""
    return least_difference(one, [other], blind=True)


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

    def test_no_two_structures_of_a_project_look_alike(self):
        """Whatever the terminology recommends: both ventricles are of one red-brown there."""
        names = ["left ventricle", "right ventricle", "Kidney", "left kidney", "right kidney"]
        names += [f"kidney {number}" for number in range(20)]
        labels = {name: value for value, name in enumerate(["background", *names])}
        looks = appearances_of(labels, {"kidney 3": "#dd8265"})
        self.assertEqual(looks["kidney 3"].color, appearance_of("x", 1, color="#dd8265").color)
        for one, other in itertools.combinations(looks, 2):
            self.assertGreaterEqual(
                difference(looks[one].color, looks[other].color), APART, (one, other)
            )
        alike = appearance_of("left kidney", 4).color, appearance_of("right kidney", 5).color
        self.assertLess(difference(*alike), APART, "else this test says nothing")
        fewer = dict(list(labels.items())[:6])
        before, after = appearances_of(fewer, {}), appearances_of(labels, {})
        self.assertEqual(before, {name: after[name] for name in before}, "a new one changes none")

    def test_a_color_that_is_changed_is_safe_for_color_blind_people_while_there_are_any(self):
        red_brown = (0.85, 0.4, 0.3)
        given = [red_brown]
        for number in range(2, 8):
            given.append(apart_from(red_brown, given, number))
            self.assertGreaterEqual(
                min(map(partial(seen_by_deuteranope, given[-1]), given[:-1])), APART
            )

    def test_differences_are_those_of_cielab(self):
        self.assertAlmostEqual(difference((0, 0, 0), (1, 1, 1)), 100, delta=0.1)
        # sRGB red and green: L*a*b* (53.2, 80.1, 67.2) and (87.7, -86.2, 83.2)
        self.assertAlmostEqual(difference((1, 0, 0), (0, 1, 0)), 170.6, delta=0.5)

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
