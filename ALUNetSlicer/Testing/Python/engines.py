"""Agents and services of the tests, with the Python that runs them (inside Slicer not its own),
and real images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

import slicer

import ALUNetSlicerLib
from alunet.schema import API

try:
    from pytest import mark

    slow = mark.slow
except ImportError:  # inside Slicer

    def slow(test: type) -> type:
        """Mark nothing: all tests run there."""
        return test


PACKAGES = str(Path(ALUNetSlicerLib.__file__).parents[1])
PYTHON = os.environ.get("ALUNET_TEST_PYTHON", sys.executable)


def environment() -> dict[str, str]:
    """As before Slicer's launcher changed it, with the engine's source on the path."""
    return {**slicer.util.startupEnvironment(), "PYTHONPATH": PACKAGES}


def another_version(api: int) -> dict[str, str]:
    """The same of a process of ALUNet that speaks another version of the contract."""
    places = os.pathsep.join((str(Path(PACKAGES) / "Testing" / "other_version"), PACKAGES))
    return {**environment(), "PYTHONPATH": places, "ALUNET_TEST_API": str(api)}


def serve(
    root: Path, port: int = 0, device: str = "cpu", api: int = API
) -> tuple[subprocess.Popen, str, str]:
    """Start a real service on a folder of projects; return its process, address and token."""
    command = [PYTHON, "-m", "alunet", "serve", "--root", str(root), "--port", str(port)]
    command += ["--threads", "1", "--device", device]
    variables = environment() if api == API else another_version(api)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=variables, text=True)
    note = json.loads(process.stdout.readline())
    return process, note["address"], note["token"]


def stop(process: subprocess.Popen) -> None:
    """End a service at once, as a crash would."""
    process.kill()
    process.wait()
    process.stdout.close()


def real_images(name: str) -> Path:
    """A folder of real images, below the variable ALUNET_DATA or `shared/data` beside the
    repository.

    Where it is missing the test is skipped with that reason; with CI=true it fails.
    """
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("ALUNET_DATA") or beside) / name
    if folder.is_dir():
        return folder
    reason = f"no real images in {folder}: set ALUNET_DATA to the folder that holds {name}"
    if os.environ.get("CI") == "true":
        raise AssertionError(reason)
    raise unittest.SkipTest(reason)
