"""Why an installation failed, or an environment will not do: what the processes found, in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.install import packages
from ALUNetSlicerLib.install.helper_process import Ended

_FULL = ("No space left", "not enough space", "quota")


def of_place(end: Ended, folder: Path) -> Failure | None:
    """Why the folder of the packages cannot be used; None where it can."""
    if end.status != 0 or not end.answer:
        return Failure("python", f"Slicer's Python could not do its work: {end.last}", "The log has all that it said.")
    problem, reason = end.answer["problem"], end.answer["reason"]
    if problem == "in_use":
        hint = "Close what uses the engine, also another Slicer; after a minute try again."
        return Failure("in_use", f"The packages in {folder} are in use ({reason}).", hint)
    if problem == "path":
        message = f"{folder} is so long that the paths of the packages below it are refused ({reason})."
        return Failure("path", message, "Choose a folder with a shorter path.")
    return unwritable(folder, reason) if problem else None


def unwritable(folder: Path, reason: str) -> Failure:
    """Nothing can be put into a folder."""
    if any(words in reason for words in _FULL):
        message = f"The disk of {folder} is full ({reason})."
        return Failure("disk", message, "Free space there, or choose another folder.")
    return Failure("write", f"Nothing can be written to {folder} ({reason}).", "Choose a folder that is yours.")


def of_computer(python: str, found: dict[str, Any]) -> Failure | None:
    """Why nothing can be installed with this Python; None where it can."""
    version = ".".join(str(part) for part in found["python"])
    if version != packages.python_version():
        message = f"{python} is Python {version}, and Slicer's is {packages.python_version()}."
        return Failure("python", message, "Choose Slicer's own Python.")
    if not found["pip"]:
        return Failure("no_pip", f"{python} has no pip.", "Install Slicer again, or choose an existing environment.")
    return None


def of_smoke_test(end: Ended) -> tuple[str, str]:
    """What is wrong with a Python's packages, and what to do; empty where they will do."""
    if end.status != 0 or not end.answer:
        return f"it ended with: {end.last}", "Try again."
    found = end.answer
    if found["missing"]:
        return f"it has no {_listed([_name(text) for text in found['missing']])}.", _pip(found["missing"])
    if found["broken"]:
        broken = "; ".join(f"{name} does not load ({why})" for name, why in found["broken"].items())
        return f"{broken}.", "Install that package there anew."
    if found["unfit"]:
        unfit = "; ".join(f"{_name(text)} is {version}, needed is {text}" for text, version in found["unfit"].items())
        return f"{unfit}.", _pip(list(found["unfit"]))
    if found["strange"]:
        strange = "; ".join(f"{name} came from {place}" for name, place in found["strange"].items())
        return f"{strange}.", "Remove that package there, or unset PYTHONPATH."
    return "", ""


def _pip(requirements: Sequence[str]) -> str:
    return "Install there: pip install " + " ".join(f'"{requirement}"' for requirement in requirements)


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement)[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and no " + names[-1] if len(names) > 1 else names[0]
