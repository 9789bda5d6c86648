"""In the section "Project": the volumes of the scene, those ticked that plausibly belong to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ALUNetSlicerLib.engine.case_upload import case_name
from ALUNetSlicerLib.mrml.candidates import Candidate, Doubt, candidates, guess_channels
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Desktop
from ALUNetSlicerLib.shell.workspace import Workspace

_DOUBTS = {
    Doubt.EMPTY: _("has no voxels"),
    Doubt.LABEL_MAP: _("a label map"),
    Doubt.COLORS: _("colors or vectors"),
    Doubt.OTHERS: _("a case of another project"),
    Doubt.FRAME: _("a frame of a sequence"),
    Doubt.RESULT: _("made by a module"),
    Doubt.FLAT: _("one line of voxels"),
    Doubt.LABELS: _("holds labels, it seems"),
}


class VolumeList:
    """Of the project that is open, or of the one that the form makes.

    Args:
        changed: called when a person ticks something.
    """

    def __init__(
        self, ui: Any, workspace: Workspace, desktop: Desktop, changed: Callable[[], None]
    ) -> None:
        self._ui, self._workspace, self._desktop = ui, workspace, desktop
        self._rows: list[Candidate] = []
        self._agreed: set[tuple[str, str]] = set()
        ui.volumesList.connect("itemChanged(QListWidgetItem*)", lambda *_values: changed())

    def fill(self) -> None:
        """List them anew; what a person ticked, or not, stays so."""
        widget, project = self._ui.volumesList, self._workspace.project
        new = project is None or bool(self._ui.newButton.checked)
        ticked = {row.node.GetID() for row in self._ticked()}
        known = {row.node.GetID() for row in self._rows}
        found = candidates("" if new else project.id)
        blocked = widget.blockSignals(True)
        widget.clear()
        self._rows = found
        for row in found:
            on = row.node.GetID() in (ticked if row.node.GetID() in known else [])
            fresh = row.node.GetID() not in known and not row.doubt
            text = f"{row.name} – {self._doubt(row)}" if row.doubt else row.name
            widget.addItem(self._desktop.tick(text, on or fresh, text, row.usable))
        widget.blockSignals(blocked)

    def groups(self, channels: int, taken: Sequence[str]) -> list[tuple[str, list[Any]]]:
        """The cases that the ticked volumes make: as many a case as there are channels, in their
        order.

        Args:
            taken: names that cases have already.
        """
        volumes, taken, made = [row.node for row in self._ticked()], list(taken), []
        for first in range(0, len(volumes) - channels + 1, channels) if channels else ():
            name = case_name(volumes[first], taken)
            taken.append(name)
            made.append((name, volumes[first : first + channels]))
        return made

    def guess_channels(self) -> list[str]:
        """What the channels of a case are, by the volumes that plausibly belong."""
        return guess_channels([row.node for row in self._rows if not row.doubt])

    def agreed(self) -> bool:
        """Whether ticked volumes that are another project's may be sent; asked once for each."""
        here = self._workspace.project.id
        others = [row for row in self._ticked() if row.owner]
        new = [row for row in others if (row.node.GetID(), here) not in self._agreed]
        names = ", ".join(f"{row.name} ({self._doubt(row)})" for row in new)
        question = _("Send these to {project}, too? {names}")
        project = self._workspace.project.name
        if new and not self._desktop.confirm(question.format(project=project, names=names)):
            return False
        self._agreed.update((row.node.GetID(), here) for row in new)
        return True

    def _doubt(self, row: Candidate) -> str:
        """Why a volume may not belong; another project by its name where that is known."""
        known = [recent for recent in self._workspace.recent.all() if recent.id == row.owner]
        if known:
            return _("a case of {project}").format(project=known[0].name)
        if row.sequence:
            return _("a frame of {sequence}").format(sequence=row.sequence)
        return _DOUBTS[row.doubt]

    def _ticked(self) -> list[Candidate]:
        widget = self._ui.volumesList
        return [
            row
            for number, row in enumerate(self._rows)
            if self._desktop.ticked(widget.item(number))
        ]
