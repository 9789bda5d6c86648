"""The folder that holds the engine's packages: `place CALL JSON`, one of the functions of `CALLS`.

==========================  ========================================================================
in the folder               what
==========================  ========================================================================
``packages-FINGERPRINT``    complete and tried: it carries the stamp, written before it got this
                            name
``part``                    an installation under way, or one that was broken off; never used; ``p``
                            in it the packages, ``t`` temporary files of pip
``wheels-FINGERPRINT``      torch as it was downloaded, kept for the next attempt
``install.log``             the last attempt
==========================  ========================================================================
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alunet.agent.install import answer

STAMP = "alunet-stamp.json"
IN_USE = "alunet-in-use"
"""A file that every process of an engine holds a lock on (see `alunet._hold`)."""
PART = "part"
_OURS = ("part", "packages-*", "wheels-*", "trash-*", "install.log")
_PATIENCE = 8
"""Tries to move or remove what a virus scanner, or a process that is just ending, still holds
open.
"""


def inspect_folder(folder: str) -> dict[str, Any]:
    """What this computer has: Python, pip, an NVIDIA GPU, free bytes where the folder is or will
    be.
    """
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        pip = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        pip = ""
    found = {
        "python": list(sys.version_info[:2]),
        "pip": pip,
        "gpu": has_gpu(),
        "problem": "",
        "reason": "",
    }
    try:
        return {**found, "free": shutil.disk_usage(place).free}
    except OSError as error:
        return {**found, "free": 0, **_problem("write", error)}


def prepare(folder: str, keep: str, longest: int) -> dict[str, Any]:
    """Clear away what earlier attempts left, and see whether files can be put there.

    Args:
        keep: fingerprint of what will be installed.
        longest: letters of the longest path that is put below ``part``.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for old in [
            *place.glob("packages-*"),
            *place.glob("wheels-*"),
            place / PART,
            *place.glob("trash-*"),
        ]:
            if old.name != f"wheels-{keep}" and not (old / STAMP).is_file():
                _remove(old)
        if in_use(place / f"packages-{keep}"):
            return {**inspect_folder(folder), "problem": "in_use", "reason": "an engine runs"}
        (place / PART / "t").mkdir(parents=True)
    except OSError as error:
        return {**inspect_folder(folder), **_problem("write", error)}
    return {**inspect_folder(folder), **_probe(place / PART, longest)}


def tidy(packages: str) -> dict[str, Any]:
    """Remove what would come before Python's own modules, now that the packages are first on the
    path.

    nnU-Net brings an argparse of 2015 in this way, which is harmless where packages come last.
    """
    try:
        for path in Path(packages).iterdir():
            if path.name.split(".")[0] in sys.stdlib_module_names and not path.name.endswith(
                (".dist-info", ".libs")
            ):
                _remove(path)
    except OSError as error:
        return _problem("write", error)
    return {"problem": "", "reason": ""}


def adopt(folder: str, packages: str, stamp: dict[str, Any]) -> dict[str, Any]:
    """Give what was installed and tried its stamp, then its name, and remove what it replaces.

    Args:
        packages: folder with the packages, in ``part``.
        stamp: its content, with ``fingerprint`` and ``python``.
    """
    place, target = Path(folder), Path(folder) / f"packages-{stamp['fingerprint']}"
    try:
        with (Path(packages) / STAMP).open("w", encoding="utf-8") as file:
            json.dump(stamp, file)
            file.flush()
            os.fsync(file.fileno())
        if hasattr(os, "sync"):
            # thousands of files: a power cut must not leave them empty behind a valid stamp
            os.sync()
        _retire(target)
        _patiently(lambda: os.replace(packages, target))
    except OSError as error:
        return _problem("in_use" if target.exists() else "write", error)
    for old in [
        *place.glob("packages-*"),
        *place.glob("wheels-*"),
        place / PART,
        *place.glob("trash-*"),
    ]:
        if old != target and _python_of(old) in ("", stamp["python"]):
            with contextlib.suppress(OSError):
                # an engine runs with it; the next installation removes it
                _retire(old)
    return {"problem": "", "reason": ""}


def remove(folder: str) -> dict[str, Any]:
    """Remove everything of ours, and the folder where nothing else is in it."""
    place = Path(folder)
    try:
        for pattern in _OURS:
            for old in place.glob(pattern):
                _retire(old)
        with contextlib.suppress(OSError):
            place.rmdir()
    except OSError as error:
        return _problem("in_use", error)
    return {"problem": "", "reason": ""}


def in_use(packages: Path) -> bool:
    """Whether a process of an engine holds these packages; where there are no such locks, moving
    them will tell.
    """
    try:
        import fcntl

        with (packages / IN_USE).open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


def has_gpu() -> bool:
    """Whether an NVIDIA driver answers on this machine."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows alone has it
    try:
        listed = subprocess.run(
            [tool, "-L"], capture_output=True, timeout=30, check=False, creationflags=hidden
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"GPU" in listed.stdout


def _probe(part: Path, longest: int) -> dict[str, str]:
    """Write a file with a path as long as the longest; Windows may refuse those of 260 letters
    and more.
    """
    try:
        (part / "probe").write_bytes(b"alunet")
    except OSError as error:
        return _problem("write", error)
    deep, left = part / "probes", longest - len("/probes")
    try:
        while left > 100:
            deep, left = deep / ("p" * 80), left - 81
        deep.mkdir(parents=True)
        (deep / ("p" * (left - 1))).write_bytes(b"alunet")
        _remove(part / "probes")
        _remove(part / "probe")
    except OSError as error:
        return _problem("path", error)
    return {"problem": "", "reason": ""}


def _python_of(packages: Path) -> str:
    """The Python that packages are for; empty where they are not complete."""
    try:
        return str(json.loads((packages / STAMP).read_text(encoding="utf-8"))["python"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _retire(path: Path) -> None:
    """Remove something as a whole, or raise OSError and leave it as it was: nothing is taken
    from a running engine.
    """
    if not path.is_dir():
        _remove(path)
        return
    if in_use(path):
        raise BlockingIOError(None, "an engine runs", str(path))
    trash = path.with_name(f"trash-{uuid.uuid4().hex[:8]}")
    _patiently(lambda: os.replace(path, trash))
    _remove(trash)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        _patiently(lambda: shutil.rmtree(path) if path.exists() else None)
    else:
        _patiently(lambda: path.unlink(missing_ok=True))


def _patiently(action: Callable[[], Any]) -> None:
    for attempt in range(_PATIENCE):
        try:
            action()
            return
        except OSError:
            if attempt == _PATIENCE - 1:
                raise
            time.sleep(0.25)


def _problem(name: str, error: OSError) -> dict[str, str]:
    return {
        "problem": name,
        "reason": f"{error.strerror or error}: {error.filename or ''}".rstrip(": "),
    }


CALLS: dict[str, Callable[..., dict[str, Any]]] = {
    "look": inspect_folder,
    "prepare": prepare,
    "tidy": tidy,
    "adopt": adopt,
    "remove": remove,
}

if __name__ == "__main__":
    answer(CALLS[sys.argv[1]](**json.loads(sys.argv[2])))
