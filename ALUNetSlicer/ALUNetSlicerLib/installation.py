"""The engine on this computer: installed at first use by Slicer's own Python, into a folder of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ALUNetSlicerLib import installer
from ALUNetSlicerLib.agent import Failed, Failure
from ALUNetSlicerLib.i18n import tr as _
from ALUNetSlicerLib.ports import Process, Settings, Timer
from ALUNetSlicerLib.signal import Signal

_DOWNLOADS = {"cpu": 460 * 10**6, "cuda": 3400 * 10**6}
"""Bytes: the CPU build and its libraries as measured on Linux; the CUDA build by the sizes of its published wheels."""
_CHECK = (
    "import json, sys, torch, nnunetv2, fastapi, uvicorn, requests, alunet, importlib.metadata as m; "
    "print(json.dumps({'Python': sys.version.split()[0], 'torch': torch.__version__, "
    "'nnU-Net': m.version('nnunetv2')}))"
)


@dataclass(frozen=True)
class Here:
    """This computer.

    Attributes:
        python: Slicer's interpreter.
        packages: folder of this package and of the engine's source.
        folder: where libraries are installed.
        requirements: file that names them.
        own: variables of processes of Slicer's Python.
        foreign: variables of processes of another Python.
    """

    python: str
    packages: Path
    folder: Path
    requirements: Path
    own: Mapping[str, str]
    foreign: Mapping[str, str]


class Installation:
    """Installs, finds and removes the engine's libraries.

    Args:
        here: this computer.
        process: makes a process of a command and its variables.
        timer: of the main thread.
        settings: of the person.

    Attributes:
        progress: emits a phase in words, the share that is done or None, and the seconds left or None.
        log: emits a line of pip's.
        ended: emits a `Failure`, or None where it is installed.
    """

    def __init__(
        self, here: Here, process: Callable[[Sequence[str], Mapping[str, str]], Process], timer: Timer,
        settings: Settings,
    ) -> None:  # fmt: skip
        self.progress, self.log, self.ended = Signal(), Signal(), Signal()
        self._here, self._make, self._timer, self._settings = here, process, timer, settings
        self._process: Process | None = None
        self._rest, self._began, self._expected = b"", 0.0, 0
        self._end: Failure | None = None

    # --- what there is ----------------------------------------------------------------------------------------

    @property
    def target(self) -> Path:
        """Folder of the libraries, by what they are and for which Python."""
        text = self._here.requirements.read_text(encoding="utf-8") + f"{sys.version_info[:2]}"
        return self._here.folder / f"packages-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def python(self) -> str:
        """The interpreter of a local engine."""
        return self._settings.get("python") or self._here.python

    def ready(self) -> bool:
        """Whether a local engine can be started."""
        chosen = self._settings.get("python")
        return Path(chosen).is_file() if chosen else (self.target / installer.STAMP).is_file()

    def environment(self) -> dict[str, str]:
        """Variables of a local engine's process."""
        if self._settings.get("python"):
            return {**self._here.foreign, "PYTHONPATH": str(self._here.packages), "PYTHONNOUSERSITE": "1"}
        return self.own_environment()

    def own_environment(self) -> dict[str, str]:
        """Variables of a process of Slicer's Python with the libraries first on its path."""
        paths = [str(self.target), str(self._here.packages), self._here.own.get("PYTHONPATH", "")]
        return {**self._here.own, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONNOUSERSITE": "1"}

    def expected_bytes(self, build: str) -> int:
        """How much an installation downloads."""
        guess = "cuda" if shutil.which("nvidia-smi") else "cpu"
        return _DOWNLOADS[guess if build == "auto" else build]

    def remove(self) -> None:
        """Remove everything that was installed, and forget a chosen environment.

        Raises:
            OSError: something is in use.
        """
        self._settings.set("python", "")
        if self._here.folder.exists():
            shutil.rmtree(self._here.folder)

    # --- install ----------------------------------------------------------------------------------------------

    def start(self, build: str) -> None:
        """Install.

        Args:
            build: of torch: "auto", "cpu" or "cuda".
        """
        if self._process is not None:
            return
        here = self._here
        self._rest, self._began, self._end = b"", self._timer.now(), None
        self._expected = self.expected_bytes(build)
        command = [here.python, "-s", str(Path(installer.__file__)), str(here.folder), str(here.requirements)]
        self._process = self._make([*command, self.target.name, build], dict(here.own))
        self.progress.emit(_("Looking for the libraries"), None, None)
        self._process.start(self._hear, self._over)

    def cancel(self) -> None:
        """Stop; what was downloaded pip finds again in its cache."""
        if self._process is not None:
            process, self._process = self._process, None
            process.close()
            self.ended.emit(Failure("cancelled", _("The installation was cancelled."), _("Start it again any time.")))

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                self._take(json.loads(line))
            except ValueError:
                self.log.emit(line.decode("utf-8", "replace"))  # not of the installer: its Python complains

    def _take(self, event: dict[str, Any]) -> None:
        if "line" in event:
            self.log.emit(event["line"])
        elif "phase" in event:
            self._tell(event["phase"], event.get("done"))
        elif event.get("error"):
            self._end = Failure("install", event["error"], event["hint"])

    def _tell(self, phase: str, done: int | None) -> None:
        words = {"torch": _("Downloading PyTorch"), "libraries": _("Installing libraries"), "try": _("Trying them")}
        if not done:
            self.progress.emit(words[phase], None, None)
            return
        share = min(done / self._expected, 0.99)
        spent = self._timer.now() - self._began
        self.progress.emit(words[phase], share, spent * (1 - share) / share if spent > 3 else None)

    def _over(self, words: str) -> None:
        if self._process is None:
            return
        self._process = None
        if self._end is None and not (self.target / installer.STAMP).is_file():
            self._end = Failure("install", _("The installation ended too early.") + f" {words}", _("Start it again."))
        if self._end is None:
            self._settings.set("python", "")
        self.ended.emit(self._end)

    # --- an environment that somebody made --------------------------------------------------------------------

    def check_existing(self, python: str, done: Callable[[dict[str, str]], None], failed: Failed) -> None:
        """Look whether a Python has what the engine needs, and use it from then on.

        Args:
            python: its interpreter.
            done: gets versions by name.
        """
        heard: list[bytes] = []
        variables = {**self._here.foreign, "PYTHONPATH": str(self._here.packages), "PYTHONNOUSERSITE": "1"}
        process = self._make([python, "-c", _CHECK], variables)

        def over(words: str) -> None:
            try:
                versions = json.loads(b"".join(heard))
            except ValueError:
                reason = (words.splitlines() or [_("it cannot be started")])[-1]
                hint = _("Choose the python of an environment with nnU-Net and the engine's libraries.")
                failed(Failure("environment", _("{python} cannot run the engine: {reason}.").format(
                    python=python, reason=reason), hint))  # fmt: skip
                return
            self._settings.set("python", python)
            done(versions)

        process.start(heard.append, over)
