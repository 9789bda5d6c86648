"""Messages: when, why and what to do, until what failed has worked; all stay in the log."""

from __future__ import annotations

import time
import unittest

from alunet.schema import JobKind, JobState
from ALUNetSlicerLib.annotate.work_clock import IDLE_SECONDS, WorkClock
from ALUNetSlicerLib.annotate.worklist import Slice, SliceWorklist
from ALUNetSlicerLib.engine.agent_process import last_words
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.engine.jobs import JobProgress
from ALUNetSlicerLib.engine.messages import JobNews
from ALUNetSlicerLib.mrml.slice_geometry import Box
from ALUNetSlicerLib.panel.annotate import short
from ALUNetSlicerLib.panel.units import left
from ALUNetSlicerLib.shell.notices import KEPT, Notices


def failure(about: str, message: str = "It failed.") -> Failure:
    return Failure("any", message, "Do this.", about=about)


class NoticesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = time.mktime((2026, 3, 4, 14, 5, 0, 0, 0, -1))
        self.notices, self.changes = Notices(lambda: self.now), []
        self.notices.changed.connect(lambda: self.changes.append(1))

    def shown(self) -> list[str]:
        return [notice.about for notice in self.notices.open]

    def test_a_message_stays_until_that_kind_of_thing_works(self):
        self.notices.add(failure("export"))
        self.notices.add(failure("segment"))
        self.notices.settle("something else")
        self.assertEqual((self.shown(), len(self.changes)), (["export", "segment"], 2))
        self.notices.settle("segment")
        self.assertEqual(self.shown(), ["export"], "the one before is shown again")
        self.assertEqual(self.notices.open[-1].clock, "14:05")
        self.notices.settle("export")
        self.assertEqual(self.shown(), [])
        self.assertEqual([notice.past for notice in self.notices.log], [True, True])

    def test_the_last_word_on_a_thing_counts_and_the_same_again_is_counted(self):
        self.notices.add(failure("draft", "The disk is full."))
        self.notices.add(failure("draft", "The disk is full."))
        self.assertEqual([notice.count for notice in self.notices.log], [2])
        self.notices.add(failure("draft", "The disk is gone."))
        self.assertEqual(
            [str(notice.why) for notice in self.notices.open], ["The disk is gone. Do this."]
        )
        self.assertEqual(len(self.notices.log), 2)

    def test_a_person_puts_them_away_and_the_log_keeps_the_newest(self):
        for number in range(KEPT + 3):
            self.notices.add(failure(str(number)))
        self.notices.put_away(but=[str(KEPT)])
        self.assertEqual(self.shown(), [str(KEPT)])
        self.assertEqual(len(self.notices.log), KEPT)

    def test_of_a_traceback_the_last_line_is_said(self):
        words = (
            'Traceback (most recent call last):\n  File "a.py", line 1\nImportError: no alunet\n\n'
        )
        self.assertEqual(last_words(words), "ImportError: no alunet")
        self.assertEqual(last_words(""), "it gave no reason")


class Time:
    """A clock of the test."""

    at = 0.0

    def now(self) -> float:
        return self.at


class TimeTest(unittest.TestCase):
    def test_time_is_counted_while_somebody_works(self):
        time_, expected = Time(), 5.0
        clock = WorkClock(time_)
        clock.begin(5.0)
        for gap in (10.0, 59.0, 600.0, 1.0):
            time_.at += gap
            expected += min(gap, IDLE_SECONDS)
            self.assertAlmostEqual(clock.seconds, expected)
            clock.touch()
        time_.at += 3600
        self.assertAlmostEqual(clock.seconds, expected + IDLE_SECONDS, msg="and then it stands")
        time_.at += 3600
        self.assertAlmostEqual(clock.seconds, expected + IDLE_SECONDS)

    def test_an_estimate_is_told_when_it_is_worth_something(self):
        self.assertEqual(left(300.0, 1, 100), "")
        self.assertEqual(left(300.0, 5, 100), "5 min left")
        self.assertEqual(left(None, 50, 100), "")

    def test_a_queued_job_says_whom_it_waits_for(self):
        job = JobProgress(3, JobKind.EXPORT, JobState.QUEUED)
        why = "Waits for the next round (job 2)."
        job = job.told(JobNews(JobKind.EXPORT, JobState.QUEUED, why))
        self.assertEqual((job.state, job.waiting), (JobState.QUEUED, why))


class WorklistTest(unittest.TestCase):
    def worklist(self, states: str) -> SliceWorklist:
        """A slice a letter: open or done, capital letters of the batch, others ahead."""
        words = {"o": "todo", "d": "done"}
        made = SliceWorklist()
        made.fill(
            [
                Slice(number, 0, number, "a", Box(0, ((number, number + 1), (0, 4), (0, 4))), "",
                      None, letter.islower(), words[letter.lower()], 0)
                for number, letter in enumerate(states)
            ]
        )  # fmt: skip
        return made

    def test_the_batch_comes_before_what_is_ahead_wherever_somebody_is(self):
        for states, after, expected in (
            ("OODoo", None, 0),
            ("DODoo", 2, 1),  # round to the one that was passed over
            ("ODDoo", 3, 0),  # also from a row that is ahead
            ("ODOoo", 0, 2),
            ("DDDoo", 1, 3),
            ("DDDoo", 4, 3),
            ("DDDdd", 1, None),
        ):
            found = self.worklist(states).next_open(after)
            self.assertEqual(None if found is None else found.sample, expected, (states, after))

    def test_why_is_a_few_words(self):
        for reason, expected in (
            ("largest gradient, length 3.2; number 1", "largest gradient"),
            ("entropy 0.43 bits: more than 99 % of the others", "entropy 0.43 bits"),
            ("", ""),
            ("all gradients are picked already: drawn at random", "all gradients are"),
        ):
            self.assertTrue(short(reason).startswith(expected), short(reason))
            self.assertLessEqual(len(short(reason)), 25)


if __name__ == "__main__":
    unittest.main()
