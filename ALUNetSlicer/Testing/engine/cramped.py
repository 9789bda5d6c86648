"""nnU-Net with little memory: a real limit of the system, set where a heavy step begins."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from alunet.model.nnunet import NnUnet

ROOM = "ALUNET_TEST_ROOM"
"""Environment variable: MiB that a heavy step may take beyond what its process has by then."""


def hold_memory() -> None:
    """Let this process have no more memory than it has, and the room that the test gives."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    has = next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
    limit = (has << 10) + (int(os.environ[ROOM]) << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


class CrampedNnUnet(NnUnet):
    """nnU-Net whose trainings and models have `ROOM`."""

    def train(self, *arguments: Any, **others: Any) -> Any:
        """Train within the room; torch and its threads are there before."""
        import alunet.model.trainer  # noqa: F401

        hold_memory()
        return super().train(*arguments, **others)

    def open(self, *arguments: Any, **others: Any) -> Any:
        """Open a model that computes within the room."""
        model = super().open(*arguments, **others)
        hold_memory()
        return model


# --- functions for a child process ----------------------------------------------------------------


def take_with_numpy(emit: Any) -> None:
    """Ask for more than there is."""
    hold_memory()
    np.ones(1 << 30)


def take_with_torch(emit: Any) -> None:
    """Ask for more than there is."""
    import torch

    hold_memory()
    torch.ones(1 << 30)


def abort(emit: Any) -> None:
    """End as C++ does where nothing catches its error."""
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def be_killed(emit: Any) -> None:
    """Be ended by another process, for no want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def grow(emit: Any, folder: str) -> None:
    """Take memory in a control group until the system ends this process."""
    (Path(folder) / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    taken = []
    for _ in range(200):
        taken.append(np.ones(4 << 20))
        time.sleep(0.01)
