"""Every effect of the Segment Editor that is offered does in one slice what it says; in Slicer
alone, whose effects they are.
"""

from __future__ import annotations

import unittest

import numpy as np
import slicer
from scenes import SceneTest, make_volume

from ALUNetSlicerLib.mrml.canvas import CANVAS
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.mrml.slice_geometry import Box, show_slice
from ALUNetSlicerLib.ports.segment_editor import SegmentEditor

SHAPE = (12, 60, 70)
SLICE = 5
BY_MOUSE = {"Paint", "Draw", "Erase", "Level tracing", "Scissors"}
WITH_BRUSH = {"Paint", "Erase", "Smoothing"}
"""Slicer dies where one of these becomes active and there are no views to show its brush in."""


class EffectsCase(SceneTest):
    """A bright cylinder with a structure through all slices, and one slice that is worked on."""

    spacing = (1.0, 1.0, 3.0)

    def setUp(self) -> None:
        super().setUp()
        if not hasattr(slicer, "qSlicerSegmentEditorEffectFactory"):
            self.skipTest("the effects are Slicer's own")
        _k, j, i = np.indices(SHAPE)
        voxels = 100 * ((j - 30) ** 2 + (i - 35) ** 2 < 225).astype(np.int16)
        self.volume = make_volume(voxels, np.diag([*self.spacing, 1.0]))
        self.volume.CreateDefaultDisplayNodes()
        self.nodes = CaseNodes("p", {"background": 0, "organ": 1, "lesion": 2})
        self.nodes.adopt("a", self.volume)
        self.widget = slicer.qMRMLSegmentEditorWidget()
        self.editor = SegmentEditor(self.widget, CANVAS)
        self.widget.setMRMLScene(slicer.mrmlScene)

    def tearDown(self) -> None:
        slicer.app.processEvents()
        self.editor.rest()
        self.nodes.canvas.close()
        self.widget.setMRMLSegmentEditorNode(None)
        self.widget.setMRMLScene(None)
        self.widget.deleteLater()
        self.widget = self.editor = None
        super().tearDown()

    def begin(self, labels: np.ndarray, confined: bool = True) -> None:
        """Labels of the structure 1 in all slices; the one on screen has these."""
        self.case = self.nodes.segmentation("a")
        whole = np.zeros(SHAPE, np.uint8)
        whole[:, 20:40, 25:45] = 1
        whole[SLICE] = labels
        self.case.write_all(whole)
        self.before = whole
        box = Box(0, ((SLICE, SLICE + 1), (0, SHAPE[1]), (0, SHAPE[2])))
        self.nodes.open("a", box, confined)
        canvas = self.nodes.canvas
        self.editor.show(self.nodes.edit(), canvas.node, self.volume, confined)
        self.editor.forget()
        self.nodes.editor_node().SetSelectedSegmentID(self.case.segment_ids[0])

    def effect(self, name: str, **parameters):
        if name in WITH_BRUSH and slicer.app.layoutManager() is None:
            self.skipTest(f"{name} has a brush, and Slicer without a window has no views")
        self.widget.setActiveEffectByName(name)
        effect = self.widget.activeEffect()
        for key, value in parameters.items():
            effect.setParameter(key, str(value))
        return effect

    def after(self) -> np.ndarray:
        """The slice; the others are as they were."""
        slicer.app.processEvents()
        found = self.case.read_all()
        others = np.arange(SHAPE[0]) != SLICE
        np.testing.assert_array_equal(found[others], self.before[others])
        np.testing.assert_array_equal(self.nodes.canvas.labels[0], found[SLICE])
        return found[SLICE]

    def patch(self, *spots) -> np.ndarray:
        labels = np.zeros(SHAPE[1:], np.uint8)
        for rows, columns in spots:
            labels[rows, columns] = 1
        return labels

    def small(self) -> np.ndarray:
        """192 voxels."""
        return self.patch((slice(22, 38), slice(28, 40)))


class EffectsTest(EffectsCase):
    """What needs no view."""

    def test_each_effect_that_is_offered_has_a_test(self):
        tested = {"Threshold", "Islands", "Smoothing", "Margin", "Fill between slices"}
        offered = {*SegmentEditor.IN_SLICE, *SegmentEditor.EVERYWHERE}
        self.assertEqual(offered, tested | BY_MOUSE)
        self.assertLessEqual(offered, set(self.widget.availableEffectNames()))

    def test_threshold(self):
        self.begin(self.patch())
        self.effect("Threshold", MinimumThreshold=50, MaximumThreshold=200).self().onApply()
        expected = self.patch()
        expected[slicer.util.arrayFromVolume(self.volume)[SLICE] >= 50] = 1
        np.testing.assert_array_equal(self.after(), expected)

    def test_islands_are_those_of_the_slice(self):
        two = self.patch((slice(22, 38), slice(28, 40)), (slice(5, 8), slice(5, 8)))
        for operation in ("KEEP_LARGEST_ISLAND", "REMOVE_SMALL_ISLANDS"):
            self.begin(two)  # in the other slices the largest island is larger, and elsewhere
            self.effect("Islands", Operation=operation).self().onApply()
            np.testing.assert_array_equal(self.after(), self.small(), operation)

    def test_islands_do_not_become_segments(self):
        self.begin(self.small())
        effect = self.effect("Islands")
        self.assertTrue(effect.self().splitAllOptionRadioButton.isHidden())

    def test_smoothing_at_its_defaults_smoothes_the_outline(self):
        for method in ("MEDIAN", "MORPHOLOGICAL_OPENING", "MORPHOLOGICAL_CLOSING", "GAUSSIAN"):
            self.begin(self.small())
            self.effect("Smoothing", SmoothingMethod=method).self().onApply()
            left = self.after()
            self.assertGreater(left.sum(), 0.75 * 192, method)
            self.assertTrue((left[26:34, 31:37] == 1).all(), method)

    def test_a_margin_grows_and_shrinks_in_the_slice(self):
        for size, voxels in ((-3, 10 * 6), (3, 22 * 18)):
            self.begin(self.small())
            self.effect("Margin", MarginSizeMm=size).self().onApply()
            # the corners are round where it grows
            self.assertAlmostEqual(int(self.after().sum()), voxels, delta=24)

    def test_what_would_empty_labels_of_single_slices_is_offered_for_one_slice_alone(self):
        self.begin(self.small(), confined=False)
        self.assertEqual({"Smoothing", "Margin", "Islands"} & set(SegmentEditor.EVERYWHERE), set())
        self.effect("Smoothing")
        self.editor.show(self.nodes.edit(), self.nodes.canvas.node, self.volume, False)
        self.assertIsNone(self.widget.activeEffect())

    def test_fill_between_slices(self):
        self.begin(self.patch(), confined=False)
        whole = np.zeros(SHAPE, np.uint8)
        whole[2, 20:40, 25:45] = whole[SLICE, 20:40, 25:45] = 1
        self.case.write_all(whole)
        effect = self.effect("Fill between slices").self()
        effect.onPreview()
        effect.onApply()
        filled = [int((labels == 1).sum()) for labels in self.case.read_all()]
        self.assertEqual(filled, [0, 0, 400, 400, 400, 400, 0, 0, 0, 0, 0, 0])

    def test_undo_and_redo_are_in_the_case_too(self):
        self.begin(self.small())
        self.effect("Smoothing").self().onApply()
        smoothed = self.after()
        self.widget.undo()
        np.testing.assert_array_equal(self.after(), self.small())
        self.widget.redo()
        np.testing.assert_array_equal(self.after(), smoothed)

    def test_the_editor_never_takes_another_segmentation(self):
        other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other case")
        other.CreateDefaultDisplayNodes()
        for confined in (True, False):
            self.begin(self.small(), confined)
            slicer.mrmlScene.RemoveNode(self.nodes.canvas.node)
            slicer.mrmlScene.StartState(slicer.vtkMRMLScene.BatchProcessState)
            slicer.mrmlScene.EndState(slicer.vtkMRMLScene.BatchProcessState)
            self.widget.updateWidgetFromMRML()
            self.assertIsNone(self.widget.segmentationNode())


class ThinSlicesEffectsTest(EffectsTest):
    """The same where the slices are as thin as the voxels."""

    spacing = (1.0, 1.0, 1.0)


class MouseTest(EffectsCase):
    """What needs a view."""

    def setUp(self) -> None:
        super().setUp()
        if slicer.app.layoutManager() is None:
            self.skipTest("Slicer without a window has no views")
        self.view = slicer.app.layoutManager().sliceWidget("Red")

    def begin(self, labels: np.ndarray, confined: bool = True) -> None:
        super().begin(labels, confined)
        logic = self.view.sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(self.volume.GetID())
        logic.FitSliceToBackground()
        show_slice(logic.GetSliceNode(), self.volume, 0, SLICE)
        slicer.app.processEvents()

    def drag(self, *ends) -> None:
        width, height = self.view.sliceView().width, self.view.sliceView().height
        start, end = ((int(x * width), int(y * height)) for x, y in ends)
        slicer.util.clickAndDrag(self.view, start=start, end=end, steps=10)

    def test_paint_and_erase_with_a_sphere_stay_in_the_slice(self):
        for name in ("Paint", "Erase"):
            self.begin(self.small())
            effect = self.effect(name)
            effect.setCommonParameter("BrushSphere", 1)
            effect.setCommonParameter("BrushDiameterIsRelative", 0)
            effect.setCommonParameter("BrushAbsoluteDiameter", 12)
            self.drag((0.4, 0.5), (0.6, 0.5))
            after = self.after().sum()
            self.assertTrue(after > 192 if name == "Paint" else 0 < after < 192, (name, after))

    def test_scissors_cut_this_slice(self):
        self.begin(self.small())
        self.effect("Scissors", Shape="Rectangle", Operation="EraseInside")
        self.drag((0.2, 0.2), (0.5, 0.8))
        self.assertTrue(0 < self.after().sum() < 192)

    def test_draw_and_level_tracing_are_in_this_slice(self):
        self.begin(self.patch())
        self.effect("Draw")
        for place in ((0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6)):
            self.click(*place)
        self.click(0.4, 0.6, "Right")
        self.assertGreater(self.after().sum(), 20)
        self.begin(self.patch())
        self.effect("Level tracing")
        for column in range(30, 50):  # the outline of the cylinder is on the way
            self.click(column / 100, 0.5)
        self.assertGreater(self.after().sum(), 300)

    def click(self, x: float, y: float, button: str = "Left") -> None:
        """Move there, as a mouse does, and click."""
        view = self.view.sliceView()
        interactor = view.interactorStyle().GetInteractor()
        for step in (3, 2, 0):
            interactor.SetEventInformation(int(x * view.width) - step, int(y * view.height))
            interactor.MouseMoveEvent()
            slicer.app.processEvents()
        getattr(interactor, f"{button}ButtonPressEvent")()
        getattr(interactor, f"{button}ButtonReleaseEvent")()


if __name__ == "__main__":
    unittest.main()
