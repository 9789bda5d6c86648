"""The parts put together as they are in Slicer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from alunet.schema.processes import module_command
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.engine.results import plot_study
from ALUNetSlicerLib.engine.simulation import Simulation, arguments
from ALUNetSlicerLib.install import packages
from ALUNetSlicerLib.install.installer import Installer
from ALUNetSlicerLib.install.local_engine import LocalEngine
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.ports import qt_ports
from ALUNetSlicerLib.ports.protocols import Editor
from ALUNetSlicerLib.shell.workspace import Workspace


@dataclass(frozen=True)
class Parts:
    """What the module is made of."""

    workspace: Workspace
    local: LocalEngine
    timer: qt_ports.QtTimer


def assemble(editor: Editor) -> Parts:
    """Make the parts; no process is started."""
    timer, settings, folder = (
        qt_ports.QtTimer(),
        qt_ports.QtSettings(),
        Path(qt_ports.data_folder()),
    )
    python, foreign = qt_ports.python(), qt_ports.startup_environment()
    installer = Installer(qt_ports.QtProcess, timer, python, folder / "engine")
    local = LocalEngine(installer, qt_ports.QtProcess, timer, settings, python, foreign)
    command = [
        python,
        "-P",
        "-m",
        "alunet.agent",
        "--home",
        str(folder / "agent"),
        "--parent",
        str(os.getpid()),
    ]
    agent = AgentProcess(qt_ports.QtProcess(command, packages.agent_environment()), timer)
    workspace = Workspace(
        agent,
        timer,
        settings,
        folder / "work",
        qt_ports.RedView(SliceView),
        editor,
        local.place,
    )
    return Parts(workspace, local, timer)


def simulate(
    parts: Parts, dataset: str, out: str, strategies: Sequence[str], options: Mapping[str, Any]
) -> Simulation:
    """Start a study, and plot its curves when it has ended."""
    words = arguments(dataset, out, strategies, options)
    place = parts.local.place()
    if place.environment is None:
        raise RuntimeError(
            "The engine is not on this computer yet: install it in the panel, or "
            "choose an environment."
        )
    command = module_command(place.python, "alunet", *words)
    study = Simulation(qt_ports.QtProcess(command, place.environment), Path(out))

    def ended(why: Failure | None) -> None:
        if why is None:
            qt_ports.QtDesktop().chart(plot_study(study.curves()))
        else:
            slicer.util.showStatusMessage(str(why), 8000)

    study.ended.connect(ended)
    return study
