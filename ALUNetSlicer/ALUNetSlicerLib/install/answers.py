"""What the processes of `alunet.agent.install` answer, as types; what they leave out is empty."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PlaceAnswer:
    """How the folder of the packages is, and this computer.

    Attributes:
        problem, reason: why the folder cannot be used; empty where it can.
        python: version of the Python that looked, two numbers.
        pip: its version; empty where there is none.
        gpu: whether there is an NVIDIA GPU.
        free: bytes where the folder is.
    """

    problem: str = ""
    reason: str = ""
    python: list[int] = field(default_factory=list)
    pip: str = ""
    gpu: bool = False
    free: int = 0


@dataclass(frozen=True)
class SmokeTest:
    """What a Python has of all that the engine needs.

    Attributes:
        python: its version.
        versions: by distribution.
        cuda: whether its torch reaches an NVIDIA GPU.
        missing: requirements that are not there.
        broken: distribution -> why it does not load.
        unfit: requirement -> version that is there.
        strange: distribution -> file that it came from.
    """

    python: str = "0.0"
    versions: dict[str, str] = field(default_factory=dict)
    cuda: bool = False
    missing: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    strange: dict[str, str] = field(default_factory=dict)
