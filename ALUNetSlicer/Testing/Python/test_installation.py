"""The engine's libraries are installed by a real pip into a folder of their own, or not at all."""

from __future__ import annotations

import subprocess
import tempfile
import unittest
from pathlib import Path

from engines import PACKAGES, PYTHON, environment
from pump import PipeProcess, Pump

from ALUNetSlicerLib.installation import Here, Installation


class Kept(dict):
    """Settings of one test."""

    def get(self, name: str, otherwise: str = "") -> str:
        return super().get(name, otherwise)

    def set(self, name: str, value: str) -> None:
        self[name] = value


class InstallationTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="engine of Jürg ")
        self.addCleanup(folder.cleanup)
        self.folder, self.pump, self.settings = Path(folder.name), Pump(), Kept()
        self.package = self.folder / "source"
        self.package.mkdir()
        (self.package / "pyproject.toml").write_text(
            '[project]\nname = "alunet-trial"\nversion = "1.0"\n[tool.setuptools]\npy-modules = ["alunet_trial"]\n',
            encoding="utf-8",
        )
        (self.package / "alunet_trial.py").write_text("ANSWER = 42\n", encoding="utf-8")
        self.ends: list = []
        self.lines: list[str] = []

    def make(self, requirements: str, folder: str = "engine") -> Installation:
        file = self.folder / "requirements.txt"
        file.write_text(requirements, encoding="utf-8")
        own = environment()
        here = Here(PYTHON, Path(PACKAGES), self.folder / folder, file, own, own)
        made = Installation(here, lambda command, env: PipeProcess(self.pump, command, env), self.pump, self.settings)
        made.ended.connect(self.ends.append)
        made.log.connect(self.lines.append)
        return made

    def end(self):
        self.pump.until(lambda: self.ends, 120)
        return self.ends.pop()

    def test_it_is_there_whole_first_on_the_path_and_found_again(self):
        installation = self.make(f"alunet-trial @ {self.package.as_uri()}\n")
        self.assertFalse(installation.ready())
        installation.start("cpu")
        why = self.end()
        self.assertIsNone(why, self.lines)
        self.assertTrue(installation.ready())
        self.assertTrue(self.lines, "pip's words were told")
        self.assertTrue((self.folder / "engine" / "install.log").read_text(encoding="utf-8"))
        code = "import alunet_trial; print(alunet_trial.__file__)"
        found = subprocess.run(
            [installation.python, "-c", code], env=installation.environment(), capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        self.assertTrue(found.stdout.startswith(str(installation.target)), found.stdout)
        self.assertFalse(self.make("other>=1\n").ready(), "other requirements are another installation")
        installation.remove()
        self.assertFalse((self.folder / "engine").exists())

    def test_a_package_that_is_nowhere_is_named_and_leaves_nothing_that_counts(self):
        installation = self.make("--no-index\nalunet-nowhere==9\n")
        installation.start("cpu")
        why = self.end()
        self.assertEqual(why.code, "install")
        self.assertIn("alunet-nowhere", why.message)
        self.assertFalse(installation.ready())

    def test_a_folder_that_cannot_be_written_is_named(self):
        (self.folder / "taken").write_text("a file", encoding="utf-8")
        installation = self.make("x\n", "taken")
        installation.start("cpu")
        self.assertIn("taken", self.end().message)

    def test_cancelled_it_ends_and_can_be_started_again(self):
        installation = self.make(f"alunet-trial @ {self.package.as_uri()}\n")
        installation.start("cpu")
        installation.cancel()
        self.assertEqual(self.end().code, "cancelled")
        self.assertFalse(installation.ready())
        installation.start("cpu")
        self.assertIsNone(self.end())

    def test_an_environment_of_the_persons_own_is_looked_at_before_it_is_used(self):
        found: list = []
        installation = self.make("x\n")
        installation.check_existing(PYTHON, found.append, found.append)
        self.pump.until(lambda: found, 120)
        self.assertIn("nnU-Net", found.pop())
        self.assertEqual(installation.python, PYTHON)
        self.assertTrue(installation.ready())
        installation.check_existing(str(self.folder / "no python"), found.append, found.append)
        self.pump.until(lambda: found)
        self.assertIn("no python", found[0].message)
        self.assertEqual(installation.python, PYTHON, "what worked stays")
