"""What a slice is painted on: nothing reaches beyond its box, the case has it at once, and nodes
that go leave what was painted.
"""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer
import vtk
from scenes import SceneTest, make_volume, random_volume

from ALUNetSlicerLib.mrml.canvas import Lost
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.mrml.slice_geometry import Box

LABELS = {"background": 0, "liver": 1, "tumor": 2, "vessel": 3}
MODES = ("Add", "Remove", "Set", "RemoveAll")


def axial(index: int, shape) -> Box:
    return Box(0, ((index, index + 1), (0, shape[1]), (0, shape[2])))


class CanvasCase(SceneTest):
    """A case whose every voxel has a label, and Slicer's own editor logic."""

    def begin(self, confined: bool = True, volume=None) -> None:
        self.volume = volume or random_volume(self.generator)
        self.nodes = CaseNodes("p", LABELS)
        self.nodes.adopt("a", self.volume)
        self.shape = self.volume.GetImageData().GetDimensions()[::-1]
        self.before = self.generator.integers(0, 4, self.shape).astype(np.uint8)
        self.case = self.nodes.segmentation("a")
        self.case.write_all(self.before)
        self.box = self.random_box()
        self.heard: list[tuple[Lost, str]] = []
        self.canvas = self.nodes.canvas
        self.canvas.lost = lambda *said: self.heard.append(said)
        self.nodes.open("a", self.box, confined)
        self.editor = self.nodes.edit()

    def random_box(self) -> Box:
        axis = int(self.generator.integers(3))
        bounds = []
        for number, size in enumerate(self.shape):
            low = int(self.generator.integers(0, size))
            high = low + 1 if number == axis else int(self.generator.integers(low + 1, size + 1))
            bounds.append((low, high))
        return Box(axis, tuple(bounds))

    def stroke(self, value: int, mode: str = "Add") -> None:
        """The whole volume in one stroke, as with a huge sphere."""
        logic = slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSegmentEditorNode(self.editor)
        segment = self.case.segment_ids[value - 1]
        self.editor.SetSelectedSegmentID(segment)
        logic.UpdateMaskLabelmap()
        i, j, k = self.volume.GetImageData().GetDimensions()
        shape, extent = (k, j, i), (0, i - 1, 0, j - 1, 0, k - 1)
        image = self.case._image(extent, np.ones(shape, np.uint8))
        how = getattr(logic, f"ModificationMode{mode}")
        reference = slicer.vtkOrientedImageData()  # as effects do: within the editor's geometry
        slicer.vtkSegmentationConverter.DeserializeImageGeometry(
            logic.GetReferenceImageGeometryString(), reference, False
        )
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
            image, reference, image
        )
        logic.ModifySegmentByLabelmap(self.canvas.node, segment, image, how, False, False)


class ConfinedTest(CanvasCase):
    def test_no_way_of_changing_a_segment_reaches_beyond_the_box(self):
        for mode in MODES:
            for _ in range(4):
                slicer.mrmlScene.Clear()
                self.begin()
                self.stroke(2, mode)
                after = self.case.read_all()
                box = self.box.slices
                expected = self.before.copy()
                if mode in ("Add", "Set"):
                    expected[box] = 2
                elif mode == "Remove":
                    expected[box][expected[box] == 2] = 0
                else:
                    expected[box] = 0
                np.testing.assert_array_equal(after, expected, mode)
                np.testing.assert_array_equal(self.canvas.labels, expected[box])

    def test_not_confined_it_goes_everywhere(self):
        self.begin(confined=False)
        self.stroke(3)
        self.assertTrue((self.case.read_all() == 3).all())

    def test_what_others_write_into_the_case_is_on_the_canvas(self):
        self.begin()
        labels = self.generator.integers(0, 4, self.box.shape).astype(np.uint8)
        self.case.write(self.box, labels)
        np.testing.assert_array_equal(self.canvas.labels, labels)
        self.stroke(1)
        self.assertTrue((self.canvas.labels == 1).all())

    def test_names_colors_and_what_is_hidden_are_the_same(self):
        self.begin()
        name = self.case.segment_ids[0]
        own = self.canvas.node
        own.GetSegmentation().GetSegment(name).SetColor(0.1, 0.2, 0.3)
        own.GetDisplayNode().SetSegmentVisibility(name, False)
        case = self.case.node
        self.assertEqual(case.GetSegmentation().GetSegment(name).GetColor(), (0.1, 0.2, 0.3))
        self.assertFalse(case.GetDisplayNode().GetSegmentVisibility(name))
        case.GetSegmentation().GetSegment(name).SetName("Leber")
        self.assertEqual(own.GetSegmentation().GetSegment(name).GetName(), "Leber")

    def test_the_next_slice_is_painted_on_the_same_node(self):
        self.begin()
        node = self.canvas.node
        self.stroke(1)
        for _ in range(4):
            self.before = self.case.read_all()
            self.box = self.random_box()
            self.nodes.open("a", self.box, confined=True)
            self.assertIs(self.canvas.node, node)
            np.testing.assert_array_equal(self.canvas.labels, self.before[self.box.slices])
            self.stroke(3)
            self.before[self.box.slices] = 3
            np.testing.assert_array_equal(self.case.read_all(), self.before)


class SavedTest(CanvasCase):
    """Nothing of what painting needs is in a file, and all that is painted is."""

    def test_a_saved_scene_and_a_saved_segmentation_hold_the_structures_alone(self):
        self.begin(volume=make_volume(np.zeros((4, 6, 5), np.int16), np.diag([1, 1, 3, 1.0])))
        self.stroke(1)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "labels.seg.nrrd"
            storage = slicer.vtkMRMLSegmentationStorageNode()
            storage.SetFileName(str(file))
            self.assertTrue(storage.WriteData(self.case.node))
            header = file.read_bytes().split(b"\n\n")[0].decode()
            ids = [line for line in header.splitlines() if "_ID:=" in line]
            self.assertEqual(len(ids), 3, ids)
            read = slicer.vtkMRMLSegmentationNode()
            slicer.mrmlScene.AddNode(read)
            self.assertTrue(storage.ReadData(read))
            saved = type(self.case)(read, self.volume, LABELS)
            np.testing.assert_array_equal(saved.read_all(), self.case.read_all())
        slicer.mrmlScene.SetSaveToXMLString(1)
        slicer.mrmlScene.Commit()
        saved = slicer.mrmlScene.GetSceneXMLString()
        self.assertEqual(saved.count("<Segmentation\n"), 2)  # the case's, and the one just read
        self.assertNotIn("SegmentEditor", saved)


class LostTest(CanvasCase):
    """Somebody else changes a node that the slice needs, at any time."""

    def lost(self, change, *why: Lost) -> None:
        for confined in (True, False):
            with self.subTest(confined=confined):
                slicer.mrmlScene.Clear()
                self.begin(confined)
                self.stroke(2)
                painted = self.canvas.labels
                self.assertEqual(self.heard, [])
                change()
                self.assertEqual(len(self.heard), 1)
                self.assertIn(self.heard[0][0], why)
                np.testing.assert_array_equal(self.canvas.labels, painted)
                self.canvas.close()

    def test_a_node_is_removed(self):
        remove = slicer.mrmlScene.RemoveNode
        # Slicer's subject hierarchy takes the segments first
        labels = Lost.REMOVED, Lost.EMPTIED
        self.lost(lambda: remove(self.case.node), *labels)
        self.lost(lambda: remove(self.canvas.node), *labels)
        self.lost(lambda: remove(self.volume), Lost.REMOVED)
        self.lost(lambda: remove(self.nodes.editor_node()), Lost.REMOVED)

    def test_segments_are_removed(self):
        def one():
            self.case.node.GetSegmentation().RemoveSegment(self.case.segment_ids[1])

        def own():
            self.canvas.node.GetSegmentation().RemoveAllSegments()

        def whole():
            self.case.node.SetAndObserveSegmentation(slicer.vtkSegmentation())

        for change in (one, own, whole):
            self.lost(change, Lost.EMPTIED)

    def test_the_volume_becomes_another(self):
        def image():
            other = vtk.vtkImageData()
            other.SetDimensions(2, 2, 2)
            other.AllocateScalars(vtk.VTK_SHORT, 1)
            self.volume.SetAndObserveImageData(other)

        self.lost(image, Lost.REPLACED)
        self.lost(lambda: self.volume.SetAndObserveImageData(None), Lost.REPLACED)
        self.lost(lambda: self.volume.SetOrigin(9, 9, 9), Lost.REPLACED)

    def test_a_transform_that_is_not_linear(self):
        def bend():
            transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
            transform.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
            self.volume.SetAndObserveTransformNodeID(transform.GetID())

        self.lost(bend, Lost.BENT)

    def test_what_does_no_harm(self):
        """Renamed, hidden, moved with a linear transform: painting goes on, and the labels are
        where the volume is.
        """
        self.begin()
        self.stroke(1)
        self.case.node.SetName("mine")
        self.volume.SetName("other")
        self.canvas.node.SetName("what is this")
        self.case.node.GetDisplayNode().SetVisibility(False)
        self.case.node.SetHideFromEditors(True)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        for node in (self.volume, self.case.node, self.canvas.node):
            node.SetAndObserveTransformNodeID(transform.GetID())
        self.case.node.SetAndObserveTransformNodeID(None)
        for node in (self.case.node, self.canvas.node):
            self.assertEqual(node.GetTransformNodeID(), transform.GetID())
        self.stroke(3)
        self.assertEqual(self.heard, [])
        self.assertTrue((self.canvas.labels == 3).all())
        self.assertIs(self.nodes.segmentation("a").node, self.case.node)

    def test_labels_of_a_volume_that_was_moved_are_not_those_of_the_voxels_there_now(self):
        self.begin()
        self.canvas.close()
        self.volume.SetOrigin(50, 0, 0)
        again = self.nodes.segmentation("a")
        self.assertIsNot(again.node, self.case.node)
        self.assertEqual(again.read_all().max(), 0)
        self.assertIn("before the volume was moved", self.case.node.GetName())
        self.assertFalse(self.case.node.GetDisplayNode().GetVisibility())


class ShownTest(CanvasCase):
    """Only the labels of the case on screen are seen."""

    def shown(self) -> set[str]:
        nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        seen = [node for node in nodes if not node.GetHideFromEditors()]
        return {node.GetName() for node in seen if node.GetDisplayNode().GetVisibility()}

    def test_other_cases_other_projects_and_results_are_hidden_and_a_persons_own_are_not(self):
        self.begin()
        mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
        mine.CreateDefaultDisplayNodes()
        other = CaseNodes("q", LABELS)
        for nodes, case in ((self.nodes, "b"), (other, "a")):
            nodes.adopt(case, random_volume(self.generator, case))
            made = nodes.segmentation(case)
            made.node.SetName(f"{case} of another")
            result = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{case} made")
            result.CreateDefaultDisplayNodes()
            nodes.add_result(case, result, "")
        self.nodes.open("a", self.box, confined=True)
        self.assertEqual(self.shown(), {"a labels", "mine"})
        self.nodes.hide()
        self.assertEqual(self.shown(), {"mine"})


if __name__ == "__main__":
    unittest.main()
