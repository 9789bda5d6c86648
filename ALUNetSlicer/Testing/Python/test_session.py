"""One person's flow through a batch, against a real agent and a real service: what is painted
arrives.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import slicer
from engines import PYTHON, environment, serve, stop
from pump import PipeProcess, Pump, agent_command
from scenes import QuietEditor, SceneTest

from alunet.schema import Status
from ALUNetSlicerLib.annotate.person import Person
from ALUNetSlicerLib.annotate.session import AnnotationSession
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.messages import ConnectionNews

SHAPE = (5, 20, 24)
_HELPERS = str(Path(__file__).resolve().parents[1])
_POOL = """
import sys
from pathlib import Path
import numpy as np
import SimpleITK as sitk
from planned_project import plan, suggest
from alunet.project import Project

root = Path(sys.argv[1])
shape = (5, 20, 24)
labels = {"background": 0, "organ": 1, "lesion": 2}
with Project.create(root / "p", name="p", labels=labels, channels=["CT"]) as made:
    for name in ("a", "b"):
        image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 500, shape, np.int16))
        image.SetSpacing((0.7, 0.8, 3))
        image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
        sitk.WriteImage(image, str(root / f"{name}.nii.gz"))
        made.cases.import_case(name, [root / f"{name}.nii.gz"])
    suggest(plan(made), range(10), reasons=[f"reason {n}" for n in range(10)])
"""


def is_online(event: object) -> bool:
    return isinstance(event, ConnectionNews) and event.state == "online"


class SessionTest(SceneTest):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.pump = Path(folder.name), Pump()
        self.environment = environment()
        self.root = self.folder / "root"
        self.root.mkdir()
        helpers = {"PYTHONPATH": os.pathsep.join([self.environment["PYTHONPATH"], _HELPERS])}
        subprocess.run(
            [PYTHON, "-c", _POOL, str(self.root)], env={**self.environment, **helpers}, check=True
        )
        self.port = 0
        self.serve()
        self.addCleanup(self.stop)
        self.failures: list = []
        self.shown: list = []
        self.open()

    def serve(self) -> None:
        self.service, self.address, self.token = serve(self.root, self.port)
        self.port = int(self.address.rsplit(":", 1)[1])

    def stop(self) -> None:
        stop(self.service)

    def open(self, author: str = "ann") -> None:
        """As a viewer does when it starts."""
        self.failures.clear()
        self.process = PipeProcess(self.pump, agent_command(self.folder / "home"), self.environment)
        self.agent = AgentProcess(self.process, self.pump)
        self.agent.start()
        self.agent.ask("choose", to=self.address, token=self.token)
        self.agent.ask("follow", project="p", after=0)
        online: list = []
        self.agent.event.connect(lambda event: online.append(1) if is_online(event) else None)
        self.pump.until(lambda: online)
        labels = {"background": 0, "organ": 1, "lesion": 2}
        self.editor = QuietEditor()
        self.session = AnnotationSession(
            self.agent,
            self.pump,
            Person(author, self.folder),
            self.address,
            "p",
            labels,
            lambda: None,
            self.editor,
        )
        self.session.failed.connect(self.failures.append)
        self.session.shown.connect(self.shown.append)
        self.addCleanup(self.agent.close)
        ready: list = []
        self.session.refresh(lambda: ready.append(1))
        self.pump.until(lambda: ready)

    def go(self, action, *values):
        """Do it, and wait until another slice is on screen."""
        seen = len(self.shown)
        action(*values)
        self.pump.until(lambda: len(self.shown) > seen or self.failures)
        self.assertEqual(self.failures, [])
        return self.shown[-1]

    def paint(self, value: int) -> np.ndarray:
        """A blot in the slice on screen, through its segmentation."""
        item = self.session.current
        segmentation = self.session.case_nodes.segmentation(item.case)
        labels = segmentation.read(item.box)
        labels[:, 5:9, 3 : 6 + value] = value
        segmentation.write(item.box, labels)
        return labels

    def stored(self, case: str) -> np.ndarray:
        program = (
            "import sys\nfrom alunet.project import Project\n"
            "with Project.open(sys.argv[1], read_only=True) as p:\n"
            "    sys.stdout.buffer.write(p.annotations.read(sys.argv[2]))"
        )
        done = subprocess.run(
            [PYTHON, "-c", program, str(self.root / "p"), case],
            env=self.environment,
            check=True,
            capture_output=True,
        )
        return np.frombuffer(done.stdout, np.uint8).reshape(SHAPE)

    def all_sent(self) -> None:
        """Wait until the engine has all that was handed in."""
        self.pump.until(lambda: self.session.worklist.counts().unsent == 0)
        self.assertEqual(self.failures, [])

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
