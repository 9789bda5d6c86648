"""First use with a real pip: the engine's packages come complete, tried and in a folder of their
own, or not at all.

Most of it installs small packages made here; the slow test installs the engine.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

from engines import slow
from pip_case import TINY, InstallationCase, make_slow_source, make_wheel
from pump import PipeProcess, agent_command

from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.install import packages, torch_sources
from ALUNetSlicerLib.install.installer import Installer
from ALUNetSlicerLib.install.packages import Size


def lives(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not (
            state.exists() and state.read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "Z"
        )
    except (OSError, IndexError):
        return False


def end_all(process: subprocess.Popen) -> None:
    """End a program with all that it started: Slicer's Python is a launcher of another."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class InstallTest(InstallationCase):
    def test_packages_are_installed_tried_and_found(self):
        installer = self.make()
        self.assertFalse(installer.ready())
        self.assertIsNone(self.run_to_end(installer))
        self.assertTrue(installer.ready())
        found = installer.installed()
        self.assertEqual(found.build, "cpu")
        self.assertEqual(
            {name: found.versions[name] for name in ("alunetsmall", "alunetother")},
            {"alunetsmall": "1.0", "alunetother": "1.0"},
        )
        variables = packages.environment(found.folder, self.base)
        shown = self.python("import alunetsmall; print(alunetsmall.__file__)", variables)
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
        shown = self.python(
            "import importlib.util as u; print(u.find_spec('alunetsmall'))", dict(os.environ)
        )
        self.assertEqual(shown, "None")

    def test_settings_that_would_lead_pip_elsewhere_are_overruled(self):
        elsewhere = self.top / "elsewhere"
        self.base |= {
            "PIP_TARGET": str(elsewhere),
            "PIP_USER": "1",
            "PIP_PREFIX": str(elsewhere),
            "PIP_QUIET": "3",
            "PIP_REQUIRE_VIRTUALENV": "1",
            "PYTHONPATH": str(elsewhere),
        }
        self.assertIsNone(self.run_to_end(self.make()))
        self.assertFalse(elsewhere.exists())

    def test_other_requirements_need_another_installation_which_replaces_the_first(self):
        installer = self.make()
        self.assertIsNone(self.run_to_end(installer))
        first = installer.installed().folder
        self.want("alunetother")
        self.assertFalse(installer.ready())
        self.assertIsNone(self.run_to_end(installer))
        self.assertNotEqual(installer.installed().folder, first)
        self.assertFalse(first.exists())

    def test_installed_again_it_replaces_itself(self):
        installer = self.make()
        self.assertIsNone(self.run_to_end(installer))
        damaged = installer.installed().folder / "alunetsmall" / "__init__.py"
        damaged.unlink()
        self.assertIsNone(self.run_to_end(installer))
        self.assertTrue(damaged.exists())

    @unittest.skipUnless(os.name == "posix", "on Windows a loaded library holds the folder")
    def test_nothing_is_taken_from_an_engine_that_runs(self):
        installer = self.make()
        self.assertIsNone(self.run_to_end(installer))
        first = installer.installed().folder
        code = "import alunet, time; print('here', flush=True); time.sleep(600)"
        variables = packages.environment(first, self.base)
        engine = subprocess.Popen(
            [sys.executable, "-c", code],
            env=variables,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.addCleanup(engine.stdout.close)
        self.addCleanup(end_all, engine)
        engine.stdout.readline()
        self.assertEqual(self.run_to_end(installer).code, "in_use")
        failures: list = []
        installer.remove(self.fail, failures.append)
        self.pump.until(lambda: failures)
        self.assertEqual(failures[0].code, "in_use")
        self.assertTrue(installer.ready())
        self.want("alunetother")
        self.assertIsNone(self.run_to_end(installer))
        self.assertTrue((first / "alunetsmall" / "__init__.py").exists())
        end_all(engine)
        self.assertIsNone(self.run_to_end(installer))
        self.assertFalse(first.exists(), "nobody needs it any more")

    def test_the_computer_can_be_asked_first(self):
        answers: list = []
        self.make().inspect_computer(lambda gpu, free: answers.append((gpu, free)), self.fail)
        gpu, free = self.pump.until(lambda: answers)[0]
        self.assertIsInstance(gpu, bool)
        self.assertAlmostEqual(free / 1e9, shutil.disk_usage(self.top).free / 1e9, delta=1.0)

    def test_nobody_is_told_after_the_end(self):
        """Slicer is closed while it asks, or installs: the widgets that would be told are gone."""
        told: list = []
        installer = self.make()
        installer.inspect_computer(lambda *found: told.append(found), told.append)
        running = self.processes[-1].process
        installer.close()
        self.pump.until(lambda: running.poll() is not None)
        other = self.make()
        other.start("cpu")
        other.close()
        self.assertEqual([end.code for end in self.ends], ["cancelled"])
        wait = self.pump.now() + 0.5
        self.pump.until(lambda: self.pump.now() > wait)
        self.assertEqual((told, len(self.ends)), ([], 1))

    def test_a_folder_without_the_stamp_is_no_installation(self):
        installer = self.make()
        self.assertIsNone(self.run_to_end(installer))
        stamp = installer.installed().folder / packages.STAMP
        for content in ("", "{", "[]", '{"fingerprint": "other"}'):
            stamp.write_text(content, encoding="utf-8")
            self.assertFalse(installer.ready(), content)

    def test_removed_it_is_gone_and_what_is_not_ours_stays(self):
        installer = self.make()
        self.assertIsNone(self.run_to_end(installer))
        (self.folder / "mine.txt").write_text("x", encoding="utf-8")
        done: list = []
        installer.remove(lambda: done.append(1), self.fail)
        self.pump.until(lambda: done)
        self.assertFalse(installer.ready())
        self.assertEqual([path.name for path in self.folder.iterdir()], ["mine.txt"])

    def test_there_is_no_other_choice(self):
        with self.assertRaisesRegex(ValueError, "'rocm'"):
            self.make().start("rocm")

    def test_no_package_comes_before_a_module_of_python_itself(self):
        """nnU-Net brings an old argparse; ours are the first packages on the path."""
        make_wheel(self.wheels, "argparse", "raise ImportError('far too old')")
        make_wheel(self.wheels, "alunetsmall", needs="argparse")
        installer = self.make()
        self.assertIsNone(self.run_to_end(installer))
        variables = packages.environment(installer.installed().folder, self.base)
        self.python("import alunet, argparse; argparse.BooleanOptionalAction", variables)

    @unittest.skipUnless(os.name == "posix", "the launcher of this test is a shell script")
    def test_a_launcher_that_puts_its_packages_first_does_not_hide_ours(self):
        """As PythonSlicer does, and what people installed in Slicer comes with it."""
        slicers = self.top / "site"
        (slicers / "alunetsmall").mkdir(parents=True)
        (slicers / "alunetsmall" / "__init__.py").write_text(
            "raise ImportError('the wrong one')", encoding="utf-8"
        )
        launcher = self.top / "Python Slicer"
        launcher.write_text(
            f'#!/bin/sh\nPYTHONPATH="{slicers}:$PYTHONPATH"\nexport PYTHONPATH\nexec '
            f'"{sys.executable}" "$@"\n',
            encoding="utf-8",
        )
        launcher.chmod(0o755)
        installer = self.make(python=str(launcher))
        self.assertIsNone(self.run_to_end(installer))
        variables = packages.environment(installer.installed().folder, self.base)
        code = (
            "import os, subprocess, sys, alunet, alunetsmall; print(alunetsmall.VALUE, "
            "flush=True); "
            "subprocess.run([sys.executable, '-c', 'import alunetsmall; print(alunetsmall.VALUE)'])"
        )
        self.assertEqual(self.python(code, variables, str(launcher)), "1\n1")


class TorchTest(InstallationCase):
    """A small package called torch stands for it: which source it comes from, and what that
    costs.
    """

    def setUp(self) -> None:
        super().setUp()
        self.want("torch", "alunetsmall")
        (self.resources / "constraints.txt").write_text("torch==1.0\n", encoding="utf-8")
        nowhere = mock.patch.object(torch_sources, "INDEX", "http://127.0.0.1:9/")
        nowhere.start()
        self.addCleanup(nowhere.stop)

    def offer(self) -> None:
        """On an index, and nowhere else."""
        index = self.top / "simple"
        for name in ("torch", "alunetsmall"):
            (index / name).mkdir(parents=True)
            make_wheel(index / name, name, "class cuda: is_available = lambda: False")
            link = f'<a href="{name}-1.0-py3-none-any.whl">{name}-1.0-py3-none-any.whl</a>'
            (index / name / "index.html").write_text(
                f"<html><body>{link}</body></html>", encoding="utf-8"
            )
        del self.base["PIP_NO_INDEX"], self.base["PIP_FIND_LINKS"]
        self.base |= {"PIP_INDEX_URL": index.as_uri(), "NO_PROXY": "*"}

    def test_one_that_lies_here_is_taken(self):
        make_wheel(self.wheels, "torch", "class cuda: is_available = lambda: False")
        installer = self.make()
        self.assertIsNone(self.run_to_end(installer))
        self.assertEqual(installer.installed().versions["torch"], "1.0")
        self.assertFalse(installer.larger)
        self.assertFalse(list(self.folder.glob("wheels-*")))
        self.assertEqual(sum("$ pip download" in line for line in self.lines), 1)

    @unittest.skipUnless(sys.platform == "linux", "the usual index has the CUDA build on Linux")
    def test_the_larger_build_is_taken_where_it_fits_and_said(self):
        self.offer()
        installer = self.make()
        self.assertIsNone(self.run_to_end(installer))
        self.assertTrue(installer.larger, "the panel says so")
        self.assertTrue(any("the larger default build is taken" in line for line in self.lines))

    @unittest.skipUnless(sys.platform == "linux", "the usual index has the CUDA build on Linux")
    def test_the_larger_build_is_not_taken_where_it_does_not_fit(self):
        self.offer()
        failure = self.run_to_end(self.make(sizes={**TINY, "cuda": Size(10**16, 10**16)}))
        self.assertEqual(failure.code, "disk")

    def test_what_was_downloaded_is_kept_for_the_next_attempt(self):
        make_wheel(self.wheels, "torch", "class cuda: is_available = lambda: False")
        (self.wheels / "alunetsmall-1.0-py3-none-any.whl").unlink()
        installer = self.make()
        self.assertEqual(self.run_to_end(installer).code, "pip")
        (self.wheels / "torch-1.0-py3-none-any.whl").unlink()
        make_wheel(self.wheels, "alunetsmall")
        self.lines.clear()
        self.assertIsNone(self.run_to_end(installer))
        self.assertFalse(any("$ pip download" in line for line in self.lines))


class CancelTest(InstallationCase):
    def setUp(self) -> None:
        super().setUp()
        self.source = self.top / "slow one"
        self.source.mkdir()
        make_slow_source(self.source)
        self.want("alunetsmall", f"slowone @ {self.source.as_uri()}")

    def begin(self, installer: Installer) -> list[int]:
        """The processes that pip started, in the middle of its work."""
        file = self.source / "pids"
        installer.start("cpu")
        self.pump.until(lambda: file.exists() or (self.ends and self.fail(self.ends)))
        return [
            int(pid) for pid in self.pump.until(lambda: file.read_text(encoding="ascii").split())
        ]

    @unittest.skipUnless(os.name == "posix", "asks for processes as POSIX does")
    def test_cancelled_nothing_runs_on_nothing_is_used_and_the_next_attempt_is_complete(self):
        installer = self.make()
        pids = self.begin(installer)
        self.assertEqual([lives(pid) for pid in pids], [True, True])
        installer.cancel()
        self.assertEqual([end.code for end in self.ends], ["cancelled"])
        self.pump.until(lambda: not any(lives(pid) for pid in pids), 10)
        self.assertFalse(installer.ready())
        self.assertFalse(list(self.folder.glob("packages-*")))
        (self.source / "quick").touch()
        self.ends.clear()
        installer.start("cpu")
        self.pump.until(lambda: self.ends)
        self.assertEqual(self.ends, [None])
        self.assertTrue(installer.ready())
        self.assertFalse((self.folder / "part").exists())

    @unittest.skipUnless(os.name == "posix", "asks for processes as POSIX does")
    def test_a_pip_that_is_killed_is_a_failure(self):
        installer = self.make()
        pids = self.begin(installer)
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid in pids if lives(pid)])
        self.processes[-1].kill()
        for pid in pids:  # they hold the pipe
            os.kill(pid, signal.SIGKILL)
        self.pump.until(lambda: self.ends)
        self.assertEqual(self.ends[0].code, "pip")
        self.assertFalse(installer.ready())

    def test_a_second_start_meanwhile_is_passed_over(self):
        (self.source / "quick").touch()
        installer = self.make()
        installer.start("cpu")
        installer.start("cpu")
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
        self.assert_plain(
            failure, "pip", "No matching distribution found for alunet-nosuch-package"
        )

    def test_no_way_to_the_index(self):
        del self.base["PIP_NO_INDEX"], self.base["PIP_FIND_LINKS"]
        nowhere = "http://127.0.0.1:9/simple"
        self.base |= {
            "PIP_INDEX_URL": nowhere,
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_RETRIES": "1",
            "NO_PROXY": "*",
        }
        self.assert_plain(self.run_to_end(self.make()), "network", "cannot be reached")

    def test_a_package_that_does_not_load(self):
        make_wheel(self.wheels, "alunetother", "raise RuntimeError('wrong processor')")
        installer = self.make()
        self.assert_plain(
            self.run_to_end(installer), "trial", "alunetother does not load", "wrong processor"
        )
        self.assertFalse(installer.ready())

    def test_a_folder_where_nothing_can_be_written(self):
        file = self.top / "file"
        file.write_text("x", encoding="utf-8")
        self.assert_plain(
            self.run_to_end(self.make(file / "engine")), "write", str(file / "engine")
        )

    def test_too_little_space_is_told_before_anything_is_downloaded(self):
        much = Size(10**16, 10**16)
        failure = self.run_to_end(self.make(sizes={"cpu": much, "cuda": much}))
        self.assert_plain(failure, "disk", "GB of free space", "30000000.0 GB")
        self.assertFalse(any("$ pip" in line for line in self.lines))

    def test_a_disk_that_fills_up_meanwhile(self):
        disk = self.top / "small disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
        if (
            sys.platform != "linux"
            or subprocess.run(mount, capture_output=True, check=False).returncode
        ):
            self.skipTest("no small file system can be mounted here: root on Linux can")
        self.addCleanup(lambda: subprocess.run(["umount", "--lazy", str(disk)], check=True))
        installer = self.make(disk / "engine")
        self.assert_plain(self.run_to_end(installer), "disk", "full")
        self.assertFalse(installer.ready())

    def test_a_python_that_cannot_be_started(self):
        self.assert_plain(self.run_to_end(self.make(python=str(self.top / "nothing"))), "python")

    @unittest.skipUnless(os.name == "posix", "a colon separates folders on POSIX")
    def test_a_folder_that_no_search_path_can_hold(self):
        self.assert_plain(self.run_to_end(self.make(self.top / "a:b")), "path", "a:b")


@slow
class WholeTest(InstallationCase):
    """The engine itself, into a folder, by a Python that has nothing but what Slicer's has for
    the agent.
    """

    def test_the_engine_is_installed_and_a_local_service_answers(self):
        bare = self.top / "slicers python"
        subprocess.run([sys.executable, "-m", "venv", str(bare)], check=True)
        python = str(bare / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        own = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTHONHOME")
        }
        pip = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--upgrade",
            "pip",
            "requests",
        ]
        subprocess.run(pip, check=True, env=own)
        before = sorted(path.name for path in bare.rglob("*.dist-info"))
        installer = self.make(
            python=python, base=own, resources=packages.RESOURCES, sizes=packages.SIZES
        )
        self.assertIsNone(self.run_to_end(installer, "cpu", 1500))
        found = installer.installed()
        self.assertIn("torch", found.versions)
        self.assertEqual(sorted(path.name for path in bare.rglob("*.dist-info")), before)
        self.check_sizes(found.folder, "cuda" if installer.larger else "cpu")
        self.serve(python, packages.environment(found.folder, own), own)

    def check_sizes(self, folder: Path, build: str) -> None:
        """What is told beforehand is right, within a quarter."""
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        told = packages.SIZES[build].installed
        self.assertTrue(0.75 * told < size < 1.25 * told, size)

    def serve(self, python: str, variables: dict[str, str], own: dict[str, str]) -> None:
        """An agent of the bare Python starts the engine with the packages, and it answers."""
        home, root = self.top / "home", self.top / "projects"
        command = [python, *agent_command(home)[1:]]
        agent = AgentProcess(
            PipeProcess(self.pump, command, packages.agent_environment(own)), self.pump
        )
        self.addCleanup(agent.close)
        agent.start()
        answers: list = []
        agent.ask(
            "connect",
            answers.append,
            answers.append,
            to=f"local:{root}",
            python=python,
            environment=variables,
        )
        health = self.pump.until(lambda: answers, 180)[0]
        self.assertIsInstance(health, dict, str(health))
        service = json.loads(next((root / ".alunet").glob("*.json")).read_text(encoding="utf-8"))
        self.addCleanup(os.kill, service["pid"], signal.SIGTERM)
        devices: list = []

        def ask() -> bool:
            agent.ask("health", devices.append, devices.append)
            self.pump.until(lambda: devices, 30)
            return devices.pop().device != "unknown"

        self.pump.until(ask, 120)


if __name__ == "__main__":
    unittest.main()
