"""The part "Structures…" of the section "Project": add, rename, color and remove them."""

from __future__ import annotations

from typing import Any

from alunet.schema import Code, StructureChange
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.mrml.terminology import hex_colors
from ALUNetSlicerLib.panel.binding import Section, allow, fill
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Desktop
from ALUNetSlicerLib.shell.workspace import Workspace


class StructuresPart(Section):
    """See `Panel`."""

    def __init__(self, ui: Any, workspace: Workspace, desktop: Desktop) -> None:
        super().__init__()
        self._ui, self._workspace, self._desktop = ui, workspace, desktop
        for signal, widget, action in (
            ("toggled(bool)", ui.structuresButton, self._show),
            ("textChanged(QString)", ui.structureNameEdit, self._show),
            ("clicked(bool)", ui.addStructureButton, self.add),
            ("clicked(bool)", ui.renameStructureButton, self.rename),
            ("clicked(bool)", ui.colorStructureButton, self.color),
            ("clicked(bool)", ui.removeStructureButton, self.remove),
        ):
            widget.connect(signal, lambda *_values, action=action: action())
        self.hear(workspace.engine_changed, self._show)
        self.hear(workspace.opened, self._opened)
        self.hear(workspace.project_changed, self._show)
        self._show()

    # --- changes ----------------------------------------------------------------------------------

    def add(self) -> None:
        """Add a structure of the name that is typed; asks what annotated slices say of it."""
        self._change("add_structure", name=self._ui.structureNameEdit.text.strip())

    def rename(self) -> None:
        """Give the chosen structure the name that is typed."""
        name = self._ui.structureNameEdit.text.strip()
        self._change("edit_structure", structure=self._chosen(), name=name)

    def color(self) -> None:
        """Give the chosen structure a color."""
        color = self._desktop.color(_("Color of the structure"), self._color(self._chosen()))
        if color:
            self._change("edit_structure", structure=self._chosen(), color=color)

    def remove(self) -> None:
        """Remove the chosen structure; asks what its voxels become."""
        name = self._ui.structureCombo.currentText
        question = _("Remove the structure {name} for everyone?").format(name=name)
        if self._desktop.confirm(question):
            self._change("remove_structure", structure=self._chosen())

    def _change(self, call: str, **given: Any) -> None:
        session = self._workspace.session

        def failed(why: Failure) -> None:
            if why.code == Code.ANSWER_NEEDED and why.details is not None:
                self._ask(call, why, given, session)
            else:
                self._workspace.failed.emit(why)

        self._workspace.change_structures(call, self._changed, failed, **given)

    def _ask(self, call: str, why: Failure, given: dict[str, Any], session: Any) -> None:
        """Let a person say what the engine needs to know, and ask the engine again, while the
        project is open.
        """
        if self._workspace.session is not session:
            return
        details = why.details or {}
        words = {
            "open": _("Not annotated: look at these slices again"),
            "absent": _("It is in none of these slices"),
            "background": _("Background: nothing is there"),
        }
        answers = {words.get(choice, choice): choice for choice in details["choices"]}
        row = self._desktop.choose(why.message, list(answers))
        if row >= 0 and self._workspace.session is session:
            self._change(call, **{**given, details["about"]: list(answers.values())[row]})

    def _changed(self, change: StructureChange) -> None:
        self._ui.structureNameEdit.text = ""
        self._ui.structureNotesLabel.text = "✓ " + "\n".join(change.notes)
        self._show()

    # --- what is shown ----------------------------------------------------------------------------

    def _opened(self) -> None:
        self._ui.structureNotesLabel.text = ""
        self._ui.structuresButton.checked = False
        self._show()

    def _chosen(self) -> int:
        return int(self._ui.structureCombo.currentData)

    def _color(self, number: int) -> str:
        project = self._workspace.project
        name = next(name for name, value in project.labels.items() if value == number)
        return hex_colors(project.labels, project.colors)[name]

    def _show(self) -> None:
        ui, workspace = self._ui, self._workspace
        project = workspace.project
        ui.structuresButton.visible = project is not None
        ui.structuresBox.visible = project is not None and bool(ui.structuresButton.checked)
        if project is None:
            return
        names = [(name, number) for name, number in project.labels.items() if number]
        fill(ui.structureCombo, names)
        offline = "" if workspace.state == "online" else _("Connect the engine first.")
        unnamed = "" if ui.structureNameEdit.text.strip() else _("Type a name first.")
        only = "" if len(names) > 1 else _("It is the only structure.")
        allow(ui.addStructureButton, _("Add a structure of that name."), offline or unnamed)
        allow(ui.renameStructureButton, _("Give it the name typed above."), offline or unnamed)
        allow(ui.colorStructureButton, _("Give it a color, for everyone."), offline)
        tip = _("Remove it, and say what its voxels become.")
        allow(ui.removeStructureButton, tip, offline or only)
