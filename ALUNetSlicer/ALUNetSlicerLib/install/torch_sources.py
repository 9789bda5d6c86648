"""Where torch comes from: the usual index has one build of it for each system, and not always
the right one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

INDEX = "https://download.pytorch.org/whl/"
"""PyTorch's own indexes: on PyPI, Linux has the CUDA build alone and Windows the CPU build
alone.
"""
CUDA = "cu130"


@dataclass(frozen=True)
class TorchSource:
    """One source.

    Attributes:
        note: what is tried, for the log.
        build: "cpu" or "cuda", what it takes in space.
        arguments: of pip.
    """

    note: str
    build: str
    arguments: list[str]


def torch_sources(build: str, torch: str, vision: str) -> list[TorchSource]:
    """Where a build of torch comes from, best first; the same as `Scripts/environment.py` has.

    Args:
        build: "cpu" or "cuda".
        torch, vision: versions; torchvision is needed by a package that nnU-Net needs, and never by
            us; it comes along where its builds are distinguished in the same way.
    """
    if build == "cuda":
        if sys.platform == "win32":
            arguments = ["--index-url", INDEX + CUDA, f"torch=={torch}+{CUDA}"]
            return [TorchSource("torch from PyTorch's index.", build, arguments)]
        # a CPU build would do for ==
        return [TorchSource("torch from the usual index.", build, [f"torch==={torch}"])]
    sources = [
        TorchSource(
            "torch from this computer, if it is here.", build, ["--no-index", f"torch=={torch}"]
        )
    ]
    if sys.platform != "linux":
        return [*sources, TorchSource("torch from the usual index.", build, [f"torch=={torch}"])]
    pair = [f"torch=={torch}+cpu", *([f"torchvision=={vision}+cpu"] if vision else [])]
    arguments = ["--index-url", INDEX + "cpu", "--retries", "1", "--timeout", "15", *pair]
    larger = "PyTorch's CPU packages cannot be reached: the larger default build is taken."
    return [
        *sources,
        TorchSource("torch from PyTorch's index.", build, arguments),
        TorchSource(larger, "cuda", [f"torch=={torch}"]),
    ]
