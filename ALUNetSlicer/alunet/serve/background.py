"""A process that lets others go first."""

from __future__ import annotations

import contextlib
import sys

import psutil


def let_others_first() -> None:
    """Give this process less of the processors and of the disk than those that answer people."""
    process = psutil.Process()
    with contextlib.suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            process.nice(max(process.nice(), 10))
    if hasattr(process, "ionice"):  # macOS has none
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            if sys.platform == "win32":
                process.ionice(psutil.IOPRIO_LOW)
            else:
                process.ionice(psutil.IOPRIO_CLASS_BE, 7)
