"""One person's flow through a batch, against a real agent and a real service: what is painted
arrives.
"""

from __future__ import annotations

import numpy as np
import slicer
from session_case import SHAPE, SessionCase

from alunet.schema import SampleState, Status
from ALUNetSlicerLib.engine.messages import NewsKind, ProjectNews


class SessionTest(SessionCase):
    def test_a_whole_batch_arrives_voxel_for_voxel(self):
        expected = {name: np.full(SHAPE, 3, np.uint8) for name in ("a", "b")}
        self.go(self.session.next)
        for number in range(10):
            item = self.session.current
            self.assertEqual(item.rank, number)
            expected[item.case][item.box.slices] = self.paint(1 + number % 2)
            if number < 9:
                self.go(self.session.submit)
        self.session.submit()
        self.all_sent()
        self.assertEqual(self.session.worklist.counts().done, 10)
        for name in ("a", "b"):
            np.testing.assert_array_equal(self.stored(name), expected[name])

    def test_half_done_paint_comes_back_after_a_crash_of_the_viewer(self):
        self.go(self.session.next)
        labels = self.paint(2)
        self.session.keep_draft()
        self.process.kill()
        slicer.mrmlScene.Clear()
        self.open()
        item = self.go(self.session.next)
        np.testing.assert_array_equal(
            self.session.case_nodes.segmentation(item.case).read(item.box), labels
        )

    def test_a_slice_that_is_asked_for_twice_keeps_what_is_painted_in_between(self):
        painted: list = []

        def paint_once(_item) -> None:
            if not painted:
                painted.append(self.paint(2))

        self.session.shown.connect(paint_once)
        sample = self.session.worklist.next_open(None).sample
        self.session.go_to(sample)
        self.session.go_to(sample)  # before the first answer
        self.pump.until(lambda: len(self.shown) == 2)
        np.testing.assert_array_equal(self.session.labels(), painted[0])

    def test_news_of_an_older_version_change_nothing(self):
        item = self.go(self.session.next)
        self.paint(1)
        self.go(self.session.submit)
        self.all_sent()
        for version, status in ((1, Status.TODO), (0, Status.DONE)):
            state = SampleState(item.sample, status, version)
            self.agent.event.emit(ProjectNews(self.project, 99, NewsKind.SAMPLE, content=state))
            known = self.session.worklist.find(item.sample)
            self.assertEqual((known.status, known.version), (Status.TODO, 1))

    def test_without_a_network_work_goes_on_and_arrives_later(self):
        self.go(self.session.next)
        self.go(self.session.step, 1)
        self.go(self.session.step, -1)
        self.stop()
        painted = [self.paint(1)]
        item = self.go(self.session.submit)
        painted.append(self.paint(2))
        again = self.go(self.session.go_to, 0)
        np.testing.assert_array_equal(
            self.session.case_nodes.segmentation("a").read(again.box), painted[0]
        )
        self.go(self.session.go_to, item.sample)
        self.session.submit(lambda: None)
        self.session.go_to(4)
        self.pump.until(lambda: self.failures)
        self.assertEqual((self.session.current.sample, self.session.labels().max()), (4, 0))
        self.assertRegex(
            str(self.failures[0]), "begins empty, as the proposal cannot be fetched: .*127.0.0.1"
        )
        self.failures.clear()
        self.process.kill()
        self.serve()
        self.pump.until(lambda: (self.stored("a")[:2] == np.concatenate(painted)).all())

    def test_a_finished_slice_is_opened_again_and_corrected(self):
        self.go(self.session.next)
        first = self.paint(1)
        self.go(self.session.submit)
        self.all_sent()
        self.open("bob")
        item = self.go(self.session.go_to, 0)
        self.assertEqual((item.status, item.version), ("done", 1))
        np.testing.assert_array_equal(
            self.session.case_nodes.segmentation("a").read(item.box), first
        )
        second = self.paint(2)
        self.go(self.session.submit)
        self.all_sent()
        np.testing.assert_array_equal(self.stored("a")[:1], second)
        self.assertEqual(self.session.worklist.find(0).version, 2)

    def test_skip_flag_and_nothing_here(self):
        self.go(self.session.next)
        self.go(self.session.set_status, Status.SKIPPED)
        self.go(self.session.set_status, Status.FLAGGED)
        self.paint(1)
        self.go(self.session.nothing_here)
        self.all_sent()
        statuses = [item.status for item in self.session.worklist]
        self.assertEqual(statuses[:3], ["skipped", "flagged", "done"])
        self.assertEqual(self.stored("a")[2].max(), 0)
        self.assertEqual(self.session.current.rank, 3)

    def test_a_slice_that_somebody_else_has_is_passed_over(self):
        self.go(self.session.next)
        first = self.session
        self.open("bob")
        item = self.go(self.session.next)
        self.assertEqual((first.current.rank, item.rank), (0, 1))

    def test_what_the_engine_says_of_a_slice_names_it(self):
        """The answer comes when the next one is on screen."""
        item = self.go(self.session.next)
        self.paint(1)
        self.session._current.base = 7  # a version that the engine does not have
        self.session.submit()
        self.pump.until(lambda: self.failures)
        place = f"{item.case}, slice {item.box.index + 1}: "
        self.assertTrue(self.failures[0].message.startswith(place), str(self.failures[0]))

    def test_a_scene_that_was_saved_brings_back_half_done_paint_without_a_draft(self):
        item = self.go(self.session.next)
        labels = self.paint(2)
        self.session.leave()  # as where the module is left before the scene is saved
        for file in self.folder.rglob("*.npz"):
            file.unlink()
        self.open()
        self.go(self.session.resume, item.sample)
        np.testing.assert_array_equal(self.session.labels(), labels)

    def test_a_closed_scene_loses_nothing(self):
        item = self.go(self.session.next)
        labels = self.paint(1)
        self.session.scene_closing()
        slicer.mrmlScene.Clear()
        self.assertIsNone(self.session.current)
        self.go(self.session.go_to, item.sample)
        np.testing.assert_array_equal(self.session.labels(), labels)

    def test_leaving_lifts_the_lock_and_coming_back_sets_it(self):
        self.go(self.session.next)
        canvas = self.session.case_nodes.canvas
        self.assertIsNot(canvas.node, canvas.case.node)
        self.session.leave()
        self.assertIs(canvas.node, canvas.case.node)
        self.assertEqual(self.editor.told[-1], "rest")
        self.go(self.session.enter)
        self.assertIsNot(canvas.node, canvas.case.node)
        self.session.locked = False
        self.assertIs(canvas.node, canvas.case.node)
        self.session.locked = True
        self.assertIsNot(canvas.node, canvas.case.node)

    def test_beginning_again_can_be_undone(self):
        self.go(self.session.next)
        self.paint(1)
        self.editor.told.clear()
        self.session.begin_again(proposal=False)
        self.assertEqual((self.editor.told, self.session.labels().max()), (["remember"], 0))
        self.paint(2)
        self.session.begin_again(proposal=True)  # there is no model yet: an empty one
        self.pump.until(lambda: self.session.labels().max() == 0)
        self.assertEqual(self.failures, [])
