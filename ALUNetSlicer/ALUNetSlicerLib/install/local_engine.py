"""The engine on this computer: of the packages that were installed, or of an environment that
a person chose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ALUNetSlicerLib.engine.failure import Failed
from ALUNetSlicerLib.engine.place import EnginePlace
from ALUNetSlicerLib.install import packages
from ALUNetSlicerLib.install.existing_environment import ExistingEnvironment, check_existing
from ALUNetSlicerLib.install.installer import Installer, ProcessFor
from ALUNetSlicerLib.ports.protocols import Timer, UserSettings


class LocalEngine:
    """How it is started.

    Args:
        installer: of its packages.
        process_for, timer: of the main thread.
        settings: of the person; "python" is the environment that was chosen, empty for none.
        python: Slicer's own.
        foreign: variables of another Python's processes: without what Slicer's launcher added.
    """

    def __init__(
        self,
        installer: Installer,
        process_for: ProcessFor,
        timer: Timer,
        settings: UserSettings,
        python: str,
        foreign: Mapping[str, str],
    ) -> None:
        self.installer = installer
        self._process_for, self._timer, self._settings = process_for, timer, settings
        self._python, self._foreign = python, foreign

    @property
    def chosen(self) -> str:
        """The Python of the environment that was chosen; empty for none."""
        return self._settings.get("python")

    @property
    def folder(self) -> Path:
        """Where its packages are installed, or would be."""
        return self.installer.folder

    def ready(self) -> bool:
        """Whether it can be started."""
        return Path(self.chosen).is_file() if self.chosen else self.installer.ready()

    def place(self) -> EnginePlace:
        """Where it is, for the agent; where it is not ready, as it will be."""
        if self.chosen:
            return EnginePlace(
                "local",
                python=self.chosen,
                environment=packages.existing_environment(self._foreign),
            )
        found = self.installer.installed()
        variables = None if found is None else packages.environment(found.folder)
        return EnginePlace("local", python=self._python, environment=variables)

    def choose(
        self, python: str, done: Callable[[ExistingEnvironment], None], failed: Failed
    ) -> None:
        """Use the Python of an environment from now on, if it has what the engine needs."""

        def found(existing: ExistingEnvironment) -> None:
            self._settings.set("python", python)
            done(existing)

        variables = packages.existing_environment(self._foreign)
        check_existing(self._process_for, self._timer, python, found, failed, variables)

    def forget(self) -> None:
        """Use what is installed."""
        self._settings.set("python", "")
