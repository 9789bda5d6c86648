"""What a person must know is always in sight: messages, what the engine did not take, what is on
screen; and nothing of it moves the views.
"""

from __future__ import annotations

import os
from unittest.mock import patch

import numpy as np
import qt
import slicer
from panel_case import PanelCase
from planned_panel import AHEAD, SLICES, PlannedPanel

from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.install import packages

CAPTIONS = {
    f"{name}Label"
    for name in ("address", "token", "author", "name", "structures", "looks", "channels")
    + ("preset", "strategy", "budget", "trainFor", "time")
}
"""Labels beside controls, which never change, and a clock. Names with a capital are Slicer's."""


class RefusedTest(PlannedPanel):
    def hand_in(self, labels: np.ndarray) -> None:
        """As the panel does, with labels that it would not paint."""
        file = self.folder / "labels.raw"
        file.write_bytes(np.ascontiguousarray(labels).tobytes())
        given = {"project": "p", "sample": 0, "file": str(file), "shape": list(labels.shape)}
        given |= {"dtype": "uint8", "base_version": 0, "author": "Ada", "seconds": 7.0}
        self.workspace.agent.ask("submit", failed=lambda why: self.fail(str(why)), **given)
        self.until(lambda: self.ui.refusedTable.rowCount == 1)

    def status(self, row: int) -> str:
        return self.ui.worklistTable.item(row, 4).text()

    def test_what_the_engine_did_not_take_is_sent_again_or_discarded(self):
        ui = self.ui
        self.begin()
        self.assertTrue(ui.refusedBox.isHidden())
        self.hand_in(np.ones((1, 3, 4), np.uint8))
        self.assertFalse(ui.refusedBox.isHidden())
        self.assertIn(
            "Not taken by the engine (1): The labels have the shape", ui.messageLabel.text
        )
        self.until(lambda: "not taken" in self.status(0))
        self.assertEqual(ui.refusedTable.item(0, 0).text(), "a, slice 1")
        self.pick("refusedTable", 0)
        self.click("openRefusedButton")
        self.until(lambda: "another shape" in ui.messageLabel.text)
        told: list = []
        self.workspace.agent.event.connect(told.append)
        self.click("sendAgainButton")
        self.until(lambda: any(getattr(event, "state", "") == "refused" for event in told))
        self.until(lambda: ui.refusedTable.rowCount == 1)
        self.answers.agrees = False
        self.click("discardButton")
        self.assertIn("a, slice 1", self.answers.asked[-1])
        self.assertEqual(ui.refusedTable.rowCount, 1)
        self.answers.agrees = True
        self.click("discardButton")
        self.until(lambda: ui.refusedBox.isHidden())
        self.assertNotIn("Not taken", ui.messageLabel.text, "it is of the past")
        self.until(lambda: "not taken" not in self.status(0))

    def test_it_is_opened_corrected_and_handed_in_anew_also_after_a_restart(self):
        ui = self.ui
        self.begin()
        painted = np.zeros(self.workspace.session.current.box.shape, np.uint8)
        painted[:, 3:9, 2:8], painted[:, 12:15, 2:8] = 1, 7  # a structure that is gone
        self.hand_in(painted)
        self.widget.cleanup()
        slicer.mrmlScene.Clear(0)
        self.open()
        ui, session = self.ui, None
        self.until(lambda: ui.refusedTable.rowCount == 1)
        self.assertIn("Open the project p first", ui.openRefusedButton.toolTip)
        self.assertIn("Not taken by the engine (1)", ui.messageLabel.text)
        self.until(lambda: ui.openButton.enabled)
        self.click("openButton")
        self.until(lambda: self.workspace.session is not None)
        session = self.workspace.session
        self.until(lambda: ui.openRefusedButton.enabled)
        self.click("openRefusedButton")
        self.until(lambda: self.shown() == 0)
        np.testing.assert_array_equal(session.labels(), np.where(painted == 7, 0, painted))
        self.assertGreaterEqual(session.seconds(), 7.0, "its time goes on, too")
        self.click("doneButton")
        self.until(lambda: session.worklist.find(0).version == 1)
        self.until(lambda: ui.refusedTable.rowCount == 0)


class AnnotateTest(PlannedPanel):
    def test_slices_are_named_as_the_view_names_them_and_the_batch_comes_first(self):
        ui = self.ui
        self.begin()
        row = [ui.worklistTable.item(0, column) for column in range(6)]
        self.assertEqual(row[2].text(), "1 of 5, S 0.0 mm")
        self.assertEqual(row[2].toolTip(), "1 of 5, S 0.0 mm right part, 16 x 20 of 24 x 20 voxels")
        self.assertEqual(row[5].text(), "farthest from all others")
        self.assertIn("distance 3.2; number 0", row[5].toolTip())
        self.assertEqual(
            ui.sliceLabel.text, "a: slice 1 of 5, S 0.0 mm · right part, 16 x 20 of 24 x 20 voxels"
        )
        if slicer.app.layoutManager() is not None:  # Slicer without a window has no views
            logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
            layers = logic.GetSliceCompositeNode()
            self.assertIsNotNone(layers.GetLabelVolumeID(), "the frame of the part")
            self.click("lockCheck")
            self.assertIsNotNone(layers.GetLabelVolumeID(), "also while painting is free")
            self.click("lockCheck")
        self.pick("worklistTable", SLICES)
        self.until(lambda: self.shown() == SLICES)
        self.click("doneButton")
        self.until(lambda: self.shown() == 0)

    def test_a_slice_that_a_person_asks_for_comes_before_the_first_one_of_a_round(self):
        """The round ended a moment ago, and the slice is still on its way."""
        self.connect()
        self.until(lambda: self.ui.openButton.enabled)
        self.click("openButton")
        self.until(lambda: self.ui.worklistTable.rowCount == SLICES + AHEAD)
        rounds, session = self.widget.shell.panel.rounds, self.workspace.session
        self.pick("worklistTable", 3)
        self.assertEqual(self.shown(), -1)
        rounds._begin(session)
        self.until(lambda: self.shown() >= 0)
        self.assertEqual(self.shown(), 3)

    def test_a_proposal_is_that_of_the_chosen_source(self):
        """There is no model yet: what was drawn in the slice beside is all that there is."""
        ui = self.ui
        self.begin()
        session = self.workspace.session
        labels = np.zeros(session.current.box.shape, np.uint8)
        labels[..., 4:14, 3:12] = 1
        session.paint(labels)
        self.click("doneButton")
        self.until(lambda: session.worklist.find(0).version == 1)
        self.pick("worklistTable", 2)
        self.until(lambda: self.shown() == 2)
        for source, painted in (("empty", False), ("neighbors", True), ("empty", False)):
            self.choose("sourceCombo", source)
            self.click("proposalButton")
            self.until(lambda source=source: session.origin and session.origin.source == source)
            self.until(lambda painted=painted: session.labels().any() == painted)
            if painted:
                self.assertTrue((labels[session.labels() == 1] == 1).all(), "in what was drawn")
                self.until(lambda: "neighbors" in ui.sliceLabel.text)

    def test_time_stands_while_nobody_works(self):
        self.begin()
        session = self.workspace.session
        session.clock._used -= 1000  # a long telephone call
        self.assertAlmostEqual(session.seconds(), 60.0, delta=5.0)
        if slicer.app.layoutManager() is None:
            return  # Slicer without a window has no views
        view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
        self.widget.shell.panel.annotate._tick()
        before = session.clock._used
        view.interactor().InvokeEvent("KeyPressEvent")
        self.widget.shell.panel.annotate._tick()
        self.assertGreater(session.clock._used, before, "a key is work")


class MessagesTest(PanelCase):
    def test_messages_stand_above_all_sections_in_a_place_of_fixed_height(self):
        ui = self.ui
        sections, bar = ui.sectionsArea, ui.messageBar
        self.assertFalse(sections.isAncestorOf(bar))
        for name in ("engine", "project", "annotate", "round", "results"):
            self.assertTrue(sections.isAncestorOf(getattr(ui, f"{name}Section")), name)
        self.assertEqual(bar.minimumHeight, bar.maximumHeight)
        self.workspace.failed.emit(Failure("any", "It failed.", "Do this.", about="export"))
        self.assertRegex(ui.messageLabel.text, r"^⚠ \d\d:\d\d It failed. Do this.$")
        panel = self.widget.parent
        panel.resize(380, 300)
        panel.show()
        slicer.app.processEvents()
        self.assertFalse(bar.visibleRegion().isEmpty())
        self.workspace.failed.emit(Failure("other", "Another thing.", about="segment"))
        self.assertIn("1 more in the log", ui.messageLabel.text)
        self.click("messageLogButton")
        self.assertRegex(ui.messageLog.plainText, "Another thing.\n.*It failed. Do this.")
        self.workspace.agent.answered.emit("segment")
        self.assertIn("It failed.", ui.messageLabel.text)
        self.assertRegex(ui.messageLog.plainText, "^✓ .*Another thing.")
        self.click("messageDoneButton")
        self.assertEqual(ui.messageLabel.text, "")
        self.click("messageLogButton")
        self.assertTrue(ui.messageLog.isHidden())

    def test_nothing_in_the_panel_makes_it_wider(self):
        """What a brush shows, and what a program says in one long word."""
        ui, form = self.ui, self.widget.shell._form
        form.show()
        width = form.minimumSizeHint.width()
        self.assertLessEqual(width, 460)
        wide = "/very" * 200
        for name in vars(ui):
            if name.endswith("Label") and name[0].islower() and name not in CAPTIONS:
                getattr(ui, name).text = wide
        ui.editor.layout().addWidget(qt.QPushButton("a wide option " * 8))
        for section in ("engine", "project", "annotate", "round", "results"):
            getattr(ui, f"{section}Section").collapsed = False
        ui.editor.visible = True
        slicer.app.processEvents()
        self.assertEqual(form.minimumSizeHint.width(), width)
        content = ui.sectionsBox.minimumSizeHint.width()
        self.assertLessEqual(content, ui.sectionsArea.minimumWidth, "nothing is cut off")

    def test_a_helper_that_cannot_start_is_one_line_that_says_what_will_happen(self):
        broken = self.folder / "broken" / "alunet"
        broken.mkdir(parents=True)
        text = "raise ImportError('numpy is of another Python')"
        (broken / "__init__.py").write_text(text, encoding="utf-8")
        variables = {**os.environ, "PYTHONPATH": str(broken.parent)}
        self.widget.cleanup()
        with patch.object(packages, "agent_environment", lambda: variables):
            self.open()
        self.click("remoteRadio")
        self.type("addressEdit", self.address)
        self.type("tokenEdit", self.token)
        self.click("connectButton")
        self.until(lambda: self.workspace.given_up)
        for said in (self.ui.engineStateLabel.text, self.ui.messageLabel.text):
            self.assertIn(
                "does not start (4 attempts): ImportError: numpy is of another Python.", said
            )
            self.assertIn("not retried automatically: click Connect", said)
            self.assertNotIn("Traceback", said)
            self.assertNotIn("\n", said)
        self.assertTrue(self.ui.connectButton.enabled)
