"""Two full rounds from volumes in the scene, against a real agent, a real service and the real
nnU-Net.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
from engine_case import EngineCase
from engines import slow
from scenes import QuietEditor, make_volume

from ALUNetSlicerLib.annotate.person import Person
from ALUNetSlicerLib.annotate.session import AnnotationSession
from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.engine.case_upload import CaseUpload, case_name
from ALUNetSlicerLib.engine.jobs import JobTracker

SHAPE = (6, 40, 44)


@slow
class RoundsTest(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        made = self.ask(
            "create_project",
            name="Two rounds",
            labels=["organ"],
            channels=["CT"],
            epochs=1,
            iterations=2,
        )
        self.project, self.labels = made.id, made.labels
        self.agent.ask("follow", project=self.project, after=0)
        self.jobs = JobTracker(self.agent, self.project)
        self.told: list = []
        self.jobs.changed.connect(self.told.append)
        self.failures: list = []

    def add(self, count: int) -> dict[str, np.ndarray]:
        """Volumes with a bright ball, as cases of the project; gives where the balls are."""
        place = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
        truths, cases = {}, []
        for number in range(count):
            truth = np.linalg.norm((place - (3, 18 + number, 20)) * (3, 1, 1), axis=-1) < 9
            voxels = self.generator.normal(0, 30, SHAPE) + 200 * truth
            matrix = np.array(
                [[0, -0.9, 0, 5], [0.8, 0, 0, -7], [0, 0, 2.5, 3], [0, 0, 0, 1]], float
            )
            volume = make_volume(voxels.astype(np.int16), matrix, f"Scan #{number}")
            name = case_name(volume, list(truths))
            truths[name] = truth
            cases.append((name, [volume]))
        arrived: list = []
        finished: list = []
        case_upload = CaseUpload(self.agent, self.project, self.folder)
        case_upload.send(cases, arrived.append, lambda: finished.append(1), self.failures.append)
        self.pump.until(lambda: finished or self.failures)
        self.assertEqual((self.failures, arrived), ([], list(truths)))
        self.assertEqual(list(self.folder.glob("*.nrrd")), [], "nothing is left on its way")
        return truths

    def round(self, **options):
        ended: list = []
        self.jobs.start("round", options, ended.append, self.failures.append)
        self.pump.until(lambda: ended or self.failures, 300, lambda: len(self.told))
        self.assertEqual(self.failures, [])
        return ended[0]

    def annotate(self, truths: dict[str, np.ndarray], session: AnnotationSession) -> None:
        """The batch, by somebody who paints what is there."""
        shown: list = []
        session.shown.connect(shown.append)
        session.failed.connect(self.failures.append)
        ready: list = []
        session.refresh(lambda: ready.append(1))
        self.pump.until(lambda: ready)
        batch = [item for item in session.worklist if not item.ahead]
        for item in batch:
            session.go_to(item.sample)
            self.pump.until(
                lambda sample=item.sample: (shown and shown[-1].sample == sample) or self.failures
            )
            truth = truths[item.case][item.box.slices].astype(np.uint8)
            session.case_nodes.segmentation(item.case).write(item.box, truth)
            session.submit(lambda: None)
        self.pump.until(lambda: session.worklist.counts().unsent == 0 or self.failures)
        self.assertEqual(self.failures, [])
        self.assertEqual(session.worklist.counts().done, len(batch))

    def session(self) -> AnnotationSession:
        return AnnotationSession(
            self.agent,
            self.pump,
            Person("ann", self.folder),
            "engine",
            self.project,
            self.labels,
            lambda: None,
            QuietEditor(),
        )

    def begin_one_ahead(self, session: AnnotationSession) -> tuple[Slice, np.ndarray]:
        """A slice for the time of the training is begun, and not handed in."""
        item = next(item for item in session.worklist if item.ahead)
        session.go_to(item.sample)
        self.pump.until(
            lambda: session.current is not None and session.current.sample == item.sample
        )
        half = np.zeros(item.box.shape, np.uint8)
        half[..., 3:9, 4:11] = 1
        session.paint(half)
        return item, half

    def it_is_found_again(self, session: AnnotationSession, begun: Slice, half: np.ndarray) -> None:
        """After the round, in a viewer that was started anew, whatever the next batch is."""
        ready: list = []
        session.refresh(lambda: ready.append(1))
        self.pump.until(lambda: ready)
        self.assertEqual(session.worklist.find(begun.sample).status, "in_progress")
        session.pick_up()
        self.pump.until(lambda: session.current is not None)
        self.assertEqual((session.current.sample, session.current.box), (begun.sample, begun.box))
        np.testing.assert_array_equal(session.labels(), half)
        session.submit(lambda: None)
        self.pump.until(lambda: session.worklist.counts().unsent == 0)
        self.assertEqual(session.worklist.find(begun.sample).status, "done")

    def test_two_rounds(self):
        truths = self.add(2)
        self.assertEqual(list(truths), ["Scan_0", "Scan_1"])
        self.assertEqual(self.round(budget=3).state, "done")
        session = self.session()
        self.annotate(truths, session)
        begun, half = self.begin_one_ahead(session)
        session.close()
        self.told.clear()
        self.assertEqual(self.round(strategy="entropy", budget=3).state, "done")
        session = self.session()
        self.addCleanup(session.close)
        self.it_is_found_again(session, begun, half)
        phases = {job.phase for job in self.told}
        self.assertIn("train", phases)
        self.assertEqual(self.told[-1].state, "done")
        self.assertIsNone(self.jobs.current)
        self.annotate(truths, session)
        self.assertEqual({item.round for item in session.worklist if not item.ahead}, {1})
        case = self.ask("cases", project=self.project)[0]
        self.assertEqual(list(case.shape), list(SHAPE))
        stored = self.ask("fetch", project=self.project, case="Scan_0", what="images/0")
        volume = session.case_nodes.load("again", Path(stored.file))
        original = slicer.mrmlScene.GetFirstNodeByName("Scan #0")
        np.testing.assert_array_equal(
            slicer.util.arrayFromVolume(volume), slicer.util.arrayFromVolume(original), "bit by bit"
        )

    def test_a_cancelled_round_ends_and_the_next_one_works(self):
        self.add(1)
        ended: list = []
        self.jobs.start("round", {"budget": 2}, ended.append, self.failures.append)
        self.pump.until(lambda: self.jobs.current is not None)
        other = JobTracker(self.agent, self.project)  # a viewer that was started again
        other.refresh()
        self.pump.until(lambda: other.current is not None)
        self.assertEqual(other.current.id, self.jobs.current.id)
        other.close()
        self.jobs.cancel()
        self.pump.until(lambda: ended)
        self.assertEqual(ended[0].state, "cancelled")
        self.assertEqual(self.round(budget=2).state, "done")
