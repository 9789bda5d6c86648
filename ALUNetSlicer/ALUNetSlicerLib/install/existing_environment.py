"""An environment that somebody made already, in place of an installation: does it have what the engine needs?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.install import packages
from ALUNetSlicerLib.install.helper_process import Ended, HelperProcess, command
from ALUNetSlicerLib.install.problems import of_smoke_test
from ALUNetSlicerLib.ports.protocols import Process, Timer

_SECONDS = 180.0
"""A cold torch on a slow disk takes a minute."""
_CHOOSE = "Choose the Python of an environment, for instance …/bin/python or …\\Scripts\\python.exe."
_ANOTHER = "Choose an environment with Python 3.10 to 3.13, or let ALUNet install the engine."


@dataclass(frozen=True)
class ExistingEnvironment:
    """A Python that can run the engine.

    Attributes:
        python: its program.
        version: "3.12.4".
        versions: by package; "alunet" is the extension's own.
        cuda: whether its torch reaches an NVIDIA GPU.
    """

    python: str
    version: str
    versions: dict[str, str]
    cuda: bool

    def __str__(self) -> str:
        device = "an NVIDIA GPU" if self.cuda else "no NVIDIA GPU"
        parts = [f"{name} {self.versions[name]}" for name in ("torch", "nnunetv2") if name in self.versions]
        return f"Python {self.version} with {', '.join(parts)}; {device}."


def check_existing(
    process_for: Callable[[Sequence[str], Mapping[str, str]], Process], timer: Timer, python: str,
    done: Callable[[ExistingEnvironment], None], failed: Failed, base: Mapping[str, str] | None = None,
    resources: Path = packages.RESOURCES,
) -> Callable[[], None]:  # fmt: skip
    """Load in another Python all that the engine needs; takes up to a minute.

    Args:
        process_for, timer: ports.
        python: its program.
        done, failed: one of them is called once.
        base: variables to begin with: Slicer's start-up environment (`slicer.util.startupEnvironment()`).
        resources: folder with requirements.txt.

    Returns:
        A function that calls it off; nothing is told then.
    """

    def ended(end: Ended) -> None:
        stop_waiting()
        failure = _failure(python, end)
        if failure is None:
            found = end.answer
            done(ExistingEnvironment(python, found["python"], found["versions"], found["cuda"]))
        else:
            failed(failure)

    def late() -> None:
        helper.close()
        failed(Failure("python", f"{python} does not answer within {_SECONDS:.0f} s.", _CHOOSE))

    def call_off() -> None:
        stop_waiting()
        helper.close()

    given = json.dumps({"requirements": str(resources / "requirements.txt"), "inside": None})
    process = process_for(
        command(python, "alunet.agent.install.smoke_test", given), packages.existing_environment(base)
    )  # fmt: skip
    helper = HelperProcess(process, lambda line: None, ended)
    stop_waiting = timer.later(_SECONDS, late)
    helper.start()
    return call_off


def _failure(python: str, end: Ended) -> Failure | None:
    """Why a Python cannot run the engine; None where it can."""
    if end.last.startswith("alunet-old "):
        return Failure("python", f"{python} is Python {end.last.split()[1]}; ALUNet needs 3.10 to 3.13.", _ANOTHER)
    if end.status is None and not end.answer:
        return Failure("python", f"{python} cannot be used: {end.last}", _CHOOSE)
    version = tuple(int(part) for part in end.answer.get("python", "0.0").split(".")[:2])
    if version > packages.NEWEST_PYTHON:
        return Failure("python", f"{python} is Python {version[0]}.{version[1]}; ALUNet needs 3.10 to 3.13.", _ANOTHER)
    problem, hint = of_smoke_test(end)
    return Failure("environment", f"{python} cannot run the engine: {problem}", hint) if problem else None
