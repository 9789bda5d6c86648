"""The section "Engine": where the model is trained, how to get there, and its first installation."""

from __future__ import annotations

from typing import Any

from ALUNetSlicerLib.agent import Failure
from ALUNetSlicerLib.existing import Existing
from ALUNetSlicerLib.i18n import tr as _
from ALUNetSlicerLib.local import LocalEngine
from ALUNetSlicerLib.packages import expected_bytes
from ALUNetSlicerLib.panel.binding import Section, allow, fill
from ALUNetSlicerLib.ports import Desktop
from ALUNetSlicerLib.words import left, size
from ALUNetSlicerLib.workspace import Place, Workspace


class EngineSection(Section):
    """See `Panel`."""

    def __init__(self, ui: Any, workspace: Workspace, local: LocalEngine, desktop: Desktop) -> None:
        super().__init__()
        self._ui, self._workspace, self._local, self._desktop = ui, workspace, local, desktop
        self._installation = installation = local.installation
        self._gpu: bool | None = None
        settings = workspace.settings
        fill(ui.computeCombo, [(_("Automatic"), "auto"), (_("Processor (CPU)"), "cpu"), (_("NVIDIA GPU"), "cuda")])
        ui.addressEdit.text, ui.tokenEdit.text = settings.get("address"), settings.get("token")
        ui.remoteRadio.checked = settings.get("where") == "remote"
        ui.localRadio.checked = not ui.remoteRadio.checked
        ui.installLog.visible = False
        ui.testLabel.visible = False
        for signal, button, action in (
            ("clicked(bool)", ui.connectButton, self.connect), ("clicked(bool)", ui.testButton, self.test),
            ("clicked(bool)", ui.installButton, self.install), ("clicked(bool)", ui.existingButton, self.use_existing),
            ("clicked(bool)", ui.installCancelButton, installation.cancel),
            ("toggled(bool)", ui.remoteRadio, self._show), ("textChanged(QString)", ui.addressEdit, self._show),
            ("currentIndexChanged(int)", ui.computeCombo, self._show),
        ):  # fmt: skip
            button.connect(signal, lambda *_values, action=action: action())
        self.hear(workspace.engine_changed, self._show)
        self.hear(installation.progress, self._progress)
        self.hear(installation.log, ui.installLog.appendPlainText)
        self.hear(installation.ended, self._installed)
        if not local.ready():
            installation.look(self._looked, workspace.failed.emit)
        self._show()

    # --- where ------------------------------------------------------------------------------------------------

    def place(self) -> Place:
        """The engine that the widgets name."""
        ui = self._ui
        if ui.remoteRadio.checked:
            return Place(ui.addressEdit.text.strip(), ui.tokenEdit.text.strip())
        return self._local.place()

    def connect(self) -> None:
        """Belong to the engine that is named, after asking once whether images may go there."""
        ui, settings, place = self._ui, self._workspace.settings, self.place()
        if not self._agreed(place):
            question = _(
                "Images and labels of the cases you add will be sent to {address} and kept there. Names of patients "
                "are not sent: only voxels, geometry and the names you give. Go on?"
            )
            if not self._desktop.confirm(question.format(address=place.to)):
                return
            settings.set(f"consent/{place.to}", "yes")
        settings.set("where", "remote" if place.remote else "local")
        settings.set("address", ui.addressEdit.text.strip())
        settings.set("token", ui.tokenEdit.text.strip())
        ui.testLabel.visible = False
        self._workspace.choose(place)

    def test(self) -> None:
        """Go the way to the engine step by step."""
        self._say_test(_("Testing…"))
        self._workspace.test(self.place(), self._tested, lambda why: self._say_test(f"✗ {why}"))

    def _tested(self, steps: list[dict[str, Any]]) -> None:
        lines = [f"{'✓' if step['ok'] else '✗'} {step['text']} {step['hint']}".strip() for step in steps]
        self._say_test("\n".join(lines))

    def _say_test(self, text: str) -> None:
        self._ui.testLabel.text, self._ui.testLabel.visible = text, True

    def resume(self) -> None:
        """Belong to the engine of the last time again, where that asks nothing of the person."""
        workspace, place = self._workspace, self.place()
        at_hand = self._agreed(place) and (place.remote or self._local.ready())
        if at_hand and workspace.place is None and workspace.settings.get("where"):
            workspace.choose(place)

    def _agreed(self, place: Place) -> bool:
        """Whether images may go there."""
        return not place.remote or self._workspace.settings.get(f"consent/{place.to}") == "yes"

    # --- the first installation -------------------------------------------------------------------------------

    def install(self) -> None:
        """Install what the engine needs on this computer."""
        self._ui.installLog.clear()
        self._ui.installLog.visible = True
        self._installation.start(self._ui.computeCombo.currentData)
        self._show()

    def use_existing(self) -> None:
        """Use the Python of an environment that somebody made."""
        file = self._desktop.open_file(_("Python of an environment with nnU-Net"))
        if file:
            self._say_test(_("Looking at {file}…").format(file=file))
            self._local.choose(file, self._chosen, lambda why: self._say_test(f"✗ {why}"))

    def _chosen(self, existing: Existing) -> None:
        self._say_test(f"✓ {existing}")
        self._show()

    def _progress(self, phase: str, fraction: float | None, seconds_left: float | None) -> None:
        self._ui.installProgress.setRange(0, 0 if fraction is None else 100)
        self._ui.installProgress.setValue(round(100 * (fraction or 0)))
        self._ui.installLabel.text = " · ".join(part for part in (phase, left(seconds_left)) if part)

    def _installed(self, why: Failure | None) -> None:
        self._show()
        if why is not None:
            self._ui.installLabel.text = f"✗ {why}"
        else:
            self._local.forget()
            self.connect()

    def _looked(self, gpu: bool, _free: int) -> None:
        self._gpu = gpu
        self._show()

    # --- what is shown ----------------------------------------------------------------------------------------

    def _show(self, *_values: Any) -> None:
        ui, workspace = self._ui, self._workspace
        remote, ready = bool(ui.remoteRadio.checked), self._local.ready()
        ui.remoteBox.visible = remote
        ui.installBox.visible = self._installation.running or not (remote or ready)
        ui.installRunning.visible = self._installation.running
        ui.installButton.visible = ui.existingButton.visible = ui.computeCombo.visible = not self._installation.running
        if not self._installation.running:
            needed = size(expected_bytes(ui.computeCombo.currentData, self._gpu))
            ui.installLabel.text = _(
                "The engine is not on this computer yet. It downloads about {size} into a folder of its own."
            ).format(size=needed)
            ui.installButton.text = _("Install")
        missing = ""
        if remote and not ui.addressEdit.text.strip():
            missing = _("Type the address of the engine first.")
        elif not remote and not ready:
            missing = _("Install the engine first.")
        elif workspace.state == "starting":
            missing = _("It is being started.")
        allow(ui.connectButton, _("Start or reach the engine."), missing)
        allow(ui.testButton, _("Go the way to the engine step by step, and say what is wrong."),
              missing if workspace.state != "starting" else "")  # fmt: skip
        allow(ui.computeCombo, _("Which build of PyTorch: for the processor alone, or for an NVIDIA GPU."))
        ui.engineStateLabel.text = self._state()
        ui.engineSection.text = _("Engine") + ("" if workspace.state == "none" else f": {self._short()}")

    def _short(self) -> str:
        words = {"starting": _("starting…"), "online": _("ready"), "offline": _("not reached")}
        place = self._workspace.place
        where = place.to if place is not None and place.remote else _("this computer")
        return f"{where}, {words.get(self._workspace.state, '')}"

    def _state(self) -> str:
        workspace, health = self._workspace, self._workspace.health
        if workspace.state == "none":
            return _("Not connected.")
        if workspace.state == "starting":
            return _("The engine is being started or reached…")
        if workspace.state == "offline":
            return _("● Not reached; it is tried again. You can go on annotating. {why}").format(why=workspace.why)
        names = {"cpu": _("processor (CPU)"), "unknown": _("still looking for a GPU"), "mps": _("Apple GPU")}
        device = health.get("device", "unknown")
        device = ", ".join(health.get("devices") or []) or names.get(device, device)
        return _("● Ready: {device}, {free} free on its disk, version {version}.").format(
            device=device, free=size(health.get("disk_free", 0)), version=health.get("version", "?")
        )
