"""Whole slices, or parts of large ones: chosen when a project is made, with the real engine."""

from __future__ import annotations

from collections import Counter

import numpy as np
from engines import slow
from panel_case import PanelCase
from scenes import make_volume

from alunet.schema import SLICE, TILE

SLICES, SMALL, LARGE = 5, (32, 32), (32, 80)


@slow
class UnitTest(PanelCase):
    """Two small cases and one that is larger than the patch that nnU-Net plans for them."""

    def setUp(self) -> None:
        super().setUp()
        shapes = {"small_1": SMALL, "small_2": SMALL, "large": LARGE}
        for seed, (name, shape) in enumerate(shapes.items()):
            values = np.random.default_rng(seed).integers(1, 500, (SLICES, *shape))
            volume = make_volume(values.astype(np.int16), np.diag([-1.0, -1.0, 3.0, 1.0]))
            volume.SetName(name)
        self.connect()

    def test_whole_slices_are_what_is_offered_first(self):
        self.click("newButton")
        self.assertEqual(self.ui.unitCombo.currentData, SLICE)
        self.assertIn("cannot be changed later", self.ui.unitCombo.toolTip)

    def suggested(self, unit: str, budget: int) -> list:
        """Make a project of that unit with the three cases, and have slices suggested."""
        self.create(unit, unit=unit)
        self.until(lambda: len(self.workspace.status.cases) == 3)
        self.choose("strategyCombo", "random")
        self.round(budget)
        return [item for item in self.workspace.session.worklist if not item.ahead]

    def said(self) -> list[str]:
        """What is said of the place of each row, once the cases are in the scene."""
        table, said = self.ui.worklistTable, []
        for row in range(table.rowCount):
            self.pick("worklistTable", row)
            item = list(self.workspace.session.worklist)[row]
            self.until(lambda item=item: self.shown() == item.sample)
            said.append(self.ui.sliceLabel.text)
        return said

    def test_whole_slices_are_suggested_counted_and_handed_in(self):
        items = self.suggested(SLICE, 3 * SLICES)
        self.assertIn("3 cases, 0 slices labeled, organ, lesion · whole slices", self.line())
        counts = Counter((item.case, item.box.index) for item in items)
        self.assertEqual(len(counts), 3 * SLICES, "each slice once: the budget counts slices")
        for item in items:
            shape = LARGE if item.case == "large" else SMALL
            self.assertEqual(item.box.bounds[1:], tuple((0, size) for size in shape))
        self.assertNotIn("part", " ".join(self.said()))
        labels = np.zeros_like(self.workspace.session.labels())
        labels[..., 3:9, 3:9] = 1
        self.workspace.session.paint(labels)
        self.click("doneButton")
        self.until(lambda: self.workspace.status.slices == 1)
        self.assertIn("1 slices labeled", self.line())
        self.assertEqual(self.ui.worklistTable.rowCount, 3 * SLICES)

    def test_parts_of_large_slices_are_suggested_where_that_was_chosen(self):
        items = self.suggested(TILE, 1000)
        self.assertIn("· parts of large slices", self.line())
        counts = Counter(item.case for item in items)
        self.assertGreater(counts["large"], counts["small_1"])
        self.assertEqual(counts["small_1"], SLICES, "a small slice has one part")
        large = next(row for row, item in enumerate(items) if item.case == "large")
        self.pick("worklistTable", large)
        self.until(lambda: self.shown() == items[large].sample)
        self.assertIn("part, 32 x 32 of 80 x 32 voxels", self.ui.sliceLabel.text)

    def line(self) -> str:
        return self.ui.projectLabel.text
