"""Find the processes that tests left behind, also those that have detached themselves from their
parents.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import psutil

RUN = "ALUNET_TEST_RUN"
"""Environment variable with the name of this run, which all its processes inherit."""
GRACE_SECONDS = 10.0


def name_this_run() -> None:
    """Mark the processes that this one starts from now on."""
    os.environ[RUN] = uuid.uuid4().hex


def started(folder: Path) -> list[psutil.Process]:
    """Return the live processes that this one started.

    Args:
        folder: of this run's temporary files. A process that sshd starts inherits nothing, but
            works there.
    """
    me = psutil.Process()
    family = {child.pid for child in me.children(recursive=True)}
    found = []
    for process in psutil.process_iter():
        try:
            if process.create_time() < me.create_time() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.pid in family or _is_of(process, f"{folder}{os.sep}"):
                found.append(process)
        except psutil.Error:  # it has ended, or belongs to another person
            continue
    return [process for process in found if process.pid != me.pid]


def _is_of(process: psutil.Process, folder: str) -> bool:
    if process.environ().get(RUN) == os.environ[RUN]:
        return True
    words = process.cmdline()
    return any("alunet" in word for word in words) and any(folder in word for word in words)


def end(folder: Path, grace: float = GRACE_SECONDS) -> list[str]:
    """Kill what still runs after `grace` seconds; return its commands, each with the test that
    started it.
    """
    _, left = psutil.wait_procs(started(folder), timeout=grace)
    said = []
    for process in left:
        try:
            test = process.environ().get("PYTEST_CURRENT_TEST", "a process without our environment")
            said.append(f"{process.pid}: {' '.join(process.cmdline())}, started by {test}")
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(left, timeout=GRACE_SECONDS)
    return said
