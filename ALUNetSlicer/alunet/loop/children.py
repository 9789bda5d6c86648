"""Start the loop's heavy steps in child processes, with the arithmetic that suits the computer
they run on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alunet.errors import OutOfMemory
from alunet.loop import memory
from alunet.loop.recipe import Recipe
from alunet.model import child, hardware
from alunet.model.arithmetic import Arithmetic
from alunet.model.interface import SHIPPED, load_framework, name_of
from alunet.schema import Emit, Event, ignore_events

if TYPE_CHECKING:
    from alunet.loop.loop import Loop

_CHOOSE = "alunet.loop.steps:choose_arithmetic"


def run(
    loop: Loop, function: str, log: Path, *, heard: Emit = ignore_events, **arguments: Any
) -> Any:
    """Run `function` ("package.module:name") in a child process, with framework and folder.

    Where memory is short it is run again with smaller batches, see `alunet.loop.memory`.

    Args:
        heard: called with each event before the loop hears it.

    Raises:
        OutOfMemory: there is not enough memory, or a study's training does not fit.
    """

    running = ""

    def emit(event: Event) -> None:
        nonlocal running
        if event.kind == "step" and event.data.get("state") == "started":
            running = str(event.data.get("name"))
        heard(event)
        loop.emit(event)

    folder = loop.project.nnunet_dir
    loop.framework.use_structures(folder, loop.project.labels)
    given = {"framework": name_of(loop.framework), "folder": str(folder), **arguments}
    kept = None if memory.TRAINING in given else loop.results  # a training has a place of its own
    results = kept or log.parent / "training"
    environment = loop.framework.variables(folder, results, loop.threads)
    call = child.run if loop.child is None else loop.child.run
    while True:
        fitting = memory.reduced(given, memory.shares_of(loop))
        try:
            return call(
                function, fitting, environment=environment, log=log, emit=emit, cancel=loop.cancel
            )
        except OutOfMemory as error:
            memory.make_smaller(loop, given, running, error)


@contextmanager
def in_one(loop: Loop) -> Iterator[None]:
    """Run all steps that follow in one child process, which ends with this."""
    if loop.child is not None:
        yield
        return
    with child.Child() as loop.child:
        loop.results = loop.folder() / "training"
        try:
            yield
        finally:
            loop.child = loop.results = None


def arithmetic(loop: Loop) -> Arithmetic:
    """Return how this computer computes: chosen once for a project, and anew when it comes to
    another computer.
    """
    machine, kept = hardware.describe_computer(loop.device), loop.project.settings.arithmetic
    if kept is not None and kept["machine"] == machine:
        return Arithmetic(**kept)
    if loop.project.read_only:
        with tempfile.TemporaryDirectory(prefix="alunet-") as place:
            log = Path(place) / "prepare.log"
            return Arithmetic(**run(loop, _CHOOSE, log, device=loop.device, machine=machine))
    log = loop.project.root / "prepare.log"
    chosen = run(loop, _CHOOSE, log, device=loop.device, machine=machine)
    loop.project.settings.arithmetic = chosen
    if kept is not None:
        text = (
            f"This project was last used on another computer ({kept['machine']}). Here: "
            f"{chosen['reason']}."
        )
        loop.emit(Event("message", {"text": text}))
    return Arithmetic(**chosen)


def survey(device: str) -> dict[str, Any]:
    """Return the choice for this computer on a network of the hippocampus set's size: `Arithmetic`
    in plain values.

    Besides, ``cores``: the computer's, and ``threads``: those that this process may use.

    Raises:
        InputError: there is no such device.
    """
    threads = hardware.usable_cores()
    with tempfile.TemporaryDirectory(prefix="alunet-") as folder:
        found = child.run(
            _CHOOSE,
            {
                "framework": SHIPPED,
                "folder": None,
                "device": device,
                "machine": hardware.describe_computer(device),
            },
            environment=load_framework().variables(Path(folder), Path(folder), threads),
            log=Path(folder) / "devices.log",
        )
    return {**found, "cores": os.cpu_count() or 1, "threads": threads}


def recipe_here(loop: Loop) -> Recipe:
    """Return the loop's recipe with the precision that "auto" means on this computer."""
    return loop.recipe.computed_with(arithmetic(loop))
