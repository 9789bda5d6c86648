"""Why an installation failed, or an environment will not do: what the processes found, in plain
words.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.install import packages
from ALUNetSlicerLib.install.answers import PlaceAnswer, SmokeTest
from ALUNetSlicerLib.install.helper_process import Ended
from ALUNetSlicerLib.ports.i18n import tr as _

_FULL = ("No space left", "not enough space", "quota")


def of_place(end: Ended, folder: Path) -> Failure | None:
    """Why the folder of the packages cannot be used; None where it can."""
    if end.status != 0 or not end.answer:
        message = _("Slicer's Python could not do its work: {words}").format(words=end.last)
        return Failure("python", message, _("The log has all that it said."))
    found = end.read(PlaceAnswer)
    if found.problem == "in_use":
        message = _("The packages in {folder} are in use ({reason}).")
        hint = _("Close what uses the engine, also another Slicer; after a minute try again.")
        return Failure("in_use", message.format(folder=folder, reason=found.reason), hint)
    if found.problem == "path":
        message = _(
            "{folder} is so long that the paths of the packages below it are refused ({reason})."
        )
        message = message.format(folder=folder, reason=found.reason)
        return Failure("path", message, _("Choose a folder with a shorter path."))
    return unwritable(folder, found.reason) if found.problem else None


def of_folder(folder: Path) -> Failure | None:
    """Why a folder of this name, or this computer, will not do; None where they will."""
    if os.pathsep in str(folder):
        message = _("{folder} has a {letter} in its name, which Python cannot take.")
        message = message.format(folder=folder, letter=repr(os.pathsep))
        return Failure("path", message, _("Choose another folder."))
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        message = _(
            "There is no PyTorch any more for Macs with Intel's processors, "
            "or for Slicer's build for them."
        )
        return Failure("computer", message, _("Use an engine on another computer."))
    return None


def of_space(folder: Path, free: int, needed: int) -> Failure | None:
    """Why the engine has no room in a folder; None where it has."""
    if free >= needed:
        return None
    message = _("{folder} has {free} GB of free space; the engine needs {needed} GB.")
    message = message.format(folder=folder, free=f"{free / 1e9:.1f}", needed=f"{needed / 1e9:.1f}")
    return Failure("disk", message, _("Free space there, or choose a folder on another disk."))


def unwritable(folder: Path, reason: str) -> Failure:
    """Nothing can be put into a folder."""
    if any(words in reason for words in _FULL):
        message = _("The disk of {folder} is full ({reason}).").format(folder=folder, reason=reason)
        return Failure("disk", message, _("Free space there, or choose another folder."))
    message = _("Nothing can be written to {folder} ({reason}).").format(
        folder=folder, reason=reason
    )
    return Failure("write", message, _("Choose a folder that is yours."))


def of_computer(end: Ended, folder: Path, python: str) -> Failure | None:
    """Why nothing can be installed into the folder with this Python; None where it can."""
    if failure := of_place(end, folder):
        return failure
    found = end.read(PlaceAnswer)
    version = ".".join(str(part) for part in found.python)
    if version != packages.python_version():
        message = _("{python} is Python {version}, and Slicer's is {own}.")
        message = message.format(python=python, version=version, own=packages.python_version())
        return Failure("python", message, _("Choose Slicer's own Python."))
    if not found.pip:
        message = _("{python} has no pip.").format(python=python)
        return Failure(
            "no_pip", message, _("Install Slicer again, or choose an existing environment.")
        )
    return None


def of_smoke_test(end: Ended) -> tuple[str, str]:
    """What is wrong with a Python's packages, and what to do; empty where they will do."""
    if end.status != 0 or not end.answer:
        return _("it ended with: {words}").format(words=end.last), _("Try again.")
    found = end.read(SmokeTest)
    if found.missing:
        names = _listed([_name(text) for text in found.missing])
        return _("it has no {names}.").format(names=names), _pip(found.missing)
    if found.broken:
        words = _("{name} does not load ({why})")
        broken = "; ".join(words.format(name=name, why=why) for name, why in found.broken.items())
        return f"{broken}.", _("Install that package there anew.")
    if found.unfit:
        words = _("{name} is {version}, needed is {wanted}")
        pairs = found.unfit.items()
        unfit = "; ".join(
            words.format(name=_name(text), version=version, wanted=text) for text, version in pairs
        )
        return f"{unfit}.", _pip(list(found.unfit))
    if found.strange:
        words = _("{name} came from {place}")
        strange = "; ".join(
            words.format(name=name, place=place) for name, place in found.strange.items()
        )
        return f"{strange}.", _("Remove that package there, or unset PYTHONPATH.")
    return "", ""


def _pip(requirements: Sequence[str]) -> str:
    wanted = " ".join(f'"{requirement}"' for requirement in requirements)
    return _("Install there: {command}").format(command=f"pip install {wanted}")


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement)[0]


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return _("{names} and no {last}").format(names=", ".join(first), last=last) if first else last
