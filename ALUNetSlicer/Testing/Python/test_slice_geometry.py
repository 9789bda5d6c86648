"""A view shows exactly the voxel slice that is asked for, however the volume lies."""

from __future__ import annotations

import unittest

import numpy as np
import slicer
import vtk
from scenes import SceneTest, random_volume, slice_logic

from ALUNetSlicerLib.mrml.slice_geometry import Box, center, ijk_to_world, show_slice
from ALUNetSlicerLib.mrml.slice_view import SliceView


class SlicesTest(SceneTest):
    def view(self):
        logic = slice_logic()
        return logic, logic.GetSliceNode()

    def assert_shown(self, node, volume, axis, index):
        """The plane of the view goes through the centres of that slice's voxels and no others."""
        to_slice = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(node.GetSliceToRAS(), to_slice)
        matrix, column = ijk_to_world(volume), 2 - axis
        for other in np.ndindex(2, 2):
            ijk = [float(bound * 2) for bound in other]
            ijk.insert(column, float(index))
            at = to_slice.MultiplyPoint(matrix.MultiplyPoint([*ijk, 1.0]))
            self.assertAlmostEqual(at[2], 0.0, places=3)
        ijk[column] += 1
        at = to_slice.MultiplyPoint(matrix.MultiplyPoint([*ijk, 1.0]))
        self.assertGreater(abs(at[2]), 0.1)

    def test_every_slice_of_random_volumes_along_every_axis(self):
        logic, node = self.view()
        for number in range(15):
            volume = random_volume(self.generator)
            composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
            composite.SetBackgroundVolumeID(volume.GetID())
            logic.SetSliceCompositeNode(composite)
            shape = volume.GetImageData().GetDimensions()[::-1]
            for axis in range(3):
                for index in range(shape[axis]):
                    show_slice(node, volume, axis, index)
                    self.assert_shown(node, volume, axis, index)
                    self.assertEqual(
                        logic.GetSliceIndexFromOffset(node.GetSliceOffset(), volume),
                        index + 1,
                        number,
                    )

    def test_a_volume_under_a_linear_transform_that_moves(self):
        _, node = self.view()
        volume = random_volume(self.generator)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        turn = vtk.vtkTransform()
        turn.RotateX(30)
        turn.Translate(5, 6, 7)
        transform.SetMatrixTransformToParent(turn.GetMatrix())
        volume.SetAndObserveTransformNodeID(transform.GetID())
        show_slice(node, volume, 1, 2)
        self.assert_shown(node, volume, 1, 2)

    def test_a_transform_that_bends_is_refused(self):
        _, node = self.view()
        volume = random_volume(self.generator)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
        transform.SetAndObserveTransformFromParent(vtk.vtkThinPlateSplineTransform())
        volume.SetAndObserveTransformNodeID(transform.GetID())
        with self.assertRaisesRegex(ValueError, "harden"):
            show_slice(node, volume, 0, 1)

    def test_boxes(self):
        box = Box.of(1, [[2, 5], [7, 8], [0, 9]])
        self.assertEqual((box.index, box.shape, box.extent), (7, (3, 1, 9), (0, 8, 7, 7, 2, 4)))
        self.assertTrue(box.fits((9, 8, 5)))
        self.assertFalse(box.fits((9, 7, 5)))
        for axis, bounds in (
            (0, [[2, 5], [7, 8], [0, 9]]),
            (3, [[2, 3]] * 3),
            (0, [[3, 3]] * 3),
            (0, [[-1, 0]] * 3),
        ):
            with self.assertRaises(ValueError):
                Box.of(axis, bounds)


if __name__ == "__main__":
    unittest.main()


class ViewTest(SceneTest):
    def orientation(self, logic) -> list[float]:
        matrix = logic.GetSliceNode().GetSliceToRAS()
        return [matrix.GetElement(row, column) for row in range(4) for column in range(4)]

    def test_a_view_shows_the_slice_and_is_given_back_as_it_was(self):
        logic = slice_logic()
        own = random_volume(self.generator, "of the person")
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(own.GetID())
        logic.GetSliceNode().SetOrientation("Coronal")
        logic.GetSliceNode().SetSliceOffset(3.25)
        before = self.orientation(logic)
        beside = slice_logic()
        beside.GetSliceCompositeNode().SetBackgroundVolumeID(own.GetID())
        beside.GetSliceNode().SetOrientation("Axial")
        beside.GetSliceNode().SetSliceOffset(-1.5)
        beside_before = self.orientation(beside)
        view = SliceView(logic, lambda: [beside])
        for number in range(4):
            case = random_volume(self.generator, f"case {number}")
            size = case.GetImageData().GetDimensions()[::-1]
            for axis in range(3):
                index = int(self.generator.integers(size[axis]))
                bounds = tuple((index, index + 1) if a == axis else (0, size[a]) for a in range(3))
                view.show(case, Box(axis, bounds))
                self.assertEqual(view.place(), (case, axis, index))
                self.assertEqual(
                    logic.GetSliceIndexFromOffset(logic.GetSliceNode().GetSliceOffset(), case),
                    index + 1,
                )
                self.shows_the_middle(beside, case, Box(axis, bounds))
        view.restore()
        np.testing.assert_allclose(self.orientation(logic), before)
        np.testing.assert_allclose(self.orientation(beside), beside_before)
        self.assertEqual(logic.GetSliceCompositeNode().GetBackgroundVolumeID(), own.GetID())
        self.assertEqual(beside.GetSliceCompositeNode().GetBackgroundVolumeID(), own.GetID())

    def test_a_volume_that_has_no_slices_changes_nothing_in_the_view(self):
        logic, case = slice_logic(), random_volume(self.generator)
        view, layers = SliceView(logic), logic.GetSliceCompositeNode()
        shown = random_volume(self.generator, "shown")
        layers.SetBackgroundVolumeID(shown.GetID())
        bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
        bent.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
        case.SetAndObserveTransformNodeID(bent.GetID())
        with self.assertRaisesRegex(ValueError, "not linear"):
            view.show(case, Box(0, ((0, 1), (0, 3), (0, 3))))
        self.assertEqual(layers.GetBackgroundVolumeID(), shown.GetID())
        shown.SetAndObserveImageData(None)
        self.assertIsNone(view.place())

    def test_another_volume_in_the_view_is_told_and_so_is_the_return(self):
        """Slicer shows what it loads, also while a slice is worked on."""
        logic, said = slice_logic(), []
        view, layers = SliceView(logic), logic.GetSliceCompositeNode()
        view.replaced = said.append
        case, other = (random_volume(self.generator, name) for name in ("case", "loaded"))
        box = Box(0, ((1, 2), (0, 3), (0, 3)))
        view.show(case, box)
        layers.SetForegroundOpacity(0.3)
        self.assertEqual(said, [])
        layers.SetBackgroundVolumeID(other.GetID())
        layers.SetForegroundOpacity(0.4)
        self.assertEqual(said, ["loaded"])
        layers.SetBackgroundVolumeID(case.GetID())
        self.assertEqual(said, ["loaded", ""])
        layers.SetBackgroundVolumeID(other.GetID())
        view.show(case, box)
        self.assertEqual(layers.GetBackgroundVolumeID(), case.GetID())
        view.restore()
        layers.SetBackgroundVolumeID(other.GetID())
        self.assertEqual(said, ["loaded", "", "loaded"], "the slice left the screen")

    def shows_the_middle(self, logic, case, box) -> None:
        """A view beside shows the same case, at the middle of the box, from the side that its
        person chose.
        """
        self.assertEqual(logic.GetSliceCompositeNode().GetBackgroundVolumeID(), case.GetID())
        self.assertEqual(logic.GetSliceNode().GetOrientation(), "Axial")
        self.assertAlmostEqual(
            logic.GetSliceNode().GetSliceOffset(), center(case, box)[2], places=3
        )
