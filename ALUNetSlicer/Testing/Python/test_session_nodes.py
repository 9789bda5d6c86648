"""Nodes that go while a slice is on screen, paint in other slices, scenes that were saved: nothing
that was painted is lost.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from session_case import SessionCase

from alunet.schema import Status


class NodesGoTest(SessionCase):
    def gone(self, change) -> None:
        """Somebody takes a node away; the slice goes on where it was."""
        item = self.go(self.session.next)
        painted = self.paint(2)
        change(item)
        self.assertEqual(len(self.failures), 1)
        self.assertRegex(str(self.failures[0]), "What you painted is kept")
        self.failures.clear()
        self.assertIsNone(self.session.current)
        self.assertEqual(self.session.interrupted.sample, item.sample)
        self.assertEqual(self.editor.told[-1], "rest")
        self.session.keep_draft()
        self.session.submit()  # nothing is on screen: nothing happens
        again = self.go(self.session.go_on)
        self.assertEqual(again.sample, item.sample)
        np.testing.assert_array_equal(self.session.labels(), painted)
        self.assertIsNone(self.session.interrupted)
        self.go(self.session.submit)
        self.all_sent()
        np.testing.assert_array_equal(self.stored(item.case)[item.box.slices], painted)

    def test_the_labels_of_the_case_are_removed(self):
        nodes = self.session.case_nodes
        self.gone(lambda item: slicer.mrmlScene.RemoveNode(nodes.segmentation(item.case).node))

    def test_the_volume_is_removed(self):
        nodes = self.session.case_nodes
        self.gone(lambda item: slicer.mrmlScene.RemoveNode(nodes.volume(item.case)))

    def test_the_volume_that_slicer_shows_then_takes_no_message_away(self):
        item = self.go(self.session.next)
        heard: list = []
        self.agent.answered.connect(heard.append)
        slicer.mrmlScene.RemoveNode(self.session.case_nodes.volume(item.case))
        self.session._replaced("the next volume")
        self.assertEqual(len(self.failures), 1)
        self.assertNotIn("show", heard)

    def test_all_segments_are_removed(self):
        nodes = self.session.case_nodes
        self.gone(
            lambda item: nodes.segmentation(item.case).node.GetSegmentation().RemoveAllSegments()
        )

    def test_the_scene_is_cleared_behind_the_module(self):
        self.gone(lambda item: slicer.mrmlScene.Clear())

    def test_a_transform_that_is_not_linear_is_put_over_the_volume(self):
        item = self.go(self.session.next)
        painted = self.paint(1)
        volume = self.session.case_nodes.volume(item.case)
        bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
        bent.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
        volume.SetAndObserveTransformNodeID(bent.GetID())
        self.assertRegex(str(self.failures.pop()), "not linear. What you painted is kept")
        volume.SetAndObserveTransformNodeID(None)
        self.go(self.session.go_on)
        np.testing.assert_array_equal(self.session.labels(), painted)

    def test_a_draft_is_never_made_of_a_node_that_was_made_anew(self):
        item = self.go(self.session.next)
        painted = self.paint(2)
        nodes = self.session.case_nodes
        slicer.mrmlScene.RemoveNode(nodes.segmentation(item.case).node)
        self.failures.clear()
        nodes.segmentation(item.case)  # empty
        self.session.keep_draft()
        self.session.leave()
        self.go(self.session.go_to, item.sample)
        np.testing.assert_array_equal(self.session.labels(), painted)

    def test_a_volume_that_goes_before_its_slice_is_on_screen_is_fetched_again(self):
        first = self.go(self.session.next)
        other = next(item for item in self.session.worklist if item.case != first.case)
        loaded: list = []
        self.session.volumes.load(other.case, loaded.append)
        self.pump.until(lambda: loaded)
        shown = len(self.shown)
        self.session.go_to(other.sample)
        slicer.mrmlScene.RemoveNode(self.session.case_nodes.volume(other.case))
        self.assertEqual(len(self.shown), shown, "the engine is still asked")
        self.pump.until(lambda: len(self.shown) > shown)
        self.assertEqual(self.session.current.sample, other.sample)
        self.assertIsNotNone(self.session.case_nodes.volume(other.case))

    def test_what_is_painted_elsewhere_while_the_module_is_left_is_a_draft(self):
        item = self.go(self.session.next)
        self.paint(1)
        self.session.leave()
        elsewhere = self.paint(2)  # as with Slicer's own Segment Editor
        self.go(self.session.enter)
        np.testing.assert_array_equal(self.session.labels(), elsewhere)
        self.session.leave()
        slicer.mrmlScene.RemoveNode(self.session.case_nodes.segmentation(item.case).node)
        self.failures.clear()
        self.go(self.session.go_on)
        np.testing.assert_array_equal(self.session.labels(), elsewhere)

    def test_a_closed_project_hides_its_labels(self):
        item = self.go(self.session.next)
        node = self.session.case_nodes.segmentation(item.case).node
        self.assertTrue(node.GetDisplayNode().GetVisibility())
        self.session.close()
        self.assertFalse(node.GetDisplayNode().GetVisibility())


class EverywhereTest(SessionCase):
    """With "Paint in this slice only" unticked."""

    def brush(self, value: int, *slices: int) -> None:
        """A blot in slices of the case on screen."""
        segmentation = self.session.case_nodes.canvas.case
        labels = segmentation.read_all()
        for index in slices:
            labels[index, 2:6, 2:6] = value
        segmentation.write_all(labels)

    def test_paint_in_a_listed_slice_is_its_draft(self):
        first = self.go(self.session.next)
        self.session.locked = False
        self.brush(2, *range(5))
        self.session.keep_draft()
        begun = [item.sample for item in self.session.worklist if item.status == "in_progress"]
        listed = [item for item in self.session.worklist if item.case == first.case]
        self.assertEqual(begun, [item.sample for item in listed])
        for item in listed:
            self.go(self.session.go_to, item.sample)
            expected = np.zeros(item.box.shape, np.uint8)
            expected[0, 2:6, 2:6] = 2
            np.testing.assert_array_equal(self.session.labels(), expected)
            self.session.submit(lambda: None)
        self.all_sent()
        self.assertEqual(self.session.other_slices.take_further(), [])
        self.assertTrue((self.stored(first.case)[:, 2:6, 2:6] == 2).all())

    def test_paint_over_labels_that_were_handed_in_goes_on_from_them(self):
        first = self.go(self.session.next)
        handed_in = self.paint(1)
        second = self.go(self.session.submit)
        self.all_sent()
        self.session.close()
        slicer.mrmlScene.Clear()  # another day: the scene has nothing of the first slice
        self.open()
        self.go(self.session.go_to, second.sample)
        self.session.locked = False
        self.brush(2, first.box.index)
        self.session.keep_draft()
        self.go(self.session.go_to, first.sample)
        expected = handed_in.copy()
        expected[0, 2:6, 2:6] = 2
        np.testing.assert_array_equal(self.session.labels(), expected)
        self.go(self.session.submit)
        self.all_sent()
        np.testing.assert_array_equal(self.stored(first.case)[first.box.slices], expected)

    def test_paint_in_a_slice_of_no_list_is_known_once_until_somebody_was_asked(self):
        first = self.go(self.session.next)
        self.session.set_status(Status.TODO)
        self.session.worklist.fill([first])
        self.session.locked = False
        self.brush(1, 1, 3)
        self.session.locked = True
        self.assertEqual(
            self.session.other_slices.take_further(), [(first.case, 0, 1), (first.case, 0, 3)]
        )
        self.assertEqual(self.session.other_slices.take_further(), [])

    def test_what_the_module_itself_puts_into_a_slice_is_no_paint(self):
        self.session.locked = False
        for _ in range(3):
            self.go(self.session.next)
            self.session.begin_again(proposal=False)
            self.session.set_status(Status.SKIPPED)
        self.assertEqual(self.session.other_slices.take_further(), [])
        begun = [item for item in self.session.worklist if item.status == "in_progress"]
        self.assertEqual(begun, [])


class SavedSceneTest(SessionCase):
    def drafts(self):
        return list(self.folder.rglob("*.npz"))

    def test_the_newer_of_scene_and_draft_counts(self):
        item = self.go(self.session.next)
        self.paint(1)
        self.session.keep_draft()
        older = {file: file.read_bytes() for file in self.drafts()}
        in_scene = self.paint(2)  # the scene is saved here, and Slicer dies
        for file in self.drafts():
            file.write_bytes(older[file])
        self.open()
        self.go(self.session.resume, item.sample)
        np.testing.assert_array_equal(self.session.labels(), in_scene)
        # the other way round: painted after the scene was saved
        node = self.session.case_nodes.segmentation(item.case).node
        saved = node.GetAttribute("ALUNet.begun")
        newer = self.paint(1)
        newer[0, 15:, :] = 2
        self.session.paint(newer)
        self.session.keep_draft()
        self.session.scene_closing()
        node.SetAttribute("ALUNet.begun", saved)
        self.open()
        self.go(self.session.resume, item.sample)
        np.testing.assert_array_equal(self.session.labels(), newer)

    def test_every_slice_that_was_begun_comes_back_without_its_draft(self):
        painted = {}
        item = self.go(self.session.next)
        for value in (1, 2):
            painted[item.sample] = self.paint(value)
            item = self.go(self.session.step, 1)
        self.session.scene_closing()
        for file in self.drafts():
            file.unlink()
        self.open()
        self.go(self.session.resume, item.sample)
        for sample, labels in painted.items():
            self.go(self.session.go_to, sample)
            np.testing.assert_array_equal(self.session.labels(), labels)

    def test_what_was_handed_in_after_the_scene_was_saved_counts(self):
        item = self.go(self.session.next)
        self.paint(1)
        nodes = self.session.case_nodes
        node = nodes.segmentation(item.case).node
        saved, before = node.GetAttribute("ALUNet.begun"), self.session.labels()
        handed_in = self.paint(2)
        self.go(self.session.submit)
        self.all_sent()
        self.assertNotIn(f'"{item.sample}"', node.GetAttribute("ALUNet.begun"))
        self.session.scene_closing()
        nodes.segmentation(item.case).write(item.box, before)  # the scene of before is loaded
        node.SetAttribute("ALUNet.begun", saved)
        self.open()
        self.go(self.session.resume, item.sample)
        np.testing.assert_array_equal(self.session.labels(), handed_in)
