"""In the section "Annotate": what was handed in and the engine did not take."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ALUNetSlicerLib.engine.messages import OutboxEntry, RefusedLabels
from ALUNetSlicerLib.panel.binding import Section, allow, head
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Desktop
from ALUNetSlicerLib.shell.workspace import Workspace

_COLUMNS = (_("Slice"), _("Handed in"), _("Why"))


class RefusedPart(Section):
    """See `Panel`."""

    def __init__(self, ui: Any, workspace: Workspace, desktop: Desktop) -> None:
        super().__init__()
        self._ui, self._workspace, self._desktop = ui, workspace, desktop
        self._rows: list[OutboxEntry] = []
        self._chosen = ""
        head(ui.refusedTable, _COLUMNS)
        ui.refusedTable.connect("cellClicked(int,int)", self._clicked)
        for button, action in (
            (ui.sendAgainButton, self.send_again),
            (ui.openRefusedButton, self.open),
            (ui.discardButton, self.discard),
        ):
            button.connect("clicked(bool)", lambda *_values, action=action: action())
        self.hear(workspace.refused.changed, self._show)
        self.hear(workspace.opened, self._opened)
        self.hear(workspace.project_changed, self._show)
        self._show()

    def send_again(self) -> None:
        """Let the engine decide once more."""
        if (entry := self._entry()) is not None:
            self._workspace.refused.send_again(entry.key)

    def open(self) -> None:
        """Show the slice with these labels, as a draft."""
        entry, session = self._entry(), self._workspace.session
        if entry is None or session is None:
            return

        def take(labels: np.ndarray, found: RefusedLabels) -> bool:
            here = self._workspace.session is session
            return here and session.take_up(entry.sample, labels, found.version, found.seconds)

        self._workspace.refused.labels(entry, take)

    def discard(self) -> None:
        """Forget the entry, where the person agrees."""
        entry, words = self._entry(), _("Discard what was painted in {slice} for good?")
        if entry is not None and self._desktop.confirm(words.format(slice=self._slice(entry))):
            self._workspace.refused.discard(entry.key)

    def _clicked(self, row: int, _column: int = 0) -> None:
        self._chosen = self._rows[row].key
        self._show()

    def _entry(self) -> OutboxEntry | None:
        """The entry that is chosen; the only one needs no choice."""
        found = next((entry for entry in self._rows if entry.key == self._chosen), None)
        return self._rows[0] if found is None and len(self._rows) == 1 else found

    # --- what is shown ----------------------------------------------------------------------------

    def _opened(self) -> None:
        if self._workspace.session is not None:
            self._workspace.session.changed.connect(self._show)
        self._show()

    def _show(self) -> None:
        ui, entry = self._ui, None
        self._fill(self._workspace.refused.entries)
        entry = self._entry()
        ui.refusedBox.visible = bool(self._rows)
        missing = "" if entry is not None else _("Click a row of the list first.")
        allow(ui.sendAgainButton, _("Let the engine decide once more."), missing)
        tip = _("Show the slice with these labels, to correct them.")
        allow(ui.openRefusedButton, tip, missing or self._not_here(entry))
        allow(ui.discardButton, _("Forget these labels for good."), missing)

    def _not_here(self, entry: OutboxEntry) -> str:
        """Why a slice cannot be opened; empty where it can."""
        project, session = self._workspace.project, self._workspace.session
        if project is None or project.id != entry.project:
            return _("Open the project {name} first.").format(name=entry.project)
        if not entry.annotation:
            return _("It is a status without labels.")
        if session.worklist.find(entry.sample) is None:
            return _("The slice is not in the worklist now.")
        return ""

    def _slice(self, entry: OutboxEntry) -> str:
        project, session = self._workspace.project, self._workspace.session
        here = project is not None and project.id == entry.project
        item = session.worklist.find(entry.sample) if here else None
        if item is not None:
            return _("{case}, slice {number}").format(case=item.case, number=item.box.index + 1)
        return _("{project}, sample {number}").format(project=entry.project, number=entry.sample)

    def _fill(self, entries: list[OutboxEntry]) -> None:
        table, self._rows = self._ui.refusedTable, list(entries)
        table.setRowCount(len(entries))
        for row, entry in enumerate(entries):
            day = time.strftime("%d.%m. %H:%M", time.localtime(entry.time))
            why = _("It gave no reason.") if entry.why is None else str(entry.why)
            for column, text in enumerate((self._slice(entry), day, why)):
                table.setItem(row, column, self._desktop.cell(text))
