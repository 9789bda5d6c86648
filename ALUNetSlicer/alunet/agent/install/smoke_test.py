"""Load what the engine needs, in the Python that runs this, and print versions and what is missing.

The command line is one argument: JSON with ``requirements``, the file with their ranges, and
``inside``: the folder that all must come from, or null.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import alunet
from alunet.agent.install import answer

_MODULES = {
    "pylibjpeg-openjpeg": "openjpeg",
    "scikit-learn": "sklearn",
    "submodlib-py": "submodlib",
}
"""Import names of distributions that are called otherwise."""
_OPTIONAL = ("submodlib-py",)
"""What the engine asks for when it is used, and says so where it is missing."""


def smoke_test(requirements: Path, inside: Path | None) -> dict[str, Any]:
    """Load everything.

    Returns:
        ``python``, ``versions`` by distribution, ``cuda``, and what is wrong: ``missing``
        (requirements), ``broken`` (distribution: reason), ``unfit`` (requirement: version),
        ``strange`` (distribution: where it came from).
    """
    found: dict[str, Any] = {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "versions": {"alunet": alunet.__version__},
        "missing": [],
        "broken": {},
        "unfit": {},
        "strange": {},
        "cuda": False,
    }
    for line in requirements.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].split(";")[0].strip()
        if text and not text.startswith("-"):
            _load(text, inside, found)
    if "torch" in found["versions"] and "torch" not in found["broken"]:
        found["cuda"] = bool(importlib.import_module("torch").cuda.is_available())
    return found


def _load(requirement: str, inside: Path | None, found: dict[str, Any]) -> None:
    name = "".join(
        letter if letter.isalnum() or letter in "-_." else " " for letter in requirement
    ).split()[0]
    try:
        version = found["versions"][name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if name not in _OPTIONAL:
            found["missing"].append(requirement)
        return
    if not _fits(requirement, version):
        found["unfit"][requirement] = version
    try:
        module = importlib.import_module(_MODULES.get(name, name))
    except Exception as error:  # noqa: BLE001  whatever a package does when it is loaded, its reason is told
        if name not in _OPTIONAL:
            found["broken"][name] = f"{type(error).__name__}: {error}".splitlines()[0]
        return
    if inside is not None and not _is_in(module, inside):
        found["strange"][name] = str(module.__file__)


def _fits(requirement: str, version: str) -> bool:
    """Whether a version is in range; taken for granted where nothing is there to compare them."""
    for package in ("packaging.requirements", "pip._vendor.packaging.requirements"):
        try:
            fits: bool = (
                importlib.import_module(package)
                .Requirement(requirement)
                .specifier.contains(version, True)
            )
            return fits
        except ImportError:
            continue
    return True


def _is_in(module: ModuleType, folder: Path) -> bool:
    return (
        module.__file__ is not None and folder.resolve() in Path(module.__file__).resolve().parents
    )


if __name__ == "__main__":
    _given = json.loads(sys.argv[1])
    answer(
        smoke_test(
            Path(_given["requirements"]), Path(_given["inside"]) if _given["inside"] else None
        )
    )
