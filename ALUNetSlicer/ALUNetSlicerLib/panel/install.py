"""Inside the section "Engine": the engine on this computer, its installation, another
environment, its removal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.install.existing_environment import ExistingEnvironment
from ALUNetSlicerLib.install.local_engine import LocalEngine
from ALUNetSlicerLib.install.packages import expected_bytes
from ALUNetSlicerLib.panel.binding import Section, fill
from ALUNetSlicerLib.panel.units import left, size
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Desktop


class InstallPart(Section):
    """See `Panel`.

    Args:
        say: tells a person something beside the way to the engine.
        changed: called when the engine can be started, or no longer.
        installed: called when it was installed just now.
    """

    def __init__(
        self,
        ui: Any,
        local: LocalEngine,
        desktop: Desktop,
        say: Callable[[str], None],
        changed: Callable[[], None],
        installed: Callable[[], None],
    ) -> None:
        super().__init__()
        self._ui, self._local, self._desktop, self._say = ui, local, desktop, say
        self._changed, self._ready_now = changed, installed
        self._installer = local.installer
        self._gpu: bool | None = None
        self._why = ""
        fill(
            ui.computeCombo,
            [(_("Automatic"), "auto"), (_("Processor (CPU)"), "cpu"), (_("NVIDIA GPU"), "cuda")],
        )
        for signal, widget, action in (
            ("clicked(bool)", ui.installButton, self.install),
            ("clicked(bool)", ui.existingButton, self.use_existing),
            ("clicked(bool)", ui.removeButton, self.remove),
            ("toggled(bool)", ui.manageButton, self.show),
            ("clicked(bool)", ui.installCancelButton, self._installer.cancel),
            ("currentIndexChanged(int)", ui.computeCombo, self.show),
        ):
            widget.connect(signal, lambda *_values, action=action: action())
        self.hear(self._installer.progress, self._progress)
        self.hear(self._installer.log, ui.installLog.appendPlainText)
        self.hear(self._installer.ended, self._ended)
        if not local.ready():
            self._installer.inspect_computer(self._inspected, lambda why: say(f"✗ {why}"))

    def close(self) -> None:
        """The panel goes."""
        super().close()
        self._installer.close()

    def install(self) -> None:
        """Install what the engine needs on this computer."""
        self._why = ""
        self._ui.installLog.clear()
        self._installer.start(self._ui.computeCombo.currentData)
        self.show()

    def use_existing(self) -> None:
        """Use the Python of an environment that somebody made."""
        file = self._desktop.open_file(_("Python of an environment with nnU-Net"))
        if file:
            self._say(_("Looking at {file}…").format(file=file))
            self._local.choose(file, self._chosen, lambda why: self._say(f"✗ {why}"))

    def remove(self) -> None:
        """Forget the environment that was chosen, or remove what was installed."""
        if self._local.chosen:
            self._local.forget()
            self._gone()
            return
        question = _(
            "The engine's packages will be removed from {folder}. Projects and labels stay. Go on?"
        )
        if self._desktop.confirm(question.format(folder=self._local.folder)):
            self._installer.remove(self._gone, lambda why: self._say(f"✗ {why}"))

    def _gone(self) -> None:
        self._tell(_("✓ It is used no more."))

    def _chosen(self, existing: ExistingEnvironment) -> None:
        self._tell(f"✓ {existing}")

    def _tell(self, text: str) -> None:
        self._why = ""
        self._say(text)
        self._changed()

    def _progress(self, phase: str, fraction: float | None, seconds_left: float | None) -> None:
        self._ui.installProgress.setRange(0, 0 if fraction is None else 100)
        self._ui.installProgress.setValue(round(100 * (fraction or 0)))
        parts = phase, left(seconds_left, fraction or 0.0), self._larger()
        self._ui.installLabel.text = " · ".join(part for part in parts if part)

    def _larger(self) -> str:
        """More is downloaded than was said before."""
        if not self._installer.larger:
            return ""
        words = _("The small build cannot be reached: {size} to download.")
        return words.format(size=size(expected_bytes("cuda")))

    def _ended(self, why: Failure | None) -> None:
        self._why = "" if why is None else str(why)
        self._changed()
        if why is None:
            self._local.forget()
            self._ui.manageButton.checked = False
            self._ready_now()

    def _inspected(self, gpu: bool, _free: int) -> None:
        self._gpu = gpu
        self.show()

    def show(self) -> None:
        """Bring the widgets up to date."""
        ui, running, ready = self._ui, self._installer.running, self._local.ready()
        remote = bool(ui.remoteRadio.checked)
        ui.manageButton.visible = ready and not remote and not running
        ui.installBox.visible = (
            running or not remote and (not ready or bool(ui.manageButton.checked))
        )
        ui.installProgress.visible = ui.installCancelButton.visible = running
        ui.installLog.visible = running or bool(self._why)
        ui.installButton.visible = ui.existingButton.visible = ui.computeCombo.visible = not running
        ui.removeButton.visible = ready and not running
        if not running:
            ui.installLabel.text = self._words()
            ui.installButton.text = self._verb()

    def _verb(self) -> str:
        if self._why:
            return _("Try again")
        return _("Install again") if self._installer.ready() else _("Install")

    def _words(self) -> str:
        if self._why:
            return f"✗ {self._why}"
        if self._local.chosen:
            return _("The engine of {python} is used.").format(python=self._local.chosen)
        if self._installer.ready():
            return _("The engine is installed in {folder}.").format(folder=self._local.folder)
        needed = size(expected_bytes(self._ui.computeCombo.currentData, self._gpu))
        words = _(
            "The engine is not on this computer yet: about {size} to download, into its own "
            "folder {folder}"
        )
        return words.format(size=needed, folder=self._local.folder)
