"""An environment that is there already, in place of an installation: does it have what the
engine needs?
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.install import packages
from ALUNetSlicerLib.install.answers import SmokeTest
from ALUNetSlicerLib.install.helper_process import Ended, HelperProcess, command
from ALUNetSlicerLib.install.problems import of_smoke_test
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Process, Timer

_SECONDS = 180.0
"""A cold torch on a slow disk takes a minute."""
_CHOOSE = _(
    "Choose the Python of an environment, for instance …/bin/python or …\\Scripts\\python.exe."
)
_ANOTHER = _("Choose an environment with Python 3.10 to 3.13, or let ALUNet install the engine.")


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
        device = _("an NVIDIA GPU") if self.cuda else _("no NVIDIA GPU")
        parts = [
            f"{name} {self.versions[name]}"
            for name in ("torch", "nnunetv2")
            if name in self.versions
        ]
        words = _("Python {version} with {packages}; {device}.")
        return words.format(version=self.version, packages=", ".join(parts), device=device)


def check_existing(
    process_for: Callable[[Sequence[str], Mapping[str, str]], Process],
    timer: Timer,
    python: str,
    done: Callable[[ExistingEnvironment], None],
    failed: Failed,
    base: Mapping[str, str] | None = None,
    resources: Path = packages.RESOURCES,
) -> Callable[[], None]:
    """Load in another Python all that the engine needs; takes up to a minute.

    Args:
        process_for, timer: ports.
        python: its program.
        done, failed: one of them is called once.
        base: variables to begin with: Slicer's start-up environment
            (`slicer.util.startupEnvironment()`).
        resources: folder with requirements.txt.

    Returns:
        A function that calls it off; nothing is told then.
    """

    def ended(end: Ended) -> None:
        stop_waiting()
        failure = _failure(python, end)
        if failure is None:
            found = end.read(SmokeTest)
            done(ExistingEnvironment(python, found.python, found.versions, found.cuda))
        else:
            failed(failure)

    def late() -> None:
        helper.close()
        message = _("{python} does not answer within {seconds} s.")
        failed(Failure("python", message.format(python=python, seconds=round(_SECONDS)), _CHOOSE))

    def call_off() -> None:
        stop_waiting()
        helper.close()

    given = json.dumps({"requirements": str(resources / "requirements.txt"), "inside": None})
    process = process_for(
        command(python, "alunet.agent.install.smoke_test", given),
        packages.existing_environment(base),
    )
    helper = HelperProcess(process, lambda line: None, ended)
    stop_waiting = timer.later(_SECONDS, late)
    helper.start()
    return call_off


def _failure(python: str, end: Ended) -> Failure | None:
    """Why a Python cannot run the engine; None where it can."""
    if end.last.startswith("alunet-old "):
        return _of_another_age(python, end.last.split()[1])
    if end.status is None and not end.answer:
        message = _("{python} cannot be used: {words}").format(python=python, words=end.last)
        return Failure("python", message, _CHOOSE)
    version = tuple(int(part) for part in end.read(SmokeTest).python.split(".")[:2])
    if version > packages.NEWEST_PYTHON:
        return _of_another_age(python, f"{version[0]}.{version[1]}")
    problem, hint = of_smoke_test(end)
    if not problem:
        return None
    message = _("{python} cannot run the engine: {problem}").format(python=python, problem=problem)
    return Failure("environment", message, hint)


def _of_another_age(python: str, version: str) -> Failure:
    message = _("{python} is Python {version}; ALUNet needs 3.10 to 3.13.").format(
        python=python, version=version
    )
    return Failure("python", message, _ANOTHER)
