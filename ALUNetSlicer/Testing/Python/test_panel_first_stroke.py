"""From an open Slicer to the first stroke: how often somebody clicks and types."""

from __future__ import annotations

from engines import PYTHON, slow
from panel_case import PanelCase

from ALUNetSlicerLib.ports import qt_ports
from ALUNetSlicerLib.shell import sample_data

MODULE, BRUSH = 2, 1
"""Clicks in the list of Slicer's modules, and on a brush: Slicer's own."""
CLICKS, TYPED = 7, 2


@slow
class FirstStrokeTest(PanelCase):
    """The engine is on this computer, and the images are loaded."""

    def open(self) -> None:
        self.clicks, self.typed = MODULE, 0
        sample_data.load()
        qt_ports.QtSettings().set("python", PYTHON)
        super().open()

    def click(self, name: str) -> None:
        self.clicks += 1
        super().click(name)

    def type(self, name: str, text: str) -> None:
        """The keyboard is where it is needed: the name first, then Tab."""
        self.typed += 1
        super().type(name, text)

    def test_seven_clicks_and_two_typed_entries(self):
        ui, workspace = self.ui, self.workspace
        super().click("remoteRadio")  # the engine of this test
        super().type("addressEdit", self.address)
        super().type("tokenEdit", self.token)
        self.click("connectButton")
        self.until(lambda: workspace.state == "online")
        self.click("newButton")
        self.assertEqual(ui.channelsEdit.text, "CT", "guessed from the values")
        self.type("nameEdit", "Phantoms")
        self.type("structuresEdit", "organ, lesion")
        self.assertEqual(ui.createButton.text, f"Create, add {sample_data.CASES} cases")
        self.click("createButton")
        self.until(lambda: len(workspace.status.cases) == sample_data.CASES)
        self.click("nextRoundButton")
        self.until(lambda: self.shown() >= 0, 300)
        self.assertLessEqual((self.clicks + BRUSH, self.typed), (CLICKS, TYPED))
        self.assertFalse(ui.annotateSection.collapsed)
        self.fold("projectSection")
        self.click("newButton")
        self.assertEqual(ui.structuresEdit.text, "organ, lesion", "offered the next time")
