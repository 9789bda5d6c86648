"""Where a slice is, in the words of the view, and the frame of its part, with the real core of
Slicer.
"""

from __future__ import annotations

import re
import unittest

import numpy as np
import slicer
import vtk
from scenes import SceneTest, make_volume, random_volume, slice_logic
from vtk.util.numpy_support import vtk_to_numpy

from ALUNetSlicerLib.mrml.part_frame import part_frame
from ALUNetSlicerLib.mrml.slice_geometry import Box, show_slice
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.panel.slice_words import part_words, slice_words


def random_box(generator: np.random.Generator, shape: tuple[int, ...]) -> Box:
    axis = int(generator.integers(3))
    bounds = []
    for place, size in enumerate(shape):
        low = int(generator.integers(size if place == axis else max(1, size // 2)))
        high = low + 1 if place == axis else int(generator.integers(low + 1, size + 1))
        bounds.append((low, high))
    return Box(axis, tuple(bounds))


class WordsTest(SceneTest):
    def test_the_place_is_the_offset_that_the_view_shows(self):
        known = 0
        for _ in range(60):
            volume = random_volume(self.generator)
            shape = volume.GetImageData().GetDimensions()[::-1]
            box = random_box(self.generator, shape)
            node = slice_logic().GetSliceNode()
            show_slice(node, volume, box.axis, box.index)
            offset = node.GetSliceOffset()
            said = slice_words(box, shape[box.axis], volume)
            found = re.fullmatch(r"(\d+) of (\d+), ([LAS]) (-?\d+\.\d) mm", said)
            self.assertEqual((int(found[1]), int(found[2])), (box.index + 1, shape[box.axis]))
            column = [node.GetSliceToRAS().GetElement(row, 2) for row in range(3)]
            most = int(np.argmax(np.abs(column)))
            self.assertEqual(found[3], "LAS"[most])
            counts = column[most] * (-1, 1, 1)[most] > 0
            self.assertAlmostEqual(float(found[4]), offset if counts else -offset, delta=0.051)
            known += counts
        self.assertGreater(known, 50, "a view nearly always counts in the direction of its letter")

    def test_a_case_that_is_not_loaded_has_its_number(self):
        self.assertEqual(slice_words(Box(0, ((4, 5), (0, 2), (0, 2))), 35, None), "5 of 35")

    def test_the_part_is_named_by_sides_of_the_body(self):
        """An image as most scanners give it: i towards the left, j towards the back."""
        volume = make_volume(np.zeros((4, 512, 512), np.int16), np.diag([-0.7, -0.7, 3, 1]))
        parts = {
            ((0, 512), (0, 512)): "",
            ((0, 512), (0, 480)): "right part, 480 x 512 of 512 x 512 voxels",
            ((32, 512), (0, 512)): "posterior part, 512 x 480 of 512 x 512 voxels",
            ((0, 256), (256, 512)): "left anterior part, 256 x 256 of 512 x 512 voxels",
            ((128, 384), (128, 384)): "middle part, 256 x 256 of 512 x 512 voxels",
        }
        for (rows, columns), words in parts.items():
            self.assertEqual(part_words(Box(0, ((1, 2), rows, columns)), volume), words)


class FrameTest(SceneTest):
    def test_outside_is_dim_the_frame_is_around_the_part_and_all_lies_on_its_voxels(self):
        for _ in range(60):
            volume = random_volume(self.generator)
            shape = volume.GetImageData().GetDimensions()[::-1]
            box = random_box(self.generator, shape)
            node = part_frame(volume, box)
            axes = [axis for axis in range(3) if axis != box.axis]
            if all(box.bounds[axis] == (0, shape[axis]) for axis in axes):
                self.assertIsNone(node)
                continue
            values = slicer.util.arrayFromVolume(node)
            inside = np.zeros(shape, bool)
            inside[box.slices] = True
            near = np.zeros(np.array(shape) + 2, bool)  # one voxel wider on all sides
            near[tuple(slice(low, high + 2) for low, high in box.bounds)] = True
            whole = [1 if axis == box.axis else shape[axis] for axis in range(3)]
            self.assertEqual(list(values.shape), whole)
            for place in np.ndindex(values.shape):
                voxel = self.voxel(volume, node, place)
                expected = 2 if near[tuple(np.array(voxel) + 1)] else 1
                expected = 0 if inside[tuple(voxel)] else expected
                self.assertEqual(values[place], expected)

    def voxel(self, volume, node, place) -> list[int]:
        """The voxel (k, j, i) of the volume where one of the frame's is."""
        ours, theirs = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(ours)
        volume.GetRASToIJKMatrix(theirs)
        world = ours.MultiplyPoint([*map(float, place[::-1]), 1.0])
        found = np.array(theirs.MultiplyPoint(world)[:3])
        np.testing.assert_allclose(found, np.round(found), atol=1e-3)
        return [int(round(part)) for part in found[::-1]]

    def test_it_is_drawn_in_the_view_and_taken_away_with_the_slice(self):
        volume = make_volume(np.full((4, 40, 40), 100, np.int16), np.diag([1, 1, 2, 1]))
        volume.CreateDefaultDisplayNodes()
        logic = slice_logic()
        view, box = SliceView(logic), Box(0, ((2, 3), (0, 40), (10, 30)))
        layers = logic.GetSliceCompositeNode()
        view.show(volume, box)
        node = part_frame(volume, box)
        view.frame(node)
        self.assertEqual((layers.GetLabelVolumeID(), layers.GetLabelOpacity()), (node.GetID(), 1.0))
        self.assertTrue(node.GetHideFromEditors(), "no list of volumes has it")
        self.assertFalse(node.GetSaveWithScene())
        colors = node.GetDisplayNode().GetColorNode()
        look = [0.0] * 4
        colors.GetColor(1, look)
        self.assertTrue(0 < look[3] < 1, "outside one can still see the image")
        colors.GetColor(0, look)
        self.assertEqual(look[3], 0)
        view.show(volume, Box(0, ((1, 2), (0, 40), (0, 40))))
        view.frame(part_frame(volume, Box(0, ((1, 2), (0, 40), (0, 40)))))
        self.assertIsNone(layers.GetLabelVolumeID())
        view.frame(part_frame(volume, box))
        view.restore()
        self.assertIsNone(layers.GetLabelVolumeID())

    def test_there_is_one_frame_however_many_slices_are_shown(self):
        volume = make_volume(np.zeros((4, 40, 40), np.int16), np.eye(4))
        for number in range(4):
            part_frame(volume, Box(0, ((number, number + 1), (0, 40), (0, 20))))
        nodes = slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeNode")
        self.assertEqual(len(nodes), 1)
        image = nodes[0].GetImageData()
        self.assertEqual(set(vtk_to_numpy(image.GetPointData().GetScalars())), {0, 1, 2})


if __name__ == "__main__":
    unittest.main()
