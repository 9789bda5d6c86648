"""Independent, named random streams: one seed, one round, one purpose, one generator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

STREAMS = (
    "init",
    "mc-dropout",
    "query-draw",
    "fisher-subset",
    "fisher-params",
    "projection",
    "stochastic-greedy",
    "random-strategy",
    "stb-groups",
    "kmeans++",
    "k-means",
    "power-noise",
    "training",
)


@dataclass(frozen=True)
class Streams:
    """The random streams of one round.

    `streams[name]` is a generator at the beginning of its stream: asking twice gives the same
    numbers twice, so that no step's randomness depends on which other steps ran before it. Keep the
    generator where the stream has to go on.

    Args:
        seed: the experiment's seed, >= 0.
        round: the round's number, >= 0.
        is_ahead: whether they are for what is chosen behind the batch.

    Raises:
        ValueError: seed or round negative; in `[]`, a name that is not in `STREAMS`.
    """

    seed: int
    round: int
    is_ahead: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0 or self.round < 0:
            raise ValueError(f"seed and round must not be negative: {self.seed}, {self.round}")

    def __getitem__(self, name: str) -> np.random.Generator:
        return np.random.default_rng(self.sequence(name))

    def sequence(self, name: str) -> np.random.SeedSequence:
        """The stream's seed sequence, for generators other than numpy's (`.generate_state(1)`)."""
        if name not in STREAMS:
            raise ValueError(f"no random stream {name!r}; there are {', '.join(STREAMS)}")
        # A cryptographic hash, not hash(): that one changes from process to process.
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        return np.random.SeedSequence([self.seed, self.round, key, *([1] if self.is_ahead else [])])

    def ahead(self) -> Streams:
        """The round's streams for what is chosen behind its batch."""
        return replace(self, is_ahead=True)
