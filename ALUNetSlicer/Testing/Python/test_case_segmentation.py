"""What is painted in a slice comes back voxel for voxel, and nothing else changes."""

from __future__ import annotations

import unittest

import numpy as np
import slicer
from scenes import SceneTest, random_volume

from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation
from ALUNetSlicerLib.mrml.slice_geometry import Box

LABELS = {"background": 0, "liver": 1, "tumor": 2, "vessel": 3}


def whole(volume) -> tuple[int, ...]:
    return volume.GetImageData().GetDimensions()[::-1]


class SegmentationCase(SceneTest):
    """What both need."""

    def segmentation(self, volume) -> CaseSegmentation:
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "labels")
        return CaseSegmentation(segmentation, volume, LABELS)

    def random_box(self, shape) -> Box:
        axis = int(self.generator.integers(3))
        bounds = []
        for number, size in enumerate(shape):
            low = int(self.generator.integers(0, size))
            high = low + 1 if number == axis else int(self.generator.integers(low + 1, size + 1))
            bounds.append((low, high))
        return Box(axis, tuple(bounds))

    def everything(self, segmentation) -> np.ndarray:
        shape = whole(segmentation.volume)
        found = np.zeros(shape, np.uint8)
        for k in range(shape[0]):
            box = Box(0, ((k, k + 1), (0, shape[1]), (0, shape[2])))
            found[box.slices] = segmentation.read(box)
        return found


class CaseSegmentationTest(SegmentationCase):
    def test_random_writes_against_an_array(self):
        for _ in range(12):
            segmentation = self.segmentation(random_volume(self.generator))
            expected = np.zeros(whole(segmentation.volume), np.uint8)
            for _ in range(8):
                box = self.random_box(expected.shape)
                labels = self.generator.integers(0, 4, box.shape).astype(np.uint8)
                segmentation.write(box, labels)
                expected[box.slices] = labels
                np.testing.assert_array_equal(segmentation.read(box), labels)
            np.testing.assert_array_equal(self.everything(segmentation), expected)

    def test_a_segment_of_the_persons_own_stays(self):
        segmentation = self.segmentation(random_volume(self.generator))
        segments = segmentation.node.GetSegmentation()
        segments.AddEmptySegment("mine", "mine")
        box = self.random_box(whole(segmentation.volume))
        mine = slicer.vtkOrientedImageData()
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        image = segmentation._image(box.extent, np.ones(box.shape, np.uint8))
        logic.SetBinaryLabelmapToSegment(image, segmentation.node, "mine", logic.MODE_REPLACE)
        segmentation.write(box, np.full(box.shape, 2, np.uint8))
        segmentation.write(box, np.zeros(box.shape, np.uint8))
        segmentation.node.GetBinaryLabelmapRepresentation("mine", mine)
        self.assertEqual(mine.GetExtent(), box.extent)
        self.assertEqual(segmentation.read(box).max(), 0)

    def test_labels_of_another_shape_are_refused(self):
        segmentation = self.segmentation(random_volume(self.generator))
        with self.assertRaisesRegex(ValueError, "shape"):
            segmentation.write(Box(0, ((0, 1), (0, 2), (0, 2))), np.zeros((1, 2, 1), np.uint8))

    def test_the_same_node_again_has_the_same_segments(self):
        first = self.segmentation(random_volume(self.generator))
        again = CaseSegmentation(first.node, first.volume, LABELS)
        self.assertEqual(first.segment_ids, again.segment_ids)
        self.assertEqual(len(first.node.GetSegmentation().GetSegmentIDs()), 3)


if __name__ == "__main__":
    unittest.main()
