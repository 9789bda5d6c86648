"""The time since the computer was started, which people cannot set, and which start that was."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from pathlib import Path

_LINUX = Path("/proc/sys/kernel/random/boot_id")


def boot_seconds() -> float:
    """Return the seconds since this computer was started, those that it slept among them where
    the system counts them.
    """
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@functools.cache
def boot_id() -> str:
    """Return what is the same until the computer is started anew; empty where the system does
    not say it (Windows).
    """
    if sys.platform == "linux":
        try:
            return _LINUX.read_text(encoding="ascii").strip()
        except OSError:
            return ""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""
    return ""
