"""First use with a real pip: the engine's packages come complete, tried and in a folder of their own, or not at all.

Most of it installs small packages made here, from a folder and without a network; the slow tests install the engine.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

from pump import PipeProcess, Pump, agent_command

from ALUNetSlicerLib import packages
from ALUNetSlicerLib.agent import Agent
from ALUNetSlicerLib.existing import check_existing
from ALUNetSlicerLib.installation import Installation
from ALUNetSlicerLib.packages import MODULES, Size
from ALUNetSlicerLib.pip_words import Meter, explain

try:
    from pytest import mark

    slow = mark.slow
except ImportError:  # inside Slicer

    def slow(test):
        return test


TINY = {"cpu": Size(1000, 1000), "cuda": Size(2000, 2000)}


def make_wheel(folder: Path, name: str, code: str = "VALUE = 1", size: int = 0) -> None:
    """A package of one module, with some ballast that does not compress."""
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", code)
        wheel.writestr(f"{name}/ballast.bin", os.urandom(size))
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"{name}/__init__.py,,\n{name}/ballast.bin,,\n")


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
        wheel.writestr(about + "/METADATA", "Metadata-Version: 2.1\\nName: slowone\\nVersion: 1.0\\n")
        wheel.writestr(about + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(about + "/RECORD", "slowone.py,,\\n")
    return "slowone-1.0-py3-none-any.whl"
"""


def lives(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not (state.exists() and state.read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "Z")
    except (OSError, IndexError):
        return False


class InstallationCase(unittest.TestCase):
    """A folder with a blank and an umlaut, packages in another one, and what was told."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="alunet ü ")
        self.addCleanup(folder.cleanup)
        self.top, self.pump = Path(folder.name), Pump()
        self.folder, self.wheels, self.resources = (self.top / name for name in ("Für den Motor", "wheels", "resources"))
        self.wheels.mkdir()
        self.resources.mkdir()
        make_wheel(self.wheels, "alunetsmall", size=3 * 10**6)
        make_wheel(self.wheels, "alunetother")
        self.want("alunetsmall>=1.0", "alunetother")
        self.base = {
            **os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri(),
        }  # fmt: skip
        self.processes: list[PipeProcess] = []
        self.told: list[tuple] = []
        self.lines: list[str] = []
        self.ends: list = []

    def want(self, *requirements: str) -> None:
        (self.resources / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
        (self.resources / "constraints.txt").write_text("alunetother==1.0\n", encoding="utf-8")

    def process_for(self, command, environment) -> PipeProcess:
        self.processes.append(PipeProcess(self.pump, command, dict(environment)))
        return self.processes[-1]

    def make(self, folder: Path | None = None, python: str = sys.executable, **options) -> Installation:
        options = {"base": self.base, "resources": self.resources, "sizes": TINY, **options}
        made = Installation(self.process_for, self.pump, python, folder or self.folder, **options)
        made.progress.connect(lambda *told: self.told.append(told))
        made.log.connect(self.lines.append)
        made.ended.connect(self.ends.append)
        self.addCleanup(made.cancel)
        return made

    def run_to_end(self, installation: Installation, choice: str = "cpu", seconds: float = 120.0):
        """The Failure, or None."""
        self.ends.clear()
        installation.start(choice)
        self.pump.until(lambda: self.ends, seconds)
        self.assertEqual(len(self.ends), 1)
        self.assertFalse(installation.running)
        return self.ends[0]

    def python(self, code: str, environment: dict[str, str], python: str = sys.executable) -> str:
        done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()


class InstallTest(InstallationCase):
    def test_packages_are_installed_tried_and_found(self):
        installation = self.make()
        self.assertFalse(installation.ready())
        self.assertIsNone(self.run_to_end(installation))
        self.assertTrue(installation.ready())
        found = installation.installed()
        self.assertEqual(found.build, "cpu")
        self.assertEqual({name: found.versions[name] for name in ("alunetsmall", "alunetother")},
                         {"alunetsmall": "1.0", "alunetother": "1.0"})  # fmt: skip
        shown = self.python("import alunetsmall; print(alunetsmall.__file__)", packages.environment(found.folder, self.base))
        self.assertEqual(Path(shown).parents[1], found.folder)
        kept = sorted(path.name for path in self.folder.iterdir())
        self.assertEqual(kept, ["install.log", found.folder.name])

    def test_progress_never_goes_back_and_the_log_has_it_all(self):
        self.assertIsNone(self.run_to_end(self.make()))
        fractions = [fraction or 0.0 for _, fraction, _ in self.told]
        self.assertEqual(fractions, sorted(fractions))
        self.assertEqual(self.told[-1], ("Ready", 1.0, None))
        phases = [phase for phase, _ in itertools.groupby(told[0] for told in self.told)]
        self.assertEqual(phases[:2], ["Looking at this computer", "Making room"])
        self.assertIn("Unpacking 2 packages", phases)
        self.assertIn("Trying the engine", phases)
        log = (self.folder / "install.log").read_text(encoding="utf-8").splitlines()
        self.assertEqual(log, self.lines)
        self.assertTrue(any(line.startswith("Successfully installed") for line in log))

    def test_nothing_is_installed_among_the_packages_of_the_python_itself(self):
        self.assertIsNone(self.run_to_end(self.make()))
        shown = self.python("import importlib.util as u; print(u.find_spec('alunetsmall'))", dict(os.environ))
        self.assertEqual(shown, "None")

    def test_settings_that_would_lead_pip_elsewhere_are_overruled(self):
        elsewhere = self.top / "elsewhere"
        self.base |= {"PIP_TARGET": str(elsewhere), "PIP_USER": "1", "PIP_PREFIX": str(elsewhere), "PIP_QUIET": "3",
                      "PIP_REQUIRE_VIRTUALENV": "1", "PYTHONPATH": str(elsewhere)}  # fmt: skip
        self.assertIsNone(self.run_to_end(self.make()))
        self.assertFalse(elsewhere.exists())

    def test_other_requirements_need_another_installation_which_replaces_the_first(self):
        installation = self.make()
        self.assertIsNone(self.run_to_end(installation))
        first = installation.installed().folder
        self.want("alunetother")
        self.assertFalse(installation.ready())
        self.assertIsNone(self.run_to_end(installation))
        self.assertNotEqual(installation.installed().folder, first)
        self.assertFalse(first.exists())

    def test_installed_again_it_replaces_itself(self):
        installation = self.make()
        self.assertIsNone(self.run_to_end(installation))
        damaged = installation.installed().folder / "alunetsmall" / "__init__.py"
        damaged.unlink()
        self.assertIsNone(self.run_to_end(installation))
        self.assertTrue(damaged.exists())

    def test_a_folder_without_the_stamp_is_no_installation(self):
        installation = self.make()
        self.assertIsNone(self.run_to_end(installation))
        stamp = installation.installed().folder / packages.STAMP
        for content in ("", "{", "[]", '{"fingerprint": "other"}'):
            stamp.write_text(content, encoding="utf-8")
            self.assertFalse(installation.ready(), content)

    def test_removed_it_is_gone_and_what_is_not_ours_stays(self):
        installation = self.make()
        self.assertIsNone(self.run_to_end(installation))
        (self.folder / "mine.txt").write_text("x", encoding="utf-8")
        done: list = []
        installation.remove(lambda: done.append(1), self.fail)
        self.pump.until(lambda: done)
        self.assertFalse(installation.ready())
        self.assertEqual([path.name for path in self.folder.iterdir()], ["mine.txt"])

    def test_there_is_no_other_choice(self):
        with self.assertRaisesRegex(ValueError, "'rocm'"):
            self.make().start("rocm")

    @unittest.skipUnless(os.name == "posix", "the launcher of this test is a shell script")
    def test_a_launcher_that_puts_its_packages_first_does_not_hide_ours(self):
        """As PythonSlicer does, and what people installed in Slicer comes with it."""
        slicers = self.top / "site"
        (slicers / "alunetsmall").mkdir(parents=True)
        (slicers / "alunetsmall" / "__init__.py").write_text("raise ImportError('the wrong one')", encoding="utf-8")
        launcher = self.top / "Python Slicer"
        launcher.write_text(
            f'#!/bin/sh\nPYTHONPATH="{slicers}:$PYTHONPATH"\nexport PYTHONPATH\nexec "{sys.executable}" "$@"\n',
            encoding="utf-8",
        )
        launcher.chmod(0o755)
        installation = self.make(python=str(launcher))
        self.assertIsNone(self.run_to_end(installation))
        variables = packages.environment(installation.installed().folder, self.base)
        code = "import os, subprocess, sys, alunet, alunetsmall; print(alunetsmall.VALUE, flush=True); " \
               "subprocess.run([sys.executable, '-c', 'import alunetsmall; print(alunetsmall.VALUE)'])"  # fmt: skip
        self.assertEqual(self.python(code, variables, str(launcher)), "1\n1")


class CancelTest(InstallationCase):
    def setUp(self) -> None:
        super().setUp()
        self.source = self.top / "slow one"
        self.source.mkdir()
        (self.source / "backend.py").write_text(SLOW_BACKEND, encoding="utf-8")
        system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        about = '[project]\nname = "slowone"\nversion = "1.0"\n'
        (self.source / "pyproject.toml").write_text(system + about, encoding="utf-8")
        self.want("alunetsmall", f"slowone @ {self.source.as_uri()}")

    def begin(self, installation: Installation) -> list[int]:
        """The processes that pip started, in the middle of its work."""
        file = self.source / "pids"
        installation.start("cpu")
        self.pump.until(lambda: file.exists() or (self.ends and self.fail(self.ends)))
        return [int(pid) for pid in self.pump.until(lambda: file.read_text(encoding="ascii").split())]

    @unittest.skipUnless(os.name == "posix", "asks for processes as POSIX does")
    def test_cancelled_nothing_runs_on_nothing_is_used_and_the_next_attempt_is_complete(self):
        installation = self.make()
        pids = self.begin(installation)
        self.assertEqual([lives(pid) for pid in pids], [True, True])
        installation.cancel()
        self.assertEqual([end.code for end in self.ends], ["cancelled"])
        self.pump.until(lambda: not any(lives(pid) for pid in pids), 10)
        self.assertFalse(installation.ready())
        self.assertFalse(list(self.folder.glob("packages-*")))
        (self.source / "quick").touch()
        self.ends.clear()
        installation.retry()
        self.pump.until(lambda: self.ends)
        self.assertEqual(self.ends, [None])
        self.assertTrue(installation.ready())
        self.assertFalse((self.folder / "part").exists())

    @unittest.skipUnless(os.name == "posix", "asks for processes as POSIX does")
    def test_a_pip_that_is_killed_is_a_failure(self):
        installation = self.make()
        pids = self.begin(installation)
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid in pids if lives(pid)])
        self.processes[-1].kill()
        for pid in pids:  # they hold the pipe
            os.kill(pid, signal.SIGKILL)
        self.pump.until(lambda: self.ends)
        self.assertEqual(self.ends[0].code, "pip")
        self.assertFalse(installation.ready())

    def test_a_second_start_meanwhile_is_passed_over(self):
        (self.source / "quick").touch()
        installation = self.make()
        installation.start("cpu")
        installation.start("cpu")
        self.pump.until(lambda: self.ends)
        self.assertEqual(self.ends, [None])


class FailureTest(InstallationCase):
    def assert_plain(self, failure, code: str, *words: str) -> None:
        self.assertIsNotNone(failure)
        self.assertEqual(failure.code, code, str(failure))
        self.assertNotIn("\n", str(failure))
        self.assertTrue(failure.hint)
        for word in words:
            self.assertIn(word, failure.message)

    def test_a_package_that_is_not_there(self):
        self.want("alunet-nosuch-package")
        failure = self.run_to_end(self.make())
        self.assert_plain(failure, "pip", "No matching distribution found for alunet-nosuch-package")

    def test_no_way_to_the_index(self):
        del self.base["PIP_NO_INDEX"], self.base["PIP_FIND_LINKS"]
        nowhere = "http://127.0.0.1:9/simple"
        self.base |= {"PIP_INDEX_URL": nowhere, "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "1", "NO_PROXY": "*"}
        self.assert_plain(self.run_to_end(self.make()), "network", "cannot be reached")

    def test_a_package_that_does_not_load(self):
        make_wheel(self.wheels, "alunetother", "raise RuntimeError('wrong processor')")
        installation = self.make()
        self.assert_plain(self.run_to_end(installation), "trial", "alunetother does not load", "wrong processor")
        self.assertFalse(installation.ready())

    def test_a_folder_where_nothing_can_be_written(self):
        file = self.top / "file"
        file.write_text("x", encoding="utf-8")
        self.assert_plain(self.run_to_end(self.make(file / "engine")), "write", str(file / "engine"))

    def test_too_little_space_is_told_before_anything_is_downloaded(self):
        much = Size(10**16, 10**16)
        failure = self.run_to_end(self.make(sizes={"cpu": much, "cuda": much}))
        self.assert_plain(failure, "disk", "GB of free space", "22000000.0 GB")
        self.assertFalse(any("$ pip" in line for line in self.lines))

    def test_a_disk_that_fills_up_meanwhile(self):
        disk = self.top / "small disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
        if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
            self.skipTest("no small file system can be mounted here: root on Linux can")
        self.addCleanup(lambda: subprocess.run(["umount", "--lazy", str(disk)], check=True))
        installation = self.make(disk / "engine")
        self.assert_plain(self.run_to_end(installation), "disk", "full")
        self.assertFalse(installation.ready())

    def test_a_python_that_cannot_be_started(self):
        self.assert_plain(self.run_to_end(self.make(python=str(self.top / "nothing"))), "python")

    @unittest.skipUnless(os.name == "posix", "a colon separates folders on POSIX")
    def test_a_folder_that_no_search_path_can_hold(self):
        self.assert_plain(self.run_to_end(self.make(self.top / "a:b")), "path", "a:b")


class WordsTest(unittest.TestCase):
    def test_what_pip_says_while_it_downloads(self):
        time = [0.0]
        meter = Meter(1000 * 10**6, lambda: time[0])
        self.assertFalse(meter.hear("Collecting torch==2.13.0"))
        self.assertFalse(meter.hear("  Downloading torch-2.13.0.whl.metadata (30 kB)"))
        self.assertFalse(meter.hear("  Using cached sympy-1.14.0-py3-none-any.whl (200.0 MB)"))
        self.assertAlmostEqual(meter.fraction, 0.75 * 0.2)
        self.assertFalse(meter.hear("Downloading torch-2.13.0-cp312-cp312-win_amd64.whl (400.0 MB)"))
        self.assertEqual((meter.phase, meter.seconds_left), ("Downloading torch", None))
        for second in range(11):
            time[0] = float(second)
            self.assertTrue(meter.hear(f"Progress {second * 20 * 10**6} of 400000000"))
        self.assertAlmostEqual(meter.fraction, 0.75 * 0.4)
        self.assertAlmostEqual(meter.seconds_left, 600 / 20)
        self.assertFalse(meter.hear("Installing collected packages: sympy, torch"))
        self.assertEqual((meter.phase, meter.fraction, meter.seconds_left), ("Unpacking 2 packages", 0.75, None))
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
            ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk"),
            ("ERROR: Could not install packages due to an OSError: [WinError 5] Access is denied: 'c10.dll'", "write"),
            ("ERROR: Could not find a version that satisfies the requirement torch==9 (from versions: none)", "pip"),
        ):
            failure = explain(["Collecting torch", said, ""])
            self.assertEqual(failure.code, code)
            self.assertIn(said.removeprefix("ERROR: "), failure.message)
        unreachable = ["WARNING: Retrying (Retry(total=0)) after connection broken", "ERROR: No matching distribution found"]
        self.assertEqual(explain(unreachable).code, "network")
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
            block = re.search(rf"^{part} = \[\n(.*?)^\]", project, flags=re.MULTILINE | re.DOTALL)[1]
            wanted += re.findall(r'^  "(.+)",', block, flags=re.MULTILINE)
        self.assertGreater(len(wanted), 10)
        self.assertEqual(self.lines(packages.RESOURCES / "requirements.txt"), wanted)

    def test_versions_are_those_that_are_tested(self):
        ours = self.lines(packages.RESOURCES / "constraints.txt")
        tested = self.lines(self.root / "Scripts" / "constraints.txt")
        self.assertEqual([line for line in ours if line not in tested], [])
        pinned = {line.split("==")[0] for line in ours}
        wanted = {re.split("[=<>]", line)[0].lower() for line in self.lines(packages.RESOURCES / "requirements.txt")}
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
        self.assertEqual(found.version, ".".join(str(part) for part in sys.version_info[:3]))
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
            for place in (shutil.which(name), *Path.home().glob(f".pyenv/versions/{name[6:]}*/bin/{name}")):
                if place and not subprocess.run([place, "-V"], capture_output=True, check=False).returncode:
                    failure = self.check(str(place))
                    self.assertEqual((failure.code, name[6:] in failure.message), ("python", True), str(failure))
                    return
        self.skipTest("no old Python here")


@slow
class WholeTest(InstallationCase):
    """The engine itself, into a folder, by a Python that has nothing but what Slicer's has for the agent."""

    def test_the_engine_is_installed_and_a_local_service_answers(self):
        bare = self.top / "slicers python"
        subprocess.run([sys.executable, "-m", "venv", str(bare)], check=True)
        python = str(bare / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "pip", "requests"]
        subprocess.run(pip, check=True, env=own)
        before = sorted(path.name for path in bare.rglob("*.dist-info"))
        installation = self.make(python=python, base=own, resources=packages.RESOURCES, sizes=packages.SIZES)
        self.assertIsNone(self.run_to_end(installation, "cpu", 1500))
        found = installation.installed()
        self.assertIn("torch", found.versions)
        self.assertEqual(sorted(path.name for path in bare.rglob("*.dist-info")), before)
        self.check_sizes(found.folder)
        self.serve(python, packages.environment(found.folder, own), own)

    def check_sizes(self, folder: Path) -> None:
        """What is told beforehand is right, within a quarter."""
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        told = packages.SIZES["cpu"].installed
        self.assertTrue(0.75 * told < size < 1.25 * told, size)

    def serve(self, python: str, variables: dict[str, str], own: dict[str, str]) -> None:
        """An agent of the bare Python starts the engine with the packages, and it answers."""
        home, root = self.top / "home", self.top / "projects"
        command = [python, *agent_command(home)[1:]]
        agent = Agent(PipeProcess(self.pump, command, packages.agent_environment(own)), self.pump)
        self.addCleanup(agent.close)
        agent.start()
        answers: list = []
        agent.ask("connect", answers.append, answers.append, to=f"local:{root}", python=python, environment=variables)
        health = self.pump.until(lambda: answers, 180)[0]
        self.assertIsInstance(health, dict, str(health))
        service = json.loads(next((root / ".alunet").glob("*.json")).read_text(encoding="utf-8"))
        self.addCleanup(os.kill, service["pid"], signal.SIGTERM)
        devices: list = []

        def ask() -> bool:
            agent.ask("health", devices.append, devices.append)
            self.pump.until(lambda: devices, 30)
            return devices.pop()["device"] != "unknown"

        self.pump.until(ask, 120)


if __name__ == "__main__":
    unittest.main()
