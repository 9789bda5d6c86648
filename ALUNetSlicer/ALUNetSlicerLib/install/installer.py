"""First use: the engine's packages are installed on this computer, in a folder of their own, by
Slicer's own Python.

No administrator is asked and nothing is put among Slicer's packages. What is not complete is never
used: the folder gets its name after everything in it was loaded once. All slow work is done by
processes; see `alunet.agent.install`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.install import packages
from ALUNetSlicerLib.install.answers import PlaceAnswer, SmokeTest
from ALUNetSlicerLib.install.helper_process import Ended, HelperProcess, command
from ALUNetSlicerLib.install.install_log import InstallLog
from ALUNetSlicerLib.install.packages import RESOURCES, SIZES, Installed, Size
from ALUNetSlicerLib.install.pip_arguments import PipArguments
from ALUNetSlicerLib.install.pip_output import Meter, explain
from ALUNetSlicerLib.install.problems import (
    of_computer,
    of_folder,
    of_place,
    of_smoke_test,
    of_space,
    unwritable,
)
from ALUNetSlicerLib.install.torch_sources import TorchSource, torch_sources
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Process, Timer
from ALUNetSlicerLib.ports.signal import Signal

ProcessFor = Callable[[Sequence[str], Mapping[str, str]], Process]
LONGEST = 210
"""Letters of the longest path below the folder of an installation, torch's licences with pip's
own temporary folder.
"""
_PLACE = "alunet.agent.install.place"
_LOOK_SECONDS = 1.0


class Installer:
    """The engine's packages on this computer.

    Args:
        process_for: makes a process of a command line and all its variables.
        timer: of the main thread.
        python: Slicer's Python, which is this one (`sys.executable` in Slicer).
        folder: for the packages; it may not exist yet.
        base: variables to begin with; None: those of this process.
        resources: folder with requirements.txt and constraints.txt.
        sizes: of the builds "cpu" and "cuda".

    Attributes:
        progress: emits what is done (str), the fraction of the whole (0 to 1, or None), and the
            seconds that the downloads will take (or None).
        log: emits each line for `install.log`.
        folder: of the packages.
        larger: whether a larger build is installed because no index offers the chosen one.
        ended: emits None when the engine can be started, or the `Failure`; once for each `start`,
            never within it.
    """

    def __init__(
        self,
        process_for: ProcessFor,
        timer: Timer,
        python: str,
        folder: Path,
        base: Mapping[str, str] | None = None,
        resources: Path = RESOURCES,
        sizes: Mapping[str, Size] = SIZES,
    ) -> None:
        self.progress, self.log, self.ended = Signal(), Signal(), Signal()
        self.running = self.larger = False
        self._process_for, self._timer, self._python = process_for, timer, python
        self.folder, self._base, self._resources, self._sizes = (
            folder.absolute(),
            base,
            resources,
            sizes,
        )
        self._part = self.folder / "part"
        self._step: HelperProcess | None = None
        self._inspecting: HelperProcess | None = None
        self._log = InstallLog(self.folder / "install.log")
        self._choice, self._build, self._fingerprint = "auto", "cpu", ""
        self._pip = PipArguments("", resources, self.folder)
        self._meter = Meter(1, timer.now)
        self._free = 0
        self._call_off: Callable[[], None] = lambda: None

    def installed(self) -> Installed | None:
        """What is installed, complete and up to date."""
        return packages.installed(self.folder, self._resources)

    def ready(self) -> bool:
        """Whether an engine can be started; quick."""
        return self.installed() is not None

    def start(self, choice: str = "auto") -> None:
        """Install "cpu", "cuda" or what fits this computer; where it is installed already, anew.
        Ignored while it runs.

        Raises:
            ValueError: there is no such choice.
        """
        if choice not in packages.CHOICES:
            raise ValueError(
                f"No build of torch is called {choice!r}: take one of "
                f"{', '.join(packages.CHOICES)}."
            )
        if self.running:
            return
        self.running, self.larger, self._choice = True, False, choice
        self._meter = Meter(1, self._timer.now)
        failure = self._open()
        if failure is not None:
            self._call_off = self._timer.later(0.0, lambda: self._end(failure))
            return
        self._tell(_("Looking at this computer"))
        self._run(_PLACE, "look", self._given(), then=self._inspected)

    def cancel(self) -> None:
        """End pip and all that it started; what there is of the installation is never used."""
        if self.running:
            self._close_step()
            hint = _("What has arrived is kept for the next one.")
            self._end(Failure("cancelled", _("The installation was stopped."), hint))

    def close(self) -> None:
        """End whatever runs: nobody is there any more to be told."""
        self.cancel()
        for step in (self._step, self._inspecting):
            if step is not None:
                step.close()
        self._step = self._inspecting = None

    def remove(self, done: Callable[[], None], failed: Callable[[Failure], None]) -> None:
        """Remove the packages, what a broken-off attempt left, and the log; what runs is cancelled.

        Nothing is removed from under an engine that runs: `failed` says so. Start nothing before
        one of them is called.
        """
        self.cancel()

        def removed(end: Ended) -> None:
            self._step = None
            failure = of_place(end, self.folder)
            failed(failure) if failure else done()

        self._step = self._beside("remove", removed)
        self._step.start()

    def inspect_computer(
        self, done: Callable[[bool, int], None], failed: Callable[[Failure], None]
    ) -> None:
        """Ask what a person should know before `start`: whether there is an NVIDIA GPU, and how
        many bytes are free.
        """

        def inspected(end: Ended) -> None:
            found = end.read(PlaceAnswer)
            failure = of_computer(end, self.folder, self._python)
            failed(failure) if failure else done(found.gpu, found.free)

        self._inspecting = self._beside("look", inspected)
        self._inspecting.start()

    def _inspected(self, end: Ended) -> None:
        found = end.read(PlaceAnswer)
        failure = of_computer(end, self.folder, self._python)
        if failure is None:
            self._build = packages.resolved(self._choice, found.gpu)
            self._fingerprint = packages.installation_fingerprint(self._build, self._resources)
            wheels = self.folder / f"wheels-{self._fingerprint}"
            self._pip = PipArguments(found.pip, self._resources, wheels)
            self._meter.expect(self._sizes[self._build].download)
            given = self._given(keep=self._fingerprint, longest=LONGEST)
            self._tell(_("Making room"))
            self._run(_PLACE, "prepare", given, then=self._prepared)
        else:
            self._end(failure)

    def _prepared(self, end: Ended) -> None:
        self._free = end.read(PlaceAnswer).free
        failure = of_place(end, self.folder) or self._room(self._build)
        if failure is not None:
            self._end(failure)
            return
        torch = packages.pinned("torch", self._resources)
        if torch and not self._pip.kept():
            self._download(
                torch_sources(self._build, torch, packages.pinned("torchvision", self._resources))
            )
        else:
            self._install()

    def _download(self, sources: list[TorchSource]) -> None:
        """Get torch in the right build from the first source that has it: the wrong one costs
        gigabytes, or the GPU.
        """
        source, *others = sources
        self._tell(_("Looking for packages"))
        self._note(source.note)
        self.larger = source.build != self._build
        if self.larger:
            self._meter.expect(self._sizes[source.build].download)
            if failure := self._room(source.build):
                self._end(failure)
                return

        def downloaded(end: Ended) -> None:
            if end.status == 0:
                self._install()
            elif others and not self._meter.began:
                self._download(others)
            else:
                self._end(explain(end.lines))

        self._run("pip", *self._pip.download(source), then=downloaded)

    def _install(self) -> None:
        target = self._part / "p"

        def ended(end: Ended) -> None:
            self._call_off()
            if end.status == 0:
                self._tell(_("Tidying up"), 0.95)
                self._run(_PLACE, "tidy", json.dumps({"packages": str(target)}), then=self._tidied)
            else:
                self._end(explain(end.lines))

        self._tell(_("Looking for packages"))
        self._run("pip", *self._pip.install(target), then=ended)
        self._count()

    def _tidied(self, end: Ended) -> None:
        """Load everything once, with the variables of the engine."""
        if failure := of_place(end, self.folder):
            self._end(failure)
            return
        self._tell(_("Trying the engine"), 0.95)
        target = self._part / "p"
        given = {"requirements": str(self._resources / "requirements.txt"), "inside": str(target)}
        variables = packages.environment(target, self._base)
        self._run(
            "alunet.agent.install.smoke_test",
            json.dumps(given),
            then=self._tried,
            variables=variables,
        )

    def _tried(self, end: Ended) -> None:
        problem, _hint = of_smoke_test(end)
        if problem:
            message = _("The engine was installed, but does not load: {problem}").format(
                problem=problem
            )
            self._end(Failure("trial", message, _("Try again.")))
            return
        stamp = packages.stamp(self._fingerprint, self._build, end.read(SmokeTest).versions)
        given = self._given(packages=str(self._part / "p"), stamp=stamp)
        self._tell(_("Finishing"), 0.98)
        self._run(_PLACE, "adopt", given, then=lambda end: self._end(of_place(end, self.folder)))

    def _count(self) -> None:
        """While pip unpacks it says nothing: count what is there."""
        if self._meter.packages:
            done = (self._part / "t").glob("pip-target-*/lib/python/*.dist-info")
            self._meter.installed(len(list(done)))
            self._tell()
        self._call_off = self._timer.later(_LOOK_SECONDS, self._count)

    def _room(self, build: str) -> Failure | None:
        needed = self._sizes[build].needed - sum(wheel.stat().st_size for wheel in self._pip.kept())
        return of_space(self.folder, self._free, needed)

    def _given(self, **arguments: Any) -> str:
        """Of a function of `alunet.agent.install.place`."""
        return json.dumps({"folder": str(self.folder), **arguments})

    def _beside(self, call: str, ended: Callable[[Ended], None]) -> HelperProcess:
        """A process that is no part of an installation; what it says is not logged."""
        return HelperProcess(self._process(_PLACE, call, self._given()), lambda line: None, ended)

    def _process(
        self, module: str, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> Process:
        if variables is None:
            variables = packages.pip_environment(self._part / "t", self._base)
        return self._process_for(command(self._python, module, *arguments), variables)

    def _run(
        self,
        module: str,
        *arguments: str,
        then: Callable[[Ended], None],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        if module == "pip":
            self._note(" ".join(("$ pip", *arguments)))
        self._step = HelperProcess(
            self._process(module, *arguments, variables=variables), self._heard, then
        )
        self._step.start()

    def _heard(self, line: str) -> None:
        before = self._meter.shown
        if not self._meter.hear(line):
            self._note(line)
        if before != self._meter.shown:
            self._tell()

    def _tell(self, phase: str | None = None, fraction: float = 0.0) -> None:
        self._meter.reach(fraction, phase)
        self.progress.emit(*self._meter.shown)

    def _note(self, line: str) -> None:
        self._log.note(line)
        self.log.emit(line)

    def _open(self) -> Failure | None:
        """The log; the Failure where nothing can be written."""
        failure = of_folder(self.folder)
        if failure is not None:
            return failure
        try:
            self._log.open()
        except OSError as error:
            return unwritable(self.folder, error.strerror or str(error))
        return None

    def _close_step(self) -> None:
        step, self._step = self._step, None
        self._call_off()
        if step is not None:
            step.close()

    def _end(self, failure: Failure | None) -> None:
        if not self.running:
            return  # cancelled before it began
        self._call_off()
        self._step, self.running = None, False
        if failure is None:
            self._tell(_("Ready"), 1.0)
        else:
            self._note(str(failure))
        self._log.close()
        self.ended.emit(failure)
