"""The program that installs what the engine needs: run by Slicer's Python, with nothing but the standard library.

    python installer.py FOLDER REQUIREMENTS NAME BUILD

It fills FOLDER/NAME with ``pip install --target`` and nothing else on this computer. What it does it tells as JSON
lines: ``phase`` (with ``done`` bytes where they are known), ``line`` and, last, ``end`` (``error`` and ``hint``, or
none). All of pip's words go to FOLDER/install.log. It ends, with pip, when its standard input is closed: FOLDER/NAME
is there whole or not at all.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

STAMP = "alunet-installed.txt"
BUILDS = ("auto", "cpu", "cuda")
TORCH = "2.13.0"
# PyTorch's own package indexes: elsewhere, Linux has the CUDA build alone and Windows the CPU build alone.
_INDEX = "https://download.pytorch.org/whl/"
_ROOM = {"cpu": 4 * 10**9, "cuda": 14 * 10**9}
"""Free bytes that an installation needs, with what it downloads."""
_TRY = "import torch, nnunetv2, fastapi, uvicorn, requests, SimpleITK; print(torch.__version__)"
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def _progress() -> list[str]:
    """Pip's way to tell numbers; before 24.1 it has none."""
    major, minor = (int(part) for part in importlib.metadata.version("pip").split(".")[:2])
    return ["--progress-bar", "raw" if (major, minor) >= (24, 1) else "off"]


class InstallError(Exception):
    """Why it failed, and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def tell(**event: Any) -> None:
    """Write an event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def has_gpu() -> bool:
    """Whether an NVIDIA driver answers on this computer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "GPU" in listed.stdout


def torch_sources(build: str) -> list[list[str]]:
    """Arguments of ``pip download`` that give the right build of torch, best first."""
    plain = [f"torch=={TORCH}"]
    if build == "cuda":
        windows = ["--index-url", _INDEX + "cu130", f"torch=={TORCH}+cu130"]
        return [windows] if sys.platform == "win32" else [plain]
    if sys.platform != "linux":
        return [plain]
    hurry = ["--retries", "1", "--timeout", "15"]
    own = ["--no-index", *plain]  # a wheel in the person's own find-links
    return [own, ["--index-url", _INDEX + "cpu", *hurry, f"torch=={TORCH}+cpu"], plain]


class Pip:
    """Pip of this Python, with its words in a log.

    Args:
        log: open for writing.
    """

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self.before = 0
        """Bytes that earlier downloads took."""

    def run(self, phase: str, *arguments: str) -> None:
        """Run it; raises InstallError with its own reason."""
        command = [sys.executable, "-s", "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
        variables = {**os.environ, "PYTHONNOUSERSITE": "1", "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONIOENCODING": "utf-8"}
        for name in ("PIP_TARGET", "PIP_USER", "PIP_PREFIX"):
            variables.pop(name, None)
        errors: list[str] = []
        tell(phase=phase)
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", errors="replace", env=variables,
        )  # fmt: skip
        for line in self._process.stdout or ():
            self._hear(phase, line.strip(), errors)
        if self._process.wait():
            reason = errors[0] if errors else "pip gave no reason"
            raise InstallError(f"The installation stopped: {reason}", "See the log below; a proxy may stand between.")

    def _hear(self, phase: str, line: str, errors: list[str]) -> None:
        found = _PROGRESS.match(line)
        if found:
            done, total = int(found[1]), int(found[2])
            tell(phase=phase, done=self.before + done)
            self.before += total if done >= total else 0
            return
        self._log.write(line + "\n")
        self._log.flush()
        if line.startswith("ERROR:"):
            errors.append(line.removeprefix("ERROR:").strip())
        if line:
            tell(line=line[:300])

    def kill(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()


def install(folder: Path, requirements: Path, name: str, build: str, pip: Pip) -> None:
    """Fill ``folder / name``; raises InstallError, or OSError where the disk says no."""
    build = ("cuda" if has_gpu() else "cpu") if build == "auto" else build
    free = shutil.disk_usage(folder).free
    if free < _ROOM[build]:
        words = f"{folder} has {free / 10**9:.1f} GB free; {_ROOM[build] / 10**9:.0f} GB are needed."
        raise InstallError(words, "Free space there, then start again.")
    wheels, part = folder / "wheels", folder / "packages.part"
    shutil.rmtree(part, ignore_errors=True)
    arguments = [*_progress()]
    if any(line.startswith("torch") for line in requirements.read_text(encoding="utf-8").splitlines()):
        wheel = _torch(wheels, build, pip)
        arguments += ["--find-links", str(wheels), f"torch=={wheel.name.split('-')[1]}"]
    pip.run("libraries", "install", "--target", str(part), "-r", str(requirements), *arguments)
    tell(phase="try")
    _try(part, requirements)
    (part / STAMP).write_text(f"{build}\n", encoding="utf-8")
    shutil.rmtree(folder / name, ignore_errors=True)
    part.replace(folder / name)
    shutil.rmtree(wheels, ignore_errors=True)


def _torch(wheels: Path, build: str, pip: Pip) -> Path:
    """The wheel of torch, from the first source that has it."""
    sources = torch_sources(build)
    for place, source in enumerate(sources):
        try:
            pip.run("torch", "download", "--no-deps", *_progress(), "--dest", str(wheels), *source)
            return next(wheels.glob("torch-*.whl"))
        except InstallError:
            if place == len(sources) - 1:
                raise
    raise AssertionError  # there is always one source


def _try(part: Path, requirements: Path) -> None:
    """What was installed can be imported, in a process of its own."""
    if "nnunetv2" not in requirements.read_text(encoding="utf-8"):
        return  # of other packages nothing is known
    paths = os.pathsep.join([str(part), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-s", "-c", _TRY], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InstallError(f"What was installed does not start: {reason}", "Please report it, with the log.")


def main(arguments: Sequence[str]) -> int:
    """Install; 0 where it is there now."""
    folder, requirements, name, build = Path(arguments[0]), Path(arguments[1]), arguments[2], arguments[3]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "install.log").open("w", encoding="utf-8") as log:
            pip = Pip(log)
            threading.Thread(target=_end_with_input, args=(pip,), daemon=True).start()
            install(folder, requirements, name, build, pip)
    except InstallError as error:
        tell(end=True, error=str(error), hint=error.hint)
        return 1
    except OSError as error:
        tell(end=True, error=f"{error.filename or folder}: {error.strerror}.", hint="Choose a folder that is yours.")
        return 1
    tell(end=True)
    return 0


def _end_with_input(pip: Pip) -> None:
    """Whoever started this closed the pipe: end, and take pip along."""
    while sys.stdin.buffer.read(4096):
        pass
    pip.kill()
    os._exit(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
