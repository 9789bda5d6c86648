"""Where the engine's packages are on this computer, how large they are, and how a process is
started with them.

They lie in a folder of their own, never among Slicer's; the source of the engine comes with the
extension.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

MODULES = Path(__file__).absolute().parents[2]
"""The folder with `ALUNetSlicerLib` and `alunet`."""
RESOURCES = MODULES / "Resources"
STAMP = "alunet-stamp.json"
BUILDS = ("cuda", "cpu")
CHOICES = ("auto", "cpu", "cuda")
NEWEST_PYTHON = (3, 13)
MB = 10**6
_UNWANTED = (
    "PIP_TARGET",
    "PIP_PLATFORM",
    "PIP_PYTHON",
    "PIP_PYTHON_VERSION",
    "PIP_DRY_RUN",
    "PIP_REPORT",
    "PIP_LOG",
)


@dataclass(frozen=True)
class Size:
    """What one build takes, in bytes.

    Attributes:
        download: all packages, packed.
        installed: all of them, unpacked.
        needed: free space for the installation: pip has the packed ones in its cache and in a
            temporary folder.
    """

    download: int
    installed: int

    @property
    def needed(self) -> int:
        """All three together."""
        return 2 * self.download + self.installed


SIZES = {"cpu": Size(510 * MB, 1850 * MB), "cuda": Size(3100 * MB, 5900 * MB)}
"""Measured on Linux x86-64 in November 2026 with the versions of `Resources/constraints.txt`: the
CPU build with Python 3.11, 97 packages, 501 MB packed, 1791 MB unpacked; the CUDA 13 build with
Python 3.12, 116 packages, 3039 MB packed (torch and NVIDIA's libraries 2738 MB of it), 5815 MB
unpacked. On Windows CUDA is inside torch's own package, which is published in 2 to 3 GB: not
measured, taken for the same."""


@dataclass(frozen=True)
class Installed:
    """A complete installation.

    Attributes:
        folder: the packages.
        build: "cpu" or "cuda".
        versions: of the main packages.
    """

    folder: Path
    build: str
    versions: dict[str, str]


def resolved(choice: str, gpu: bool) -> str:
    """The build that a choice stands for; Macs have one alone, which is called "cpu" here."""
    if sys.platform == "darwin":
        return "cpu"
    return ("cuda" if gpu else "cpu") if choice == "auto" else choice


def expected_bytes(choice: str, gpu: bool | None = None) -> int:
    """How much is downloaded for "auto", "cpu" or "cuda", for a person to know beforehand; see
    `SIZES`.

    Args:
        gpu: whether this computer has an NVIDIA GPU; while that is not known, "auto" counts as the
            larger.

    Raises:
        KeyError: there is no such choice.
    """
    return SIZES[resolved(choice, gpu is not False)].download


def python_version() -> str:
    """Of this Python, which is the one that packages are installed for: "3.12"."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def installation_fingerprint(build: str, resources: Path = RESOURCES) -> str:
    """Of what is wanted: other requirements, another Python or computer makes another one."""
    parts = [build, python_version(), sys.platform, platform.machine()]
    parts += [
        (resources / f"{name}.txt").read_text(encoding="utf-8")
        for name in ("requirements", "constraints")
    ]
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()[:10]


def pinned(package: str, resources: Path = RESOURCES) -> str:
    """The version of a package in the constraints; empty where there is none."""
    for line in (resources / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{package}=="):
            return line.split("==")[1].split(";")[0].strip()
    return ""


def stamp(fingerprint: str, build: str, versions: Mapping[str, str]) -> dict[str, Any]:
    """What an installation that is complete says of itself; `installed` reads it."""
    return {
        "fingerprint": fingerprint,
        "build": build,
        "python": python_version(),
        "versions": dict(versions),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def installed(folder: Path, resources: Path = RESOURCES) -> Installed | None:
    """The installation that is complete and up to date, or None; looks at two small files at
    most.
    """
    for build in BUILDS:
        wanted = installation_fingerprint(build, resources)
        packages = folder / f"packages-{wanted}"
        try:
            found: dict[str, Any] = json.loads((packages / STAMP).read_text(encoding="utf-8"))
            if found["fingerprint"] == wanted:
                return Installed(packages, build, dict(found["versions"]))
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return None


def environment(packages: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """All variables with which the engine is started by Slicer's Python; the agent's `connect`
    takes them.

    Args:
        packages: `Installed.folder`.
        base: variables to begin with; None: those of this process, which Slicer's Python needs.
    """
    path = os.pathsep.join((str(packages), str(MODULES)))
    return {**_own(base), "PYTHONPATH": path, "ALUNET_PACKAGES": str(packages)}


def agent_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """All variables with which the agent is started by Slicer's Python; it needs no
    installation.
    """
    return {**_own(base), "PYTHONPATH": str(MODULES)}


def existing_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """All variables with which an engine is started by another Python, which brings its own
    packages.

    Args:
        base: Slicer's start-up environment (`slicer.util.startupEnvironment()`): its own would
            mislead that Python.
    """
    kept = {
        name: value
        for name, value in _own(base).items()
        if name not in ("PYTHONHOME", "PYTHONNOUSERSITE")
    }
    return {**kept, "PYTHONPATH": str(MODULES)}


def pip_environment(temporary: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """All variables for pip: the person's proxy, indexes and cache stay, what would lead it
    elsewhere does not.

    Args:
        temporary: folder for its temporary files, on the disk of the packages, so that they are
            moved there at once.
    """
    kept = {
        name: value
        for name, value in agent_environment(base).items()
        if name.upper() not in _UNWANTED
    }
    fixed = {
        "PIP_USER": "0",
        "PIP_PREFIX": "",
        "PIP_ROOT": "",
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_QUIET": "0",
        "PIP_VERBOSE": "0",
        "NO_COLOR": "1",
    }
    return {**kept, **fixed, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))}


def _own(base: Mapping[str, str] | None) -> dict[str, str]:
    fixed = {
        "PYTHONNOUSERSITE": "1",  # packages in the person's home would come before Slicer's
        "PYTHONSAFEPATH": "1",  # and a torch.py where Slicer was started before all
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    kept = {
        name: value
        for name, value in (os.environ if base is None else base).items()
        if name != "ALUNET_PACKAGES"
    }
    return {**kept, **fixed}
