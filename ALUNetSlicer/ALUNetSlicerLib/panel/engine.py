"""The section "Engine": where the model is trained, and how to get there."""

from __future__ import annotations

from typing import Any

from ALUNetSlicerLib.engine.messages import ConnectionStep
from ALUNetSlicerLib.engine.place import EnginePlace
from ALUNetSlicerLib.install.local_engine import LocalEngine
from ALUNetSlicerLib.panel.binding import Section, allow, entitle
from ALUNetSlicerLib.panel.install import InstallPart
from ALUNetSlicerLib.panel.units import size
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Desktop
from ALUNetSlicerLib.shell.workspace import Workspace


class EngineSection(Section):
    """See `Panel`."""

    def __init__(self, ui: Any, workspace: Workspace, local: LocalEngine, desktop: Desktop) -> None:
        super().__init__()
        self._ui, self._workspace, self._local, self._desktop = ui, workspace, local, desktop
        settings = workspace.settings
        ui.addressEdit.text, ui.tokenEdit.text = settings.get("address"), settings.get("token")
        ui.authorEdit.text = workspace.author
        ui.directCheck.checked = settings.get("direct") == "yes"
        ui.remoteRadio.checked = settings.get("where") == "remote"
        ui.localRadio.checked = not ui.remoteRadio.checked
        ui.testLabel.visible = False
        self._install = InstallPart(ui, local, desktop, self._say, self._show, self.connect)
        for signal, button, action in (
            ("clicked(bool)", ui.connectButton, self.connect),
            ("clicked(bool)", ui.testButton, self.test),
            ("toggled(bool)", ui.remoteRadio, self._show),
            ("textChanged(QString)", ui.addressEdit, self._show),
            ("textChanged(QString)", ui.authorEdit, self._show),
        ):
            button.connect(signal, lambda *_values, action=action: action())
        self.hear(workspace.engine_changed, self._show)
        self._show()

    def close(self) -> None:
        """The panel goes."""
        self._install.close()
        super().close()

    # --- where ------------------------------------------------------------------------------------

    def place(self) -> EnginePlace:
        """The engine that the widgets name."""
        ui = self._ui
        if ui.remoteRadio.checked:
            to, token = ui.addressEdit.text.strip(), ui.tokenEdit.text.strip()
            return EnginePlace(to, token, direct=bool(ui.directCheck.checked))
        return self._local.place()

    def connect(self) -> None:
        """Belong to the engine that is named, after asking once whether images may go there."""
        ui, settings, place = self._ui, self._workspace.settings, self.place()
        if not self._agreed(place):
            question = _(
                "Images and labels of the cases you add will be sent to {address} and kept there, "
                "with your name, {author}. What DICOM says of patients is not sent: only voxels, "
                "geometry, UIDs and the names of the cases. Go on?"
            )
            author = ui.authorEdit.text.strip()
            if not self._desktop.confirm(question.format(address=place.to, author=author)):
                return
            settings.set(f"consent/{place.to}", "yes")
        settings.set("where", "remote" if place.remote else "local")
        settings.set("address", ui.addressEdit.text.strip())
        settings.set("token", ui.tokenEdit.text.strip())
        settings.set("author", ui.authorEdit.text.strip())
        settings.set("direct", "yes" if ui.directCheck.checked else "")
        ui.testLabel.visible = False
        self._workspace.choose(place)

    def test(self) -> None:
        """Go the way to the engine step by step."""
        self._say(_("Testing…"))
        self._workspace.test(self.place(), self._tested, lambda why: self._say(f"✗ {why}"))

    def _tested(self, steps: list[ConnectionStep]) -> None:
        lines = [f"{'✓' if step.ok else '✗'} {step.text} {step.hint}".strip() for step in steps]
        self._say("\n".join(lines))

    def _say(self, text: str) -> None:
        self._ui.testLabel.text, self._ui.testLabel.visible = text, True

    def resume(self) -> None:
        """Belong to the engine of the last time again, where that asks nothing of the person."""
        workspace, place = self._workspace, self.place()
        at_hand = self._agreed(place) and (place.remote or self._local.ready())
        if at_hand and workspace.place is None and workspace.settings.get("where"):
            workspace.choose(place)

    def _agreed(self, place: EnginePlace) -> bool:
        """Whether images may go there."""
        return not place.remote or self._workspace.settings.get(f"consent/{place.to}") == "yes"

    # --- what is shown ----------------------------------------------------------------------------

    def _show(self, *_values: Any) -> None:
        ui, workspace = self._ui, self._workspace
        remote, ready = bool(ui.remoteRadio.checked), self._local.ready()
        ui.remoteBox.visible = remote
        self._install.show()
        missing = ""
        if remote and not ui.addressEdit.text.strip():
            missing = _("Type the address of the engine first.")
        elif remote and not ui.authorEdit.text.strip():
            missing = _("Type your name first.")
        elif not remote and not ready:
            missing = _("Install the engine first.")
        elif workspace.state == "starting":
            missing = _("It is being started.")
        allow(ui.connectButton, _("Start or reach the engine."), missing)
        allow(
            ui.testButton,
            _("Test the connection step by step and report the first problem."),
            missing if workspace.state != "starting" else "",
        )
        ui.engineStateLabel.text = self._state()
        entitle(ui.engineSection, _("Engine"), "" if workspace.state == "none" else self._short())

    def _short(self) -> str:
        words = {"starting": _("starting…"), "online": _("ready"), "offline": _("not reached")}
        if self._workspace.outdated:
            words["offline"] = _("another version")
        place = self._workspace.place
        where = place.to if place is not None and place.remote else _("this computer")
        return f"{where}, {words.get(self._workspace.state, '')}"

    def _state(self) -> str:
        workspace, health = self._workspace, self._workspace.health
        if workspace.state == "none":
            return _("Not connected.")
        if workspace.state == "starting":
            return _("The engine is being started or reached…")
        if workspace.outdated:
            return f"● {workspace.why}"
        if workspace.given_up:
            return f"● {workspace.why}"
        if workspace.state == "offline" or health is None:
            return _(
                "● Not connected, retrying. Keep annotating: your work is saved. {why}"
            ).format(why=workspace.why)
        names = {
            "cpu": _("processor (CPU)"),
            "unknown": _("still looking for a GPU"),
            "mps": _("Apple GPU"),
        }
        device = ", ".join(health.devices) or names.get(health.device, health.device)
        return _("● Ready: {device}, {free} free on its disk, version {version}.").format(
            device=device, free=size(health.disk_free), version=health.version
        )
