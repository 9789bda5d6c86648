"""The panel on a project that looks planned and has suggestions, without nnU-Net."""

from __future__ import annotations

import shutil
from pathlib import Path

from panel_case import PanelCase
from session_case import made_by

SHAPE = (5, 20, 24)
SLICES, AHEAD = 6, 2
_MAKE = """
import sys
from pathlib import Path
import numpy as np
import SimpleITK as sitk
from planned_project import plan, suggest
from alunet.project import Project

root = Path(sys.argv[1])
labels = {"background": 0, "organ": 1, "lesion": 2}
about = {"name": "Planned", "labels": labels, "channels": ["CT"]}
with Project.create(root / "p", **about, annotation={"device": "cpu"}) as made:
    for name in ("a", "b"):
        values = np.random.default_rng(0).integers(0, 500, (5, 20, 24), np.int16)
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.7, 0.8, 3))
        sitk.WriteImage(image, str(root / f"{name}.nii.gz"))
        made.cases.import_case(name, [root / f"{name}.nii.gz"])
    plan(made, (20, 16))
    reason = "farthest from all others, distance 3.2; number {}"
    suggest(made, range(8), reasons=[reason.format(number) for number in range(8)])
    made._db.execute("UPDATE suggestions SET ahead = 1 WHERE rank >= 6")
"""


class PlannedPanel(PanelCase):
    """Two cases, slices of two overlapping parts each, six of them in the batch and two ahead."""

    def serve(self) -> None:
        shutil.copytree(Path(made_by(_MAKE).name) / "p", self.folder / "root" / "p")
        super().serve()

    def begin(self) -> None:
        """Connect, open the project, and show the first slice."""
        self.connect()
        self.until(lambda: self.ui.openButton.enabled)
        self.click("openButton")
        self.until(lambda: self.ui.worklistTable.rowCount == SLICES + AHEAD)
        self.pick("worklistTable", 0)
        self.until(lambda: self.shown() == 0)
