"""The Python that runs agents and services of the tests, and its environment; inside Slicer it is not Slicer's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import slicer

import ALUNetSlicerLib

PACKAGES = str(Path(ALUNetSlicerLib.__file__).parents[1])
PYTHON = os.environ.get("ALUNET_TEST_PYTHON", sys.executable)


def environment() -> dict[str, str]:
    """As before Slicer's launcher changed it, with the engine's source on the path."""
    return {**slicer.util.startupEnvironment(), "PYTHONPATH": PACKAGES}
