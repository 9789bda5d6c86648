"""The parts put together as they are in Slicer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from ALUNetSlicerLib import qt_ports
from ALUNetSlicerLib.agent import Agent, Failure
from ALUNetSlicerLib.installation import Here, Installation
from ALUNetSlicerLib.ports import Editor
from ALUNetSlicerLib.results import plot_study
from ALUNetSlicerLib.simulation import Simulation, arguments
from ALUNetSlicerLib.workspace import Workspace

PACKAGES = Path(__file__).resolve().parent.parent
"""Folder of this package, of the engine's source and of the resources."""


@dataclass(frozen=True)
class Parts:
    """What the module is made of."""

    workspace: Workspace
    installation: Installation
    timer: qt_ports.QtTimer


def assemble(editor: Editor) -> Parts:
    """Make the parts; no process is started."""
    timer, settings, folder = qt_ports.QtTimer(), qt_ports.QtSettings(), Path(qt_ports.data_folder())
    own, foreign = dict(os.environ), qt_ports.startup_environment()
    requirements = PACKAGES / "Resources" / "requirements.txt"
    here = Here(qt_ports.python(), PACKAGES, folder / "engine", requirements, own, foreign)
    installation = Installation(here, qt_ports.QtProcess, timer, settings)
    command = [here.python, "-m", "alunet.agent", "--home", str(folder / "agent")]
    agent = Agent(qt_ports.QtProcess(command, installation.own_environment()), timer)
    workspace = Workspace(agent, timer, settings, folder / "work", qt_ports.RedView(), editor)
    return Parts(workspace, installation, timer)


def simulate(parts: Parts, dataset: str, out: str, strategies: Sequence[str], options: Mapping[str, Any]) -> Simulation:
    """Start a study, and plot its curves when it has ended."""
    words = arguments(dataset, out, strategies, options)
    command = [parts.installation.python, "-m", "alunet", *words]
    study = Simulation(qt_ports.QtProcess(command, parts.installation.environment()), Path(out))

    def ended(why: Failure | None) -> None:
        if why is None:
            qt_ports.Desktop().chart(plot_study(study.curves()))
        else:
            slicer.util.showStatusMessage(str(why), 8000)

    study.ended.connect(ended)
    return study
