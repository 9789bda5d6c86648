"""What a script can do from Slicer's Python console, against a real agent, a real service and
the real nnU-Net.
"""

from __future__ import annotations

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import slicer
from engines import PYTHON, real_images, serve, slow, stop
from scenes import SceneTest

from alunet.schema import SLICE, TILE
from ALUNetSlicerLib.engine.results import plot
from ALUNetSlicerLib.ports import qt_ports
from ALUNetSlicerLib.shell import sample_data
from ALUNetSlicerLib.shell.console import Console


@slow
class ConsoleTest(SceneTest):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.charts: list = []
        for target, name, value in (
            (qt_ports, "data_folder", lambda: str(self.folder / "mine")),
            (qt_ports.QtDesktop, "chart", lambda desktop, chart: self.charts.append(chart)),
        ):
            patched = patch.object(target, name, value)
            patched.start()
            self.addCleanup(patched.stop)
        qt_ports.QtSettings().set("python", PYTHON)
        self.logic = Console()
        self.addCleanup(self.end)

    def end(self) -> None:
        self.logic.workspace.close()
        self.logic.workspace.agent.close()
        qt_ports.wait_for_ending()

    def job(self) -> object:
        jobs = self.logic.workspace.jobs
        return None if jobs is None else jobs.current

    def wait(self, condition, seconds: float = 120.0, progress=None) -> None:
        """There is more time where a job, or what `progress` gives, is further meanwhile."""
        progress = progress or self.job
        before = progress()
        while not self.logic.wait(condition, seconds):
            now = progress()
            self.assertNotEqual(now, before, "waited in vain")
            before = now

    def serve(self) -> tuple[str, str]:
        service, address, token = serve(self.folder / "root")
        self.addCleanup(stop, service)
        return address, token

    def test_the_loop_by_a_script(self):
        logic = self.logic
        with self.assertRaisesRegex(RuntimeError, "openProject"):
            logic.nextSlice()
        logic.connect(*self.serve())
        self.wait(lambda: logic.online)
        logic.createProject("By script", ["organ", "lesion"], preset="quick", train_for=30)
        self.wait(lambda: logic.session is not None)
        self.opened_by_name("By script")
        added: list = []
        logic.addVolumes(sample_data.load()[:2], lambda: added.append(1))
        self.wait(lambda: added)
        logic.nextRound(strategy="spread", budget=3)
        self.wait(lambda: len(logic.session.worklist))
        self.wait(lambda: logic.workspace.jobs.current is None)
        self.label_three()
        logic.nextRound(strategy="entropy", budget=2, train_for=1)
        self.wait(lambda: logic.session.worklist.round == 1, 300)
        self.wait(lambda: logic.workspace.status.rounds[0].train_seconds is not None)
        self.assertEqual(logic.workspace.status.train_for, 30)
        points: list = []
        logic.workspace.results.curve(points.extend, lambda why: self.fail(str(why)))
        self.wait(lambda: points)
        self.is_plotted(points)

    def test_a_script_says_whether_whole_slices_are_suggested(self):
        logic = self.logic
        logic.connect(*self.serve())
        self.wait(lambda: logic.online)
        for unit in (SLICE, TILE):
            logic.createProject(unit, ["organ"], unit=unit)
            self.wait(lambda unit=unit: getattr(logic.workspace.project, "name", "") == unit)
            self.assertEqual(logic.workspace.status.unit, unit)
        with self.assertLogs(level="ERROR") as said:
            logic.createProject("other", ["organ"], unit="volume")
            self.wait(lambda: said.output)
        self.assertIn("There is no unit 'volume'. Use one of tile, slice.", said.output[0])

    def opened_by_name(self, name: str) -> None:
        logic = self.logic
        before = logic.session
        with self.assertLogs(level="ERROR") as said:
            logic.openProject("Nobody's")
            self.wait(lambda: said.output)
        self.assertIn(f"There is no project 'Nobody's'. There are: {name}.", said.output[0])
        logic.openProject(name)
        self.wait(lambda: logic.session not in (None, before))

    def label_three(self) -> None:
        logic = self.logic
        logic.nextSlice()
        self.wait(lambda: logic.currentSlice is not None)
        first = logic.currentSlice.sample
        labels = logic.labels()
        self.assertEqual(labels.shape, logic.currentSlice.box.shape)
        labels[..., 20:40, 20:40] = 1
        logic.setLabels(labels)
        np.testing.assert_array_equal(logic.labels(), labels)
        logic.submit()
        self.wait(lambda: logic.currentSlice.sample != first)
        skipped = logic.currentSlice.sample
        logic.skip()
        self.wait(lambda: logic.currentSlice.sample != skipped)
        logic.setLabels(np.where(logic.labels() == 0, 2, 0).astype(np.uint8))
        logic.submit()
        self.wait(lambda: logic.session.worklist.counts().unsent == 0)
        statuses = [row.status for row in logic.session.worklist if not row.ahead]
        self.assertEqual(statuses, ["done", "skipped", "done"])
        logic.goTo(first)
        self.wait(lambda: logic.currentSlice.sample == first)
        np.testing.assert_array_equal(logic.labels(), labels)

    def is_plotted(self, points: list) -> None:
        """Without test cases the curves are of the slices that the model learned from, and say
        so.
        """
        chart = plot(points)
        self.assertEqual(chart.GetYAxisTitle(), "Dice on annotated slices")
        self.assertEqual(set(points[0].training), {"organ", "lesion", "mean"})
        self.assertEqual(
            chart.GetNumberOfPlotSeriesNodes(),
            sum(d is not None for d in points[0].training.values()),
        )
        found = {"dice": {"organ": 0.5, "lesion": None, "mean": 0.5}, "far": {"mean": 7}}
        tested = [replace(point, metrics=found) for point in points]
        self.assertIs(plot(tested), chart)
        self.assertEqual(chart.GetYAxisTitle(), "Dice on the test cases")
        self.assertEqual(
            chart.GetNumberOfPlotSeriesNodes(), 2, "a structure that no case has is no curve"
        )
        self.assertEqual(
            plot(tested, "far", "Distance").GetYAxisTitle(), "Distance on the test cases"
        )
        self.assertTrue(chart.GetYAxisRangeAuto(), "7 is no share")
        earlier = [replace(point, metrics={}, training_metrics={}) for point in points]
        self.assertEqual(
            plot(earlier).GetYAxisTitle(), "Dice on annotated slices", "of an earlier engine"
        )
        self.assertIsNone(plot([replace(earlier[0], training=dict.fromkeys(points[0].training))]))

    def test_a_simulation_in_the_background(self):
        data = str(real_images("Task04_Hippocampus"))
        options = {"rounds": 1, "budget": 2, "initial": 4, "epochs": 1, "iterations": 1, "limit": 5}
        study = self.logic.simulate(data, str(self.folder / "study"), ["random"], **options)
        lines: list = []
        study.line.connect(lines.append)
        ended = self.ended(study)
        self.assertEqual(ended, [None])
        self.assertTrue(lines)
        curves = study.curves()
        self.assertEqual(list(curves), ["random"])
        self.assertEqual(len(curves["random"]), 2)
        self.assertEqual(
            slicer.mrmlScene.GetFirstNodeByName("Dice, random").GetXColumnName(), "labeled slices"
        )
        self.assertEqual(len(self.charts), 1)
        again = self.logic.simulate(
            "/no/such/folder", str(self.folder / "study"), ["random"], **options
        )
        self.assertIn(
            "/no/such/folder",
            str(self.ended(again)[0]),
            "an older result does not make it a success",
        )
        stopped = self.logic.simulate(data, str(self.folder / "other"), ["random"], **options)
        ended = []
        stopped.ended.connect(ended.append)
        stopped.cancel()
        self.assertEqual([why.code for why in ended], ["cancelled"])
        self.assertFalse(stopped.running)

    def ended(self, study) -> list:
        ended: list = []
        said: list = []
        study.ended.connect(ended.append)
        study.line.connect(said.append)
        self.wait(lambda: ended, 300, lambda: len(said))
        return ended


if __name__ == "__main__":
    unittest.main()
