"""A real pip that installs small packages made here, from a folder and without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

from pump import PipeProcess, Pump

from ALUNetSlicerLib.install.installer import Installer
from ALUNetSlicerLib.install.packages import Size

SLOW_BACKEND = """
import os, pathlib, subprocess, sys, time, zipfile
HERE = pathlib.Path(__file__).parent
def build_wheel(folder, settings=None, metadata=None):
    if not (HERE / "quick").exists():
        below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (HERE / "pids").write_text(f"{os.getpid()} {below.pid}")
        time.sleep(600)
    about = "slowone-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder) / "slowone-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("slowone.py", "VALUE = 2")
        metadata = "Metadata-Version: 2.1\\nName: slowone\\nVersion: 1.0\\n"
        wheel.writestr(about + "/METADATA", metadata)
        tags = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(about + "/WHEEL", tags)
        wheel.writestr(about + "/RECORD", "slowone.py,,\\n")
    return "slowone-1.0-py3-none-any.whl"
"""

TINY = {"cpu": Size(1000, 1000), "cuda": Size(2000, 2000)}


def make_wheel(
    folder: Path, name: str, code: str = "VALUE = 1", size: int = 0, needs: str = ""
) -> None:
    """A package of one module, with some ballast that does not compress."""
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", code)
        wheel.writestr(f"{name}/ballast.bin", os.urandom(size))
        requires = f"Requires-Dist: {needs}\n" if needs else ""
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", f"{name}/__init__.py,,\n{name}/ballast.bin,,\n")


def make_slow_source(folder: Path) -> None:
    """The source of a package whose building does not end, unless a file `quick` lies there;
    `pids`: who works.
    """
    (folder / "backend.py").write_text(SLOW_BACKEND, encoding="utf-8")
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    about = '[project]\nname = "slowone"\nversion = "1.0"\n'
    (folder / "pyproject.toml").write_text(system + about, encoding="utf-8")


class InstallationCase(unittest.TestCase):
    """A folder with a blank and an umlaut, packages in another one, and what was told."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="alunet ü ")
        self.addCleanup(folder.cleanup)
        self.top, self.pump = Path(folder.name), Pump()
        self.folder = self.top / "Für den Motor"
        self.wheels, self.resources = self.top / "wheels", self.top / "resources"
        self.wheels.mkdir()
        self.resources.mkdir()
        make_wheel(self.wheels, "alunetsmall", size=3 * 10**6)
        make_wheel(self.wheels, "alunetother")
        self.want("alunetsmall>=1.0", "alunetother")
        self.base = {
            **os.environ,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": self.wheels.as_uri(),
        }
        self.processes: list[PipeProcess] = []
        self.told: list[tuple] = []
        self.lines: list[str] = []
        self.ends: list = []

    def want(self, *requirements: str) -> None:
        (self.resources / "requirements.txt").write_text(
            "\n".join(requirements) + "\n", encoding="utf-8"
        )
        (self.resources / "constraints.txt").write_text("alunetother==1.0\n", encoding="utf-8")

    def process_for(self, command, environment) -> PipeProcess:
        self.processes.append(PipeProcess(self.pump, command, dict(environment)))
        return self.processes[-1]

    def make(
        self, folder: Path | None = None, python: str = sys.executable, **options
    ) -> Installer:
        options = {"base": self.base, "resources": self.resources, "sizes": TINY, **options}
        made = Installer(self.process_for, self.pump, python, folder or self.folder, **options)
        made.progress.connect(lambda *told: self.told.append(told))
        made.log.connect(self.lines.append)
        made.ended.connect(self.ends.append)
        self.addCleanup(made.cancel)
        return made

    def run_to_end(self, installer: Installer, choice: str = "cpu", seconds: float = 120.0):
        """The Failure, or None."""
        self.ends.clear()
        installer.start(choice)
        self.pump.until(lambda: self.ends, seconds)
        self.assertEqual(len(self.ends), 1)
        self.assertFalse(installer.running)
        return self.ends[0]

    def python(self, code: str, environment: dict[str, str], python: str = sys.executable) -> str:
        done = subprocess.run(
            [python, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()
