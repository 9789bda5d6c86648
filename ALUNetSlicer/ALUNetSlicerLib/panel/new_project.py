"""In the section "Project": the form of a new project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alunet.schema import SLICE, TILE
from ALUNetSlicerLib.mrml.terminology import appearances_of
from ALUNetSlicerLib.panel.binding import fill
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.shell.workspace import Workspace

PRESETS = [
    (_("Quick look"), "quick"),
    (_("Work on this CPU"), "cpu"),
    (_("GPU"), "gpu"),
    (_("As published"), "paper"),
]
"""What a recipe of the engine is for, and its name there."""
UNITS = [(_("Whole slices"), SLICE), (_("Parts of large slices"), TILE)]
"""What people are asked for, and its name at the engine. Whole slices first: for the same area a
person opens far fewer of them, and no difference in the models was found (docs/researchers.md).
"""


def names_in(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def unit_words(unit: str) -> str:
    """What people are asked for, within a line."""
    words = {TILE: _("parts of large slices"), SLICE: _("whole slices")}
    return words.get(unit, unit)


class NewProject:
    """What a person types and chooses, begun with what can be guessed.

    Args:
        changed: called when something was typed.
    """

    def __init__(self, ui: Any, workspace: Workspace, changed: Callable[[], None]) -> None:
        self._ui, self._workspace = ui, workspace
        self._guessed = ui.channelsEdit.text
        self._device = ""
        fill(ui.presetCombo, PRESETS)
        fill(ui.unitCombo, UNITS)
        self.suggest_preset()
        for edit in (ui.nameEdit, ui.structuresEdit, ui.channelsEdit):
            edit.connect("textChanged(QString)", lambda *_values: changed())

    @property
    def is_open(self) -> bool:
        """Whether a person fills it in."""
        return bool(self._ui.newButton.checked)

    @property
    def channels(self) -> list[str]:
        """Of a case."""
        return names_in(self._ui.channelsEdit.text)

    def begin(self, channels: list[str]) -> None:
        """Offer the structures of the last project, and the channels that were guessed."""
        ui, guess = self._ui, ", ".join(channels)
        if not ui.structuresEdit.text.strip():
            ui.structuresEdit.text = self._workspace.settings.get("structures")
        if guess and ui.channelsEdit.text == self._guessed:
            self._guessed = ui.channelsEdit.text = guess
        ui.nameEdit.setFocus()

    def create(self, done: Callable[[], None]) -> None:
        """Make the project and open it."""
        ui = self._ui
        self._workspace.settings.set("structures", ui.structuresEdit.text.strip())
        self._workspace.create(
            ui.nameEdit.text.strip(),
            names_in(ui.structuresEdit.text),
            self.channels,
            done,
            preset=ui.presetCombo.currentData,
            unit=ui.unitCombo.currentData,
        )

    def suggest_preset(self) -> None:
        """Choose the recipe for the engine's device, once, while the form is closed."""
        health = self._workspace.health
        device = "unknown" if health is None else health.device
        if device != self._device and not self.is_open:
            self._device = device
            preset = "gpu" if device == "cuda" else "cpu"
            self._ui.presetCombo.setCurrentIndex(self._ui.presetCombo.findData(preset))

    def lacks(self) -> str:
        """What must be filled in before the project can be made; empty where nothing must."""
        ui, names = self._ui, names_in(self._ui.structuresEdit.text)
        if not ui.nameEdit.text.strip():
            return _("Give the project a name.")
        if not names:
            return _("Name at least one structure.")
        if len(set(names)) < len(names):
            return _("A structure is named twice.")
        return "" if self.channels else _("Name the channel, for instance CT.")

    def preview(self) -> str:
        """The structures in their colors, as rich text."""
        parts = []
        names = names_in(self._ui.structuresEdit.text)
        labels = {name: value for value, name in enumerate(names, 1)}
        for name, known in appearances_of(labels, {}).items():
            color = "#" + "".join(f"{round(255 * part):02x}" for part in known.color)
            safe = name.replace("&", "&amp;").replace("<", "&lt;")
            parts.append(
                f'<span style="color:{color}">■</span> {safe}' + (" ✓" if known.entry else "")
            )
        return "&nbsp; ".join(parts)
