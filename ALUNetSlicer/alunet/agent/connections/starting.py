"""Start `alunet serve` so that it outlives whoever started it; or find the one that runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alunet.errors import EngineError
from alunet.schema import Announcement, from_json
from alunet.schema.private import private_folder
from alunet.schema.processes import module_command, search_path

START_SECONDS = 90.0
IDLE_MINUTES = 60
"""A service that an agent started ends by itself after so long without a request and without a
job.
"""
_LOG_BYTES = 5_000_000
"""A log of a service that is larger than this is put aside before another one is started."""


def find_or_start(
    python: str, root: Path, environment: Mapping[str, str] | None = None
) -> Announcement:
    """The service of a folder of projects on this computer.

    Args:
        python: interpreter of the environment that has the engine.
        environment: variables for it; without them those of this process, less what ties to its own
            Python.

    Raises:
        EngineError: it does not start; the message carries its last words.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = root / ".alunet"
    private_folder(own)
    log = own / "service.log"
    options = ("serve", "--root", str(root), "--idle", str(IDLE_MINUTES))
    _begin_anew(log)
    before = log.stat().st_size if log.exists() else 0
    try:
        with open(log, "ab", opener=_closed) as errors:
            process = subprocess.Popen(
                module_command(python, "alunet", *options),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=own,  # no file of the projects is taken for a module
                env=dict(environment) if environment else own_environment(python),
                **_detached(),
            )
    except OSError as error:
        raise EngineError(
            f"{python} cannot be started: {error.strerror}.", "Choose the engine's Python."
        ) from error
    line = _first_line(process)
    try:
        return from_json(Announcement, json.loads(line))
    except ValueError:
        words = log.read_bytes()[before:].decode("utf-8", "replace").strip().splitlines()
        reason = (words or [line or "it says nothing"])[-1]
        raise EngineError(
            f"The engine does not start: {reason}", f"Its log is {log} on that computer."
        ) from None


def _begin_anew(log: Path) -> None:
    """Put a long log aside, in the place of the one before."""
    with contextlib.suppress(OSError):  # on Windows a service that runs still has it
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


def own_environment(python: str) -> dict[str, str]:
    """This process's variables, without those that would lead another Python to this one's
    libraries.
    """
    unwanted = ("PYTHONHOME", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    ours = [str(Path(__file__).resolve().parents[3])] if python == sys.executable else []
    fixed = {**search_path(*ours), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    return {**kept, **fixed}


def _closed(path: str, flags: int) -> int:
    """Open a file that is made for its owner alone."""
    return os.open(path, flags, 0o600)


def _first_line(process: subprocess.Popen[bytes]) -> str:
    """The first line on standard output; empty where the process ends before, or takes too long
    and is ended.
    """
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.daemon = True
    timer.start()
    try:
        if process.stdout is None:
            return ""
        with process.stdout:
            return process.stdout.readline().decode("utf-8", "replace").strip()
    finally:
        timer.cancel()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # the one that found another service; ours goes on
            process.wait(0.2)


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}
