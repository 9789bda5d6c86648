"""Around an installation: what pip says, what is installed where from, and environments that are
there already.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

from pip_case import InstallationCase

from ALUNetSlicerLib.install import packages
from ALUNetSlicerLib.install.existing_environment import check_existing
from ALUNetSlicerLib.install.packages import MODULES
from ALUNetSlicerLib.install.pip_output import Meter, explain
from ALUNetSlicerLib.install.torch_sources import torch_sources


class WordsTest(unittest.TestCase):
    def test_what_pip_says_while_it_downloads(self):
        time = [0.0]
        meter = Meter(1000 * 10**6, lambda: time[0])
        self.assertFalse(meter.hear("Collecting torch==2.13.0"))
        self.assertFalse(meter.hear("  Downloading torch-2.13.0.whl.metadata (30 kB)"))
        self.assertFalse(meter.hear("  Using cached sympy-1.14.0-py3-none-any.whl (200.0 MB)"))
        self.assertAlmostEqual(meter.fraction, 0.75 * 0.2)
        self.assertFalse(
            meter.hear("Downloading torch-2.13.0-cp312-cp312-win_amd64.whl (400.0 MB)")
        )
        self.assertEqual((meter.phase, meter.seconds_left), ("Downloading torch", None))
        for second in range(11):
            time[0] = float(second)
            self.assertTrue(meter.hear(f"Progress {second * 20 * 10**6} of 400000000"))
        self.assertEqual(meter.phase, "Downloading torch (200 of 400 MB)")
        self.assertAlmostEqual(meter.fraction, 0.75 * 0.4)
        self.assertAlmostEqual(meter.seconds_left, 600 / 20)
        self.assertFalse(meter.hear("Installing collected packages: sympy, torch"))
        self.assertEqual(
            (meter.phase, meter.fraction, meter.seconds_left), ("Unpacking 2 packages", 0.75, None)
        )
        meter.installed(1)
        self.assertAlmostEqual(meter.fraction, 0.85)

    def test_an_older_pip_tells_less_and_the_files_count_when_they_are_there(self):
        meter = Meter(10 * 10**6, lambda: 0.0)
        meter.hear("  Downloading a-1-py3-none-any.whl (4.0 MB)")
        self.assertEqual(meter.fraction, 0.0)
        meter.hear("  Downloading b-1-py3-none-any.whl (4.0 MB)")
        self.assertAlmostEqual(meter.fraction, 0.3)

    def test_pips_own_reason_in_one_line(self):
        for said, code in (
            (
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
                "device",
                "disk",
            ),
            (
                "ERROR: Could not install packages due to an OSError: [WinError 5] Access is "
                "denied: "
                "'c10.dll'",
                "write",
            ),
            (
                "ERROR: Could not find a version that satisfies the requirement torch==9 (from "
                "versions: none)",
                "pip",
            ),
        ):
            failure = explain(["Collecting torch", said, ""])
            self.assertEqual(failure.code, code)
            self.assertIn(said.removeprefix("ERROR: "), failure.message)
        tried = "WARNING: Retrying (Retry(total=0)) after connection broken"
        self.assertEqual(
            explain([tried, "ERROR: No matching distribution found for torch"]).code, "network"
        )
        self.assertIn("pip said nothing", explain([]).message)

    def test_the_size_is_told_beforehand(self):
        cpu, cuda = packages.expected_bytes("cpu"), packages.expected_bytes("cuda")
        self.assertLess(cpu, 10**9)
        if sys.platform != "darwin":
            self.assertGreater(cuda, 2 * 10**9)
            self.assertEqual(packages.expected_bytes("auto"), cuda)
        self.assertEqual(packages.expected_bytes("auto", gpu=False), cpu)


class ResourcesTest(unittest.TestCase):
    """What is installed in Slicer is what the project says of itself; only in a checkout."""

    def setUp(self) -> None:
        self.root = MODULES.parent
        if not (self.root / "pyproject.toml").exists():
            self.skipTest("no checkout")

    def lines(self, file: Path) -> list[str]:
        text = file.read_text(encoding="utf-8").splitlines()
        return [line for line in text if line and not line.startswith("#")]

    def test_requirements_are_those_of_the_project_with_its_service(self):
        project = (self.root / "pyproject.toml").read_text(encoding="utf-8")
        wanted = []
        for part in ("dependencies", "serve"):
            block = re.search(rf"^{part} = \[\n(.*?)^\]", project, flags=re.MULTILINE | re.DOTALL)[
                1
            ]
            wanted += re.findall(r'^  "(.+)",', block, flags=re.MULTILINE)
        self.assertGreater(len(wanted), 10)
        self.assertEqual(self.lines(packages.RESOURCES / "requirements.txt"), wanted)

    def test_torch_comes_from_where_the_scripts_take_it(self):
        sys.path.insert(0, str(self.root / "Scripts"))
        self.addCleanup(sys.path.remove, str(self.root / "Scripts"))
        import environment

        torch, vision = packages.pinned("torch"), packages.pinned("torchvision")
        self.assertEqual(
            (torch, vision), (environment.pinned("torch"), environment.pinned("torchvision"))
        )
        for platform in ("linux", "darwin"):
            with mock.patch.object(sys, "platform", platform):
                ours = [source.arguments for source in torch_sources("cpu", torch, vision)]
                theirs = [arguments for _, arguments in environment.cpu_sources(torch)]
                self.assertEqual([words for words in ours if words in theirs], theirs)
        with mock.patch.object(sys, "platform", "win32"):
            ours = [source.arguments for source in torch_sources("cuda", torch, vision)]
            self.assertEqual(ours, [arguments for _, arguments in environment.gpu_sources(torch)])

    def test_versions_are_those_that_are_tested(self):
        ours = self.lines(packages.RESOURCES / "constraints.txt")
        tested = self.lines(self.root / "Scripts" / "constraints.txt")
        self.assertEqual([line for line in ours if line not in tested], [])
        pinned = {line.split("==")[0] for line in ours}
        wanted = {
            re.split("[=<>]", line)[0].lower()
            for line in self.lines(packages.RESOURCES / "requirements.txt")
        }
        self.assertEqual(wanted - pinned, set())
        both = [line for line in tested if line.split("==")[0] in pinned]
        self.assertEqual(ours, both, "of a package all lines are needed, one for each Python")


class ExistingTest(InstallationCase):
    def check(self, python: str, seconds: float = 120.0, **options):
        """What was found, or the Failure."""
        found: list = []
        given = {"base": self.base, "resources": self.resources, **options}
        check_existing(self.process_for, self.pump, python, found.append, found.append, **given)
        return self.pump.until(lambda: found, seconds)[0]

    def test_a_python_that_has_all(self):
        self.want("pip>=20")
        found = self.check(sys.executable)
        said = subprocess.run(
            [sys.executable, "--version"], capture_output=True, text=True, check=True
        )
        self.assertEqual(f"Python {found.version}", said.stdout.strip())
        self.assertEqual(set(found.versions), {"alunet", "pip"})

    def test_what_is_missing_or_too_old_is_named(self):
        self.want("pip>=20", "alunet-nosuch-package>=3", "alunetsmall")
        failure = self.check(sys.executable)
        self.assertEqual(failure.code, "environment")
        self.assertIn("it has no alunet-nosuch-package and no alunetsmall.", failure.message)
        self.assertIn('pip install "alunet-nosuch-package>=3"', failure.hint)
        self.want("pip>=900")
        self.assertRegex(self.check(sys.executable).message, r"pip is [\d.]+, needed is pip>=900")

    def test_what_is_no_python(self):
        for python in (self.top / "nothing", self.wheels):
            failure = self.check(str(python))
            self.assertEqual(failure.code, "python")
            self.assertIn(str(python), failure.message)

    def test_a_python_that_is_too_old(self):
        for name in ("python3.9", "python3.8", "python3.6", "python2.7"):
            for place in (
                shutil.which(name),
                *Path(sys.base_prefix).parent.glob(f"{name[6:]}*/bin/{name}"),
            ):
                if (
                    place
                    and not subprocess.run(
                        [place, "-V"], capture_output=True, check=False
                    ).returncode
                ):
                    failure = self.check(str(place))
                    self.assertEqual(
                        (failure.code, name[6:] in failure.message), ("python", True), str(failure)
                    )
                    return
        self.skipTest("no old Python here")


if __name__ == "__main__":
    unittest.main()
