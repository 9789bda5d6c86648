"""The list of cases in the section "Project": remove, restore, erase, change the role."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alunet.schema import CaseInfo
from ALUNetSlicerLib.panel.binding import Section, allow, head
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Desktop
from ALUNetSlicerLib.shell.workspace import Workspace

_COLUMNS = (_("Case"), _("Used for"), _("Annotated"))


class CasesSection(Section):
    """See `Panel`."""

    def __init__(self, ui: Any, workspace: Workspace, desktop: Desktop) -> None:
        super().__init__()
        self._ui, self._workspace, self._desktop = ui, workspace, desktop
        self._chosen, self._says, self._rows = "", "", []
        table = ui.casesTable
        head(table, _COLUMNS)
        table.connect("cellClicked(int,int)", self._clicked)
        for button, action in (
            (ui.removeCaseButton, self.remove),
            (ui.roleButton, self.change_role),
            (ui.eraseButton, self.erase),
        ):
            button.connect("clicked(bool)", lambda *_values, action=action: action())
        self.hear(workspace.opened, self._opened)
        self.hear(workspace.project_changed, self._refresh)
        self.hear(workspace.engine_changed, self._show)
        self._show()

    # --- what the person does ---------------------------------------------------------------------

    def remove(self) -> None:
        """Remove the chosen case, or restore it."""
        case = self._case()
        if case is not None:
            state = "removed" if case.state == "present" else "present"
            self._workspace.case_list.change(case.name, self._told(case), state=state)

    def change_role(self) -> None:
        """Use the chosen case to evaluate on, or to learn from."""
        case = self._case()
        if case is not None:
            role = "test" if case.role == "pool" else "pool"
            self._workspace.case_list.change(case.name, self._told(case), role=role)

    def erase(self) -> None:
        """Erase the chosen case for good, where the person agrees."""
        case = self._case()
        words = _("Erase {case} for good, with all annotations? There is no way back.")
        if case is not None and self._desktop.confirm(words.format(case=case.name)):
            self._workspace.case_list.erase(case.name, self._told(case, erased=True))

    def _told(self, case: CaseInfo, erased: bool = False) -> Callable[[list[str]], None]:
        def say(says: list[str]) -> None:
            self._says = " ".join(says if erased else [f"{case.name}:", *says])
            self._show()

        return say

    def _clicked(self, row: int, _column: int = 0) -> None:
        self._chosen, self._says = self._rows[row].name, ""
        self._show()

    # --- what is shown ----------------------------------------------------------------------------

    def _opened(self) -> None:
        self._chosen = self._says = ""
        if self._workspace.case_list is not None:
            self._workspace.case_list.listed.connect(self._show)
        self._refresh()

    def _refresh(self) -> None:
        if self._workspace.case_list is not None:
            self._workspace.case_list.refresh()
        self._show()

    def _case(self) -> CaseInfo | None:
        return next((case for case in self._rows if case.name == self._chosen), None)

    def _show(self) -> None:
        ui, known = self._ui, self._workspace.case_list
        self._fill([] if known is None else known.cases)
        case = self._case()
        ui.casesListBox.visible = bool(self._rows)
        ui.caseChangeLabel.text, ui.caseChangeLabel.visible = self._says, bool(self._says)
        removed = case is not None and case.state == "removed"
        test = case is not None and case.role == "test"
        ui.removeCaseButton.text = _("Restore") if removed else _("Remove")
        ui.roleButton.text = _("Use for learning") if test else _("Use for evaluation")
        offline = "" if self._workspace.state == "online" else _("Connect the engine first.")
        missing = offline or ("" if case else _("Click a case in the list first."))
        remove = _("Take the case out; restoring it brings everything back.")
        restore = _("Take the case in again, with its annotations.")
        allow(ui.removeCaseButton, restore if removed else remove, missing)
        learn = _("Suggest slices of this case, and learn from it.")
        evaluate = _("Measure models on this case, and never learn from it.")
        out = _("Restore the case first.") if removed else ""
        allow(ui.roleButton, learn if test else evaluate, missing or out)
        allow(ui.eraseButton, _("Delete the case and everything made of it for good."), missing)

    def _fill(self, cases: list[CaseInfo]) -> None:
        if cases == self._rows:
            return
        table, self._rows = self._ui.casesTable, list(cases)
        table.setRowCount(len(cases))
        use = {"pool": _("learning"), "test": _("evaluation")}
        for row, case in enumerate(cases):
            words = use.get(case.role, case.role) if case.state == "present" else _("removed")
            for column, text in enumerate((case.name, words, str(case.annotated))):
                table.setItem(row, column, self._desktop.cell(text))
