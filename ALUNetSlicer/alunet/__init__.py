"""ALUNet: active learning for slice-wise annotation of 3D medical images with nnU-Net.

`alunet.simulate(...)` plays whole active-learning runs with a simulated annotator; the command
`alunet` does the same from a terminal. Importing this package loads nothing heavy: that waits until
it is first used.
"""

from __future__ import annotations

import os
import sys

if getattr(sys, "argv", [])[:1] == ["-m"] and not getattr(sys.flags, "safe_path", False):
    # `python -m alunet` looks for modules where it is typed first: a typer.py there would run
    sys.path[:] = sys.path[sys.path[0] == os.getcwd() :]  # noqa: PTH109  pathlib.py may be there

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alunet.simulation.study import simulate

__all__ = ["__version__", "simulate"]
__version__ = "0.1.0"


def _packages_first() -> None:
    """Where the engine has a folder of packages of its own (ALUNET_PACKAGES), nothing comes before
    it on the path.

    PYTHONPATH alone does not see to that: Slicer's launcher of Python puts Slicer's packages before
    it, and those that people installed there. Processes that this one starts find the same order.
    """
    folder = os.environ.get("ALUNET_PACKAGES")
    if folder:
        sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
        others = [
            place
            for place in os.environ.get("PYTHONPATH", "").split(os.pathsep)
            if place not in ("", folder)
        ]
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *others])
        _hold(folder)


def _hold(folder: str) -> None:
    """Hold a lock on the packages as long as this process lives: nobody removes them from under
    a training.
    """
    try:
        import fcntl
    except ImportError:
        return  # Windows moves no folder with a loaded library in it
    with contextlib.suppress(OSError):  # some network folders know no locks
        place = os.path.join(folder, "alunet-in-use")  # noqa: PTH118 - pathlib takes longer to load
        fcntl.flock(os.open(place, os.O_RDWR | os.O_CREAT), fcntl.LOCK_SH)


_packages_first()


def __getattr__(name: str) -> Any:
    """Load `simulate` on first use, with its own signature and documentation."""
    if name != "simulate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from alunet.simulation.study import simulate

    globals()[name] = simulate
    return simulate
