"""Answers that come to the panel late, or in another order: they count for the project that they
were asked for, while that is open.
"""

from __future__ import annotations

import os
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from held_answers import HeldAnswers
from planned_panel import PlannedPanel

from alunet.schema import JobKind
from ALUNetSlicerLib.ports import qt_ports
from ALUNetSlicerLib.shell.leftovers import remove_leftovers


class TimerTest(unittest.TestCase):
    def test_what_is_to_be_done_later_is_done_also_where_nothing_can_call_it_off(self):
        timer, done = qt_ports.QtTimer(), []
        timer.later(0.0, lambda: done.append("forgotten"))
        timer.later(0.0, lambda: done.append("called off"))()
        end = time.monotonic() + 10
        while not done and time.monotonic() < end:
            slicer.app.processEvents()
        slicer.app.processEvents()
        self.assertEqual((done, timer._timers), (["forgotten"], {}))


class LeftoversTest(unittest.TestCase):
    def test_files_of_a_crash_are_removed_after_a_day_and_drafts_stay(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "drafts").mkdir()
            for file, age in (("a.raw", 2), ("b.nrrd", 2), ("c.raw", 0.5), ("drafts/1.npz", 9)):
                (folder / file).touch()
                at = time.time() - age * 24 * 3600
                os.utime(folder / file, (at, at))
            remove_leftovers(folder)
            left = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*"))
            self.assertEqual(left, ["c.raw", str(Path("drafts/1.npz"))])


class LateTest(PlannedPanel):
    def hold(self, *calls: str) -> HeldAnswers:
        return HeldAnswers(self.workspace.agent, *calls)

    def held(self, answers: HeldAnswers, count: int = 1) -> HeldAnswers:
        self.until(lambda: len(answers) >= count)
        return answers

    def test_what_was_asked_for_a_project_that_is_closed_meanwhile_changes_nothing(self):
        self.connect()
        self.until(lambda: self.ui.openButton.enabled)
        answers = self.hold("project")
        self.click("openButton")
        self.held(answers)
        self.workspace.close()
        answers.let_go()
        self.assertIsNone(self.workspace.project)
        self.begin_here()
        folder = self.folder / "images"
        folder.mkdir()
        image = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.int16))
        sitk.WriteImage(image, str(folder / "c.nii.gz"))
        self.answers.folder_answer = str(folder)
        answers = self.hold("read_folder", "curve")
        self.workspace.project_changed.emit()  # it asks for the curve
        self.click("addFolderButton")
        self.held(answers, 2)
        self.answers.asked.clear()
        self.workspace.close()
        self.workspace.open("p")
        self.until(lambda: self.workspace.session is not None)
        answers.let_go()
        self.assertEqual(self.answers.asked, [], "it was to be sent to the project before")
        self.assertTrue(self.ui.cancelAddButton.isHidden())

    def begin_here(self) -> None:
        self.click("openButton")
        self.until(lambda: self.ui.worklistTable.rowCount)
        self.pick("worklistTable", 0)
        self.until(lambda: self.shown() == 0)

    def test_a_volume_under_a_bent_transform_is_no_slice_to_add(self):
        self.begin()
        volume = self.workspace.session.case_nodes.volume("a")
        bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
        bent.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
        volume.SetAndObserveTransformNodeID(bent.GetID())
        self.click("addSliceButton")
        self.assertIn("shows no case of this project", self.ui.messageLabel.text)

    def test_of_two_answers_about_a_project_the_newer_counts(self):
        self.begin()
        answers = self.hold("project")
        self.workspace.refresh()
        self.held(answers)
        told: list = []
        given = {"project": "p", "name": "vessel", "author": "Bob"}
        self.workspace.agent.ask("add_structure", told.append, told.append, **given)
        self.held(answers, 2)
        answers.let_go(backwards=True)
        self.assertEqual(self.workspace.project.labels["vessel"], 3)
        painted = np.full(self.workspace.session.current.box.shape, 3, np.uint8)
        self.workspace.session.paint(painted)
        np.testing.assert_array_equal(self.workspace.session.labels(), painted)

    def test_an_answer_that_cannot_be_had_ends_what_waits_for_it(self):
        self.begin()
        answers, done = self.hold("project"), []
        self.workspace.refresh(lambda: done.append(1))
        self.held(answers)
        message = answers[0].args[1]
        message["error"] = {"code": "unreachable", "message": "Not reached.", "hint": ""}
        answers.let_go()
        self.assertEqual(done, [1])
        self.assertIn("Not reached.", self.ui.messageLabel.text)

    def map_of_the_slice(self, values: np.ndarray) -> HeldAnswers:
        """The engine's answer about the uncertainty of the slice on screen, held back."""
        answers = self.hold("uncertainty")
        self.workspace.session.set_overlay(True)
        self.held(answers)
        values.tofile(self.folder / "map.raw")
        message = answers[0].args[1]
        message.pop("error", None)
        file = {"file": str(self.folder / "map.raw"), "shape": list(values.shape)}
        message["result"] = file | {"dtype": "float32", "version": 0}
        return answers

    def test_uncertainty_is_laid_over_its_own_slice_alone(self):
        if slicer.app.layoutManager() is None:
            self.skipTest("Slicer without a window has no views")
        self.begin()
        layers = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
        session = self.workspace.session
        values = self.generator.random(session.current.box.shape, np.float32)
        self.map_of_the_slice(values).let_go()
        shown = slicer.mrmlScene.GetNodeByID(layers.GetForegroundVolumeID())
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(shown), values)
        session.set_overlay(False)
        for leave in (session.leave, session.close):
            answers = self.map_of_the_slice(values)
            leave()
            answers.let_go()
            self.assertIsNone(layers.GetForegroundVolumeID())
            session.set_overlay(False)
            if session.current is not None:
                session.enter()

    def test_a_job_that_ended_before_its_list_came_does_not_run(self):
        self.begin()
        jobs, ended = self.workspace.jobs, []
        jobs.start(JobKind.EXPORT, {"what": "labels", "format": "nrrd"}, ended.append, ended.append)
        self.until(lambda: ended)
        answers = self.hold("jobs")
        jobs.refresh()
        self.held(answers)
        for row in answers[0].args[1]["result"]:
            row["state"] = "running"  # as it was when the engine was asked
        answers.let_go()
        self.assertIsNotNone(jobs.current)
        self.until(lambda: jobs.current is None)
