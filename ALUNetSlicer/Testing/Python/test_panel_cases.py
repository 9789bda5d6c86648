"""Cases that leave the project and come back, and labels taken back, by clicks in the panel."""

from __future__ import annotations

import numpy as np
from engines import slow
from panel_case import PanelCase

from alunet.schema import Status
from ALUNetSlicerLib.shell import sample_data


@slow
class CasesTest(PanelCase):
    def test_a_case_is_removed_restored_evaluated_on_and_erased(self):
        ui = self.ui
        self.connect()
        self.create()
        self.assertTrue(ui.casesListBox.isHidden(), "there is no case yet")
        self.add_phantoms()
        self.until(lambda: ui.casesTable.rowCount == sample_data.CASES)
        self.assertIn("Click a case", ui.removeCaseButton.toolTip)
        self.choose("strategyCombo", "spread")
        self.round(8)
        self.takes_back()
        name = self.workspace.session.current.case
        self.pick("casesTable", self.row_of(name))
        self.click("removeCaseButton")
        self.until(lambda: name not in self.in_worklist())
        self.until(lambda: ui.removeCaseButton.text == "Restore")
        self.assertIn("No longer counted: 1 annotated slice.", ui.caseChangeLabel.text)
        self.assertIn("Restore the case first", ui.roleButton.toolTip)
        self.until(lambda: "3 cases" in ui.projectLabel.text)
        self.click("removeCaseButton")
        self.until(lambda: name in self.in_worklist())
        self.until(lambda: ui.removeCaseButton.text == "Remove")
        self.click("roleButton")
        self.until(lambda: self.workspace.status.test_cases == [name])
        self.until(lambda: ui.roleButton.text == "Use for learning")
        self.click("roleButton")
        self.until(lambda: name in self.in_worklist())
        self.erases(name)

    def row_of(self, name: str) -> int:
        return [case.name for case in self.workspace.case_list.cases].index(name)

    def in_worklist(self) -> set[str]:
        return {item.case for item in self.workspace.session.worklist}

    def takes_back(self) -> None:
        """The labels of a slice that is done; it begins anew, and they come back by a click."""
        ui, session = self.ui, self.workspace.session
        self.pick("worklistTable", 0)
        self.until(lambda: self.shown() >= 0)
        self.assertIn("Only a slice that is done", ui.takeBackButton.toolTip)
        first, truth = self.shown(), self.truth()
        truth[..., 4:9, 4:9] = 1
        session.paint(truth)
        self.click("doneButton")
        self.until(lambda: self.shown() not in (-1, first))
        self.click("previousButton")
        self.until(lambda: self.shown() == first)
        self.until(lambda: ui.takeBackButton.enabled)
        self.click("takeBackButton")
        self.until(lambda: session.current.status == Status.TODO)
        self.until(lambda: session.labels().max() == 0)
        self.assertEqual(ui.takeBackButton.text, "Undo take back")
        self.until(lambda: session.worklist.find(first).version == 2)
        self.click("takeBackButton")
        self.until(lambda: session.current.status == Status.DONE)
        self.until(lambda: np.array_equal(session.labels(), truth))
        self.assertEqual(ui.takeBackButton.text, "Take back")

    def erases(self, name: str) -> None:
        ui = self.ui
        self.answers.agrees = False
        self.click("eraseButton")
        self.assertIn(f"Erase {name} for good", self.answers.asked[-1])
        self.assertIn(name, [case.name for case in self.workspace.case_list.cases])
        self.answers.agrees = True
        self.click("eraseButton")
        self.until(lambda: ui.casesTable.rowCount == sample_data.CASES - 1)
        self.until(lambda: "Backups" in ui.caseChangeLabel.text)
        self.assertIn("erased-1", ui.caseChangeLabel.text)
        self.until(lambda: name not in self.in_worklist())
        self.assertFalse(ui.eraseButton.enabled, "no case is chosen now")
        self.until(lambda: self.workspace.session.current is None)
