"""What a person must know, always in sight above the sections, and the log of it."""

from __future__ import annotations

from typing import Any

from ALUNetSlicerLib.panel.binding import Section, allow
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.shell.notices import Notice
from ALUNetSlicerLib.shell.workspace import Workspace


class MessageBar(Section):
    """See `Panel`."""

    def __init__(self, ui: Any, workspace: Workspace) -> None:
        super().__init__()
        self._ui, self._notices = ui, workspace.notices
        ui.messageDoneButton.connect("clicked(bool)", lambda *_values: self._notices.put_away())
        ui.messageLogButton.connect("toggled(bool)", lambda *_values: self._show())
        self.hear(self._notices.changed, self._show)
        self._show()

    def _show(self) -> None:
        ui, notices = self._ui, self._notices.open
        ui.messageLabel.text = _line(notices[-1], len(notices) - 1) if notices else ""
        ui.messageLabel.visible = bool(notices)
        ui.messageArea.toolTip = ui.messageLabel.text
        nothing = "" if notices else _("There is no message.")
        allow(ui.messageDoneButton, _("I have read it; the log keeps it."), nothing)
        ui.messageLog.visible = bool(ui.messageLogButton.checked)
        if ui.messageLog.visible:
            ui.messageLog.setPlainText("\n".join(map(_entry, reversed(self._notices.log))))


def _line(notice: Notice, others: int) -> str:
    """The newest message, when it came, and how many there are beside it."""
    times = _(" ({count} times)").format(count=notice.count) if notice.count > 1 else ""
    more = _(" · {count} more in the log").format(count=others) if others else ""
    return f"⚠ {notice.clock}{times} {notice.why}{more}"


def _entry(notice: Notice) -> str:
    times = _(" ({count} times)").format(count=notice.count) if notice.count > 1 else ""
    return f"{'✓' if notice.past else '⚠'} {notice.clock}{times} {notice.why}"
