"""Answers that come late, in another order or twice, while the person goes on: nothing that was
painted is lost, and nothing is shown that was not asked for last.
"""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import slicer
from held_answers import HeldAnswers
from session_case import SessionCase

from alunet.schema import Status
from ALUNetSlicerLib.annotate import drafts
from ALUNetSlicerLib.engine.jobs import JobTracker
from ALUNetSlicerLib.engine.messages import OutboxNews
from ALUNetSlicerLib.engine.refused import OutboxRefusals
from ALUNetSlicerLib.shell.own_slices import OwnSlices


class LateCase(SessionCase):
    def hold(self, *calls: str) -> HeldAnswers:
        return HeldAnswers(self.agent, *calls)

    def held(self, answers: HeldAnswers, count: int = 1) -> HeldAnswers:
        self.pump.until(lambda: len(answers) == count)
        return answers

    def hand_in(self, author: str, labels: np.ndarray, sample: int = 0) -> None:
        """As another person, or with labels that the panel would not paint."""
        file = self.folder / "labels.raw"
        file.write_bytes(np.ascontiguousarray(labels).tobytes())
        settled: list = []
        hear = lambda event: settled.append(event) if isinstance(event, OutboxNews) else None  # noqa: E731
        self.agent.event.connect(hear)
        given = {
            "project": self.project,
            "sample": sample,
            "file": str(file),
            "shape": list(labels.shape),
        }
        given |= {"dtype": "uint8", "base_version": 0, "author": author, "seconds": 1.0}
        self.agent.ask("submit", failed=lambda why: self.fail(str(why)), **given)
        self.pump.until(lambda: settled)
        self.agent.event.disconnect(hear)


class HandedInTest(LateCase):
    def test_what_is_painted_until_the_agent_has_the_slice_is_a_draft(self):
        first = self.go(self.session.next)
        self.paint(1)
        answers = self.hold("submit")
        self.session.submit()
        self.held(answers)
        painted = self.paint(2)
        self.go(self.session.go_to, 5)
        answers.let_go()
        self.assertEqual(self.session.current.sample, 5, "the person went elsewhere")
        self.all_sent()
        self.go(self.session.go_to, first.sample)
        np.testing.assert_array_equal(self.session.labels(), painted)
        self.go(self.session.submit)
        self.all_sent()
        self.assertEqual(self.session.worklist.find(first.sample).version, 2)

    def test_a_slice_that_was_begun_says_so_in_the_worklist(self):
        item = self.go(self.session.next)
        self.paint(1)
        self.go(self.session.step, 1)
        self.assertEqual(self.session.worklist.find(item.sample).status, Status.IN_PROGRESS)

    def test_done_twice_goes_one_slice_further(self):
        self.go(self.session.next)
        answers = self.hold("submit")
        self.session.submit()
        self.session.submit()
        self.held(answers, 2)
        self.go(answers.let_go)
        self.all_sent()
        self.assertEqual([item.rank for item in self.shown], [0, 1])

    def test_nothing_of_a_closed_project_is_shown_and_its_paint_is_a_draft(self):
        first = self.go(self.session.next)
        self.paint(1)
        submit, status = self.hold("submit"), self.hold("set_status", "worklist")
        self.session.submit()
        self.session.set_status(Status.FLAGGED)
        refreshed: list = []
        self.session.refresh(lambda: refreshed.append(1))
        self.held(submit)
        self.held(status, 2)
        painted = self.paint(2)
        self.session.close()
        status.let_go()
        submit.let_go()
        self.assertEqual((len(self.shown), refreshed), (1, []))
        self.open()
        self.go(self.session.go_to, first.sample)
        np.testing.assert_array_equal(self.session.labels(), painted)

    def test_a_draft_is_kept_at_intervals_also_after_the_last_slice_was_handed_in(self):
        with patch.object(drafts, "DRAFT_SECONDS", 0.05):
            item = self.go(self.session.next)
            self.session.submit(lambda: None)
            self.all_sent()
            painted = self.paint(2)
            known = self.session._drafts
            self.pump.until(lambda: known.find(item.sample) is not None)
        np.testing.assert_array_equal(known.find(item.sample).labels, painted)

    def test_a_draft_that_fails_once_is_kept_the_next_time(self):
        tried: list = []

        def save() -> None:
            tried.append(1)
            if len(tried) == 1:
                raise RuntimeError("a node vanished")

        with patch.object(drafts, "DRAFT_SECONDS", 0.01):
            autosave = drafts.Autosave(self.pump, save)
            autosave.start()
            with self.assertRaises(RuntimeError):
                self.pump.until(lambda: len(tried) == 2)
            self.pump.until(lambda: len(tried) == 2)
            autosave.stop()

    def test_a_status_that_arrived_before_the_agent_said_so_is_not_on_its_way(self):
        item = self.go(self.session.next)
        answers = self.hold("set_status")
        self.session.set_status(Status.SKIPPED)
        self.held(answers)
        self.all_sent()
        self.go(answers.let_go)
        known = self.session.worklist.find(item.sample)
        self.assertEqual((known.status, known.sent), (Status.SKIPPED, True))

    def test_of_two_that_are_on_their_way_the_newer_one_is_shown(self):
        item = self.go(self.session.next)
        self.stop()
        self.paint(1)
        self.session.submit(lambda: None)
        self.paint(2)
        second = self.session.labels()
        self.session.submit(lambda: None)
        news: list = []

        def look(event: object) -> None:
            if isinstance(event, OutboxNews) and event.stored is not None:
                news.append(self.session.worklist.find(item.sample).sent)

        self.agent.event.connect(look)
        self.serve()
        self.pump.until(lambda: len(news) == 2)
        self.assertEqual(news, [False, True])
        self.failures.clear()
        self.go(self.session.go_to, item.sample)
        np.testing.assert_array_equal(self.session.labels(), second)

    def test_after_a_conflict_the_other_persons_labels_are_shown_and_corrected(self):
        item = self.go(self.session.next)
        others = np.full(item.box.shape, 2, np.uint8)
        self.hand_in("bob", others, item.sample)
        self.paint(1)
        self.session.submit(lambda: None)
        self.pump.until(lambda: self.failures)
        self.assertEqual(self.failures[0].code, "stale_annotation")
        self.failures.clear()
        self.pump.until(lambda: self.session.worklist.find(item.sample).version == 1)
        self.go(self.session.go_to, item.sample)
        np.testing.assert_array_equal(self.session.labels(), others)
        self.paint(1)
        self.go(self.session.submit)
        self.all_sent()

    def test_labels_not_taken_are_forgotten_when_the_slice_went_on_from_them_alone(self):
        self.go(self.session.go_to, 5)
        refused = OutboxRefusals(self.agent)
        self.addCleanup(refused.close)
        self.hand_in("ann", np.ones((1, 3, 4), np.uint8))
        self.pump.until(lambda: len(refused.entries) == 1)
        for wanted, left in ((False, 1), (True, 0)):
            asked: list = []

            def take(*_found, wanted=wanted, asked=asked) -> bool:
                asked.append(1)
                return wanted

            refused.labels(refused.entries[0], take)
            self.pump.until(lambda asked=asked: asked)
            self.go(self.session.go_to, 0)
            self.paint(1 + wanted)
            self.go(self.session.submit)
            self.all_sent()
            self.pump.until(lambda left=left: len(refused.entries) == left)

    def test_paint_in_a_slice_that_is_taken_back_meanwhile_goes_on_from_what_it_is_then(self):
        item = self.go(self.session.next)
        self.paint(1)
        self.session.submit(lambda: None)
        self.all_sent()
        painted = self.paint(2)
        answers = self.hold("take_back")
        self.session.take_back()
        self.held(answers)
        self.go(self.session.go_to, 5)
        answers.let_go()
        self.assertEqual(self.failures, [])
        version = self.session.worklist.find(item.sample).version
        self.go(self.session.go_to, item.sample)
        np.testing.assert_array_equal(self.session.labels(), painted)
        self.assertEqual(self.session._current.base, version)
        self.go(self.session.submit)
        self.all_sent()


class WorklistTest(LateCase):
    def test_a_worklist_that_was_asked_for_before_a_slice_arrived_does_not_reopen_it(self):
        item = self.go(self.session.next)
        answers = self.hold("worklist")
        self.session.refresh()
        self.held(answers)
        self.paint(1)
        self.go(self.session.submit)
        self.all_sent()
        answers.let_go()
        known = self.session.worklist.find(item.sample)
        self.assertEqual((known.status, known.version), (Status.DONE, 1))

    def test_of_two_worklists_the_one_asked_for_last_counts(self):
        answers = self.hold("worklist")
        done: list = []
        self.session.refresh(lambda: done.append("first"))
        self.held(answers)
        leased: list = []
        about = {"project": self.project, "sample": 3, "author": "bob", "seconds": 60.0}
        self.agent.ask("lease", leased.append, **about)
        self.pump.until(lambda: leased)
        self.session.refresh(lambda: done.append("second"))
        self.held(answers, 2)
        answers.let_go(backwards=True)
        self.assertEqual(self.session.worklist.find(3).owner, "bob")
        self.assertEqual(done, ["second", "first"])

    def test_labels_of_a_version_before_are_asked_for_again(self):
        item = self.go(self.session.next)
        self.hand_in("bob", np.full(item.box.shape, 1, np.uint8), 2)
        self.pump.until(lambda: self.session.worklist.find(2).version == 1)
        self.go(self.session.go_to, 2)
        self.go(self.session.go_to, item.sample)
        self.session.worklist.change(2, version=2)
        answers = self.hold("annotation")
        self.session.go_to(2)
        self.held(answers)


class ShownTest(LateCase):
    def test_a_slice_whose_volume_went_while_its_labels_came_is_shown(self):
        answers = self.hold("proposal")
        self.session.go_to(0)
        self.held(answers)
        slicer.mrmlScene.RemoveNode(self.session.case_nodes.volume("a"))
        self.go(answers.let_go)
        self.assertEqual(self.session.current.sample, 0)

    def test_a_slice_that_comes_when_the_module_was_left_waits_until_it_is_opened_again(self):
        self.go(self.session.next)
        answers = self.hold("proposal", "submit")
        self.session.go_to(5)
        self.session.submit()
        self.held(answers, 2)
        self.session.leave()
        self.editor.told.clear()
        answers.let_go()
        self.assertEqual((len(self.shown), self.editor.told), (1, []))
        self.go(self.session.enter)
        self.assertEqual(self.session.current.sample, 5)

    def test_a_proposal_that_cannot_be_fetched_leaves_what_is_painted(self):
        self.go(self.session.next)
        painted = self.paint(1)
        self.session.new_proposals()
        self.stop()
        self.session.begin_again(proposal=True)
        self.pump.until(lambda: self.failures)
        np.testing.assert_array_equal(self.session.labels(), painted)

    def test_a_proposal_of_the_model_before_is_not_kept_for_the_next(self):
        answers = self.hold("proposal")
        self.session.go_to(0)
        self.held(answers)
        self.session.new_proposals()
        self.go(answers.let_go)
        self.assertFalse(self.session._initial_labels.knows(0))

    def test_a_slice_that_is_handed_in_outdates_the_proposals_of_its_case_alone(self):
        """Those of other cases were fetched ahead: they are shown without waiting."""
        labels = self.session._initial_labels
        samples = [item.sample for item in self.session.worklist if item.case == "a"]
        other = next(item.sample for item in self.session.worklist if item.case == "b")
        for sample in (samples[1], other, samples[0]):
            self.go(lambda sample=sample: self.session.go_to(sample))
        self.assertTrue(labels.knows(samples[1]) and labels.knows(other))
        self.session.submit()
        self.assertFalse(labels.knows(samples[1]))
        self.assertTrue(labels.knows(other))


class ElsewhereTest(LateCase):
    def brush(self, value: int, rows: slice, *slices: int) -> None:
        segmentation = self.session.case_nodes.canvas.case
        labels = segmentation.read_all()
        for index in slices:
            labels[index, rows, 2:6] = value
        segmentation.write_all(labels)

    def test_paint_over_paint_whose_slice_is_still_asked_for_is_kept_with_it(self):
        first = self.go(self.session.next)
        self.hand_in("ann", np.full(first.box.shape, 1, np.uint8), 1)
        self.pump.until(lambda: self.session.worklist.find(1).version == 1)
        item = self.session.worklist.find(1)
        self.session.locked = False
        answers = self.hold("annotation")
        expected = np.full(item.box.shape, 1, np.uint8)
        for rows in (slice(2, 6), slice(10, 12)):
            self.brush(2, rows, item.box.index)
            expected[0, rows, 2:6] = 2
            self.session.keep_draft()
        self.session.go_to(1)
        self.held(answers)
        self.go(answers.let_go)
        np.testing.assert_array_equal(self.session.labels(), expected)

    def test_paint_that_was_to_be_handed_in_is_a_draft_where_the_project_is_closed(self):
        first = self.go(self.session.next)
        self.session.worklist.fill([first])
        self.session.locked = False
        self.brush(1, slice(2, 6), 1)
        self.session.keep_draft()
        jobs = JobTracker(self.agent, self.project)
        own = OwnSlices(self.agent, self.project, "ann", self.session, jobs, lambda: None)
        answers = self.hold("add_slice")
        own.hand_in(self.session.other_slices.take_further())
        self.held(answers)
        for part in (own, jobs, self.session):
            part.close()
        answers.let_go()
        self.open()
        begun = [item for item in self.session.worklist if item.status == Status.IN_PROGRESS]
        self.assertEqual([(item.case, item.box.index) for item in begun], [(first.case, 1)])
        self.go(self.session.go_to, begun[0].sample)
        self.assertEqual(self.session.labels().sum(), 16)
