"""Describe the computer a process runs on: usable cores, processor features, graphics cards.
Loads no torch.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables that make torch use fewer instructions than the processor has."""

OPENVINO = "openvino"
"""The package that computes passes without dropout on a processor, where it is installed."""

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return how many cores this process may keep busy, at least 1.

    The smallest of the cores it is bound to, the processor time its control group may use, and
    OMP_NUM_THREADS.
    """
    limits = [_bound_cores(), _quota(_CGROUP), _whole_number(os.environ.get("OMP_NUM_THREADS", ""))]
    return max(1, min(limit for limit in limits if limit))


def _bound_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(root: Path) -> int | None:
    """Cores that the control group (version 2 or 1) of a container allows, rounded up; None
    without a limit.
    """
    try:
        if (root / "cpu.max").is_file():
            quota, period = (root / "cpu.max").read_text(encoding="ascii").split()[:2]
        else:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (root / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii")
        share = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no control group, or the word "max"
        return None
    return math.ceil(share) if share > 0 else None


def _whole_number(text: str) -> int | None:
    """The first number of a list like "4,2", as OpenMP reads it; None for anything else."""
    first = text.split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def memory_limit() -> int:
    """Return the memory of this computer, or of the container, that a process may use, bytes."""
    import psutil

    return int(min([psutil.virtual_memory().total, *_limits_of_memory(_CGROUP)]))


def memory_free() -> int:
    """Return the memory that is free for this process now, bytes."""
    import psutil

    return int(min(psutil.virtual_memory().available, memory_limit()))


def _limits_of_memory(root: Path) -> list[int]:
    found = []
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no control group, or the word "max"
            found.append(int((root / name).read_text(encoding="ascii")))
    return found


def kills_for_memory() -> int | None:
    """Return how many processes the system has ended for want of memory so far; None where it does
    not count them.
    """
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    counts = [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    return counts[0] if counts else None


def allocator_variables() -> dict[str, str]:
    """Return environment variables that make glibc keep large buffers from one step to the next.

    It gives them back to the system by default: 15,000 to 78,000 page faults a step
    (docs/performance.md).
    """
    if sys.platform != "linux":
        return {}
    return {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


def describe_computer(device: str) -> str:
    """Return one line that differs between computers that compute differently: processor,
    limits, cards, torch.
    """
    name, features = _processor()
    parts = [name, " ".join(features)]
    parts += [f"{variable}={os.environ[variable]}" for variable in LIMITS if variable in os.environ]
    parts += list(_cards()) if device != "cpu" else []
    parts += [f"torch {metadata.version('torch')}", *filter(None, [_openvino()])]
    return "; ".join(filter(None, parts))


def _openvino() -> str:
    """Name and version of OpenVINO; empty where it is not installed."""
    try:
        return f"{OPENVINO} {metadata.version(OPENVINO)}"
    except metadata.PackageNotFoundError:
        return ""


@cache
def _processor() -> tuple[str, tuple[str, ...]]:
    """Name of the processor and those of its features that matter here (the latter on Linux
    alone).
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine(), ()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(known.get("flags", known.get("Features", "")).split())
    return known.get("model name", platform.machine()), tuple(
        name for name in _FEATURES if name in flags
    )


@cache
def _cards() -> tuple[str, ...]:
    """The NVIDIA cards that the driver lists, without their serial numbers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip())
