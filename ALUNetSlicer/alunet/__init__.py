"""ALUNet: active learning for slice-wise annotation of 3D medical images with nnU-Net.

`alunet.simulate(...)` plays whole active-learning runs with a simulated annotator; the command `alunet` does
the same from a terminal. Importing this package loads nothing heavy: that waits until it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alunet.simulation.study import simulate

__all__ = ["__version__", "simulate"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load `simulate` on first use, with its own signature and documentation."""
    if name != "simulate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from alunet.simulation.study import simulate

    globals()[name] = simulate
    return simulate
