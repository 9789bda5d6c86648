"""What this computer can do at most, measured at the start of a run: the limits beside the rows."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench_registry import Row, cpu_seconds

_SIDE, _MEBIBYTES = 2048, 256


@dataclass(frozen=True)
class Machine:
    """A computer and its limits, on one thread.

    Attributes:
        processor: its name and features, the limits set to them, torch; one line.
        arithmetic: what torch may use of it.
        gigaflops: of a float32 matrix product, 1e9 operations a CPU second.
        gigabytes: read from memory, 1e9 bytes a CPU second.
        busy: programs that wait for a core or have one, for each core.
    """

    processor: str
    arithmetic: str
    gigaflops: float
    gigabytes: float
    busy: float

    def limit(self, row: Row) -> float | None:
        """CPU seconds below which this computer cannot do what a row counts; None where nothing
        was counted.
        """
        least = max(row.operations / self.gigaflops, row.bytes / self.gigabytes) / 1e9
        return least or None


def measure_machine() -> Machine:
    """Measure in this process; loads torch."""
    import numpy as np
    import torch

    from alunet.model.arithmetic import has_bfloat16_units
    from alunet.model.hardware import describe_computer

    torch.set_num_threads(1)
    left, right = (torch.randn(_SIDE, _SIDE) for _ in range(2))
    product = cpu_seconds(lambda: torch.mm(left, right), 5)
    values = np.ones(_MEBIBYTES << 18, np.float32)
    read = cpu_seconds(lambda: values.max(), 5)
    busy = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
    return Machine(
        describe_computer("cpu"),
        has_bfloat16_units()[1],
        2 * _SIDE**3 / product / 1e9,
        values.nbytes / read / 1e9,
        busy,
    )
