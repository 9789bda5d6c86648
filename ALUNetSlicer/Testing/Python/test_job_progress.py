"""What a person is told of long work, from the events that the engine really sends."""

from __future__ import annotations

import unittest

from alunet.schema import JobKind, JobState
from ALUNetSlicerLib.engine.jobs import JobProgress
from ALUNetSlicerLib.engine.messages import TransferNews, read_news
from ALUNetSlicerLib.panel.project import upload_words


class JobTest(unittest.TestCase):
    def told(self, *events: tuple[str, dict]) -> JobProgress:
        job = JobProgress(1, JobKind.ROUND, JobState.RUNNING)
        for kind, data in events:
            job = job.told(read_news(kind, data))
        return job

    def test_a_step_begins_a_phase_of_which_nothing_is_known_yet(self):
        score = {
            "phase": "score: entropy",
            "done": 3,
            "total": 9,
            "unit": "slices",
            "seconds_left": 4.0,
        }
        job = self.told(("progress", score), ("step", {"name": "train", "state": "started"}))
        self.assertEqual((job.phase, job.total, job.unit, job.seconds_left), ("train", 0, "", None))
        job = self.told(
            ("progress", score), ("step", {"name": "train", "state": "finished", "seconds": 1.0})
        )
        self.assertEqual((job.phase, job.done), ("score: entropy", 3))

    def test_a_training_tells_steps_and_epochs_and_keeps_its_dice(self):
        epoch = {"epoch": 1, "epochs": 2, "loss": 0.2, "dice": 0.5, "seconds_left": 30.0}
        steps = {"phase": "train", "done": 60, "total": 100, "unit": "steps", "seconds_left": 20.0}
        job = self.told(("epoch", epoch))
        self.assertEqual((job.done, job.total, job.unit, job.dice), (1, 2, "epochs", 0.5))
        job = self.told(("epoch", epoch), ("progress", steps))
        self.assertEqual(
            (job.done, job.total, job.unit, job.dice, job.seconds_left),
            (60, 100, "steps", 0.5, 20.0),
        )

    def test_how_far_a_case_is_in_words(self):
        def words(phase: str, done: float = 0, total: float = 0, **more) -> str:
            return upload_words(2, 3, TransferNews(1, phase, done, total, **more))

        self.assertEqual(words("upload", 3, 12), "Sending case 2 of 3 · 25 %")
        self.assertEqual(
            words("check", 0.5, 1, seconds_left=130.0),
            "Checking case 2 of 3 · 50 % · 2 min left",
        )
        why = "Job 4 of this project comes first."
        self.assertEqual(words("wait", waiting=why), f"Waiting with case 2 of 3. {why}")


if __name__ == "__main__":
    unittest.main()
