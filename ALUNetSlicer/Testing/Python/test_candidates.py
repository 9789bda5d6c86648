"""Which volumes of a scene plausibly become cases, and why the others do not, with the real core
of Slicer.
"""

from __future__ import annotations

import unittest

import numpy as np
import slicer
import vtk
from scenes import SceneTest, make_volume
from vtk.util.numpy_support import numpy_to_vtk

from ALUNetSlicerLib.mrml.candidates import Doubt, candidates, guess_channels
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes


class CandidatesTest(SceneTest):
    def volume(self, name: str, low: int = 0, high: int = 900):
        voxels = self.generator.integers(low, high, (4, 20, 20)).astype(np.int16)
        return make_volume(voxels, np.eye(4), name)

    def doubts(self, project: str = "mine") -> dict[str, Doubt | None]:
        return {found.name: found.doubt for found in candidates(project)}

    def test_images_belong_and_all_else_is_named_with_its_reason(self):
        self.volume("CT of the liver", -1000, 1500)
        self.volume("MR")
        self.volume("Segmentation as file", 0, 4)
        self.volume("Output volume")
        CaseNodes("mine", {}).adopt("a", self.volume("ours"))
        CaseNodes("other", {}).adopt("a", self.volume("theirs"))
        hidden = self.volume("hidden")
        hidden.SetHideFromEditors(True)
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
        label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
        label.SetAndObserveImageData(self.volume("model").GetImageData())
        self.color()
        doubts = self.doubts()
        self.assertEqual(
            {name for name, doubt in doubts.items() if not doubt},
            {"CT of the liver", "MR", "model"},
        )
        self.assertNotIn("ours", doubts, "it is a case already")
        self.assertNotIn("hidden", doubts)
        expected = {
            "Segmentation as file": Doubt.LABELS,
            "Output volume": Doubt.RESULT,
            "theirs": Doubt.OTHERS,
            "nothing": Doubt.EMPTY,
            "labels": Doubt.LABEL_MAP,
            "photograph": Doubt.COLORS,
        }
        self.assertEqual({name: doubts[name] for name in expected}, expected)
        usable = {found.name for found in candidates("mine") if found.usable}
        self.assertEqual(
            set(doubts) - usable, {"nothing", "labels", "photograph"}, "a person decides"
        )
        self.assertEqual([found.owner for found in candidates("mine") if found.owner], ["other"])
        self.assertIs(self.doubts("")["ours"], Doubt.OTHERS, "of a project still to be made")

    def color(self) -> None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photograph")
        image = vtk.vtkImageData()
        image.SetDimensions(5, 4, 3)
        image.GetPointData().SetScalars(numpy_to_vtk(np.zeros((60, 3), np.uint8), deep=True))
        node.SetAndObserveImageData(image)

    @unittest.skipUnless(
        hasattr(slicer, "vtkMRMLSequenceBrowserNode"), "this Slicer has no module Sequences"
    )
    def test_a_frame_of_a_sequence_is_named_with_it(self):
        for kind in (slicer.vtkMRMLSequenceNode, slicer.vtkMRMLSequenceBrowserNode):
            slicer.mrmlScene.RegisterNodeClass(kind())  # as the module Sequences does
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "heartbeats")
        frame = self.volume("frame")
        sequence.SetDataNodeAtValue(frame, "0")
        sequence.SetDataNodeAtValue(frame, "1")
        slicer.mrmlScene.RemoveNode(frame)
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        proxy = self.volume("heart")
        browser.AddProxyNode(proxy, sequence, False)
        self.assertIs(self.doubts()["heart"], Doubt.FRAME)
        frames = [found.sequence for found in candidates("mine") if found.sequence]
        self.assertEqual(frames, ["heartbeats"])

    def test_channels_are_guessed_by_names_and_values(self):
        def guess(*names: str, low: int = 0, high: int = 900) -> list[str]:
            return guess_channels([self.volume(name, low, high) for name in names])

        self.assertEqual(guess("a", "b", low=-1000, high=1500), ["CT"])
        self.assertEqual(guess("a", "b"), ["MR"])
        self.assertEqual(guess("ann_t1", "ann_t2", "bob_t1", "bob_t2"), ["T1", "T2"])
        self.assertEqual(guess("BraTS-1-t1c", "BraTS-1-t2f"), ["T1c", "FLAIR"])
        self.assertEqual(guess("ann T2w", "bob T2w"), ["T2"])
        self.assertEqual(guess("ann_t1", "ann_t2", "bob_t1"), ["MR"], "the sets are not whole")
        self.assertEqual(guess("PET 1", low=0), ["PET"])
        self.assertEqual(guess(), [])


if __name__ == "__main__":
    unittest.main()
