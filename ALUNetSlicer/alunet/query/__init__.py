"""Query strategies: arrays in, a batch and its reasons out.

Knows nothing of nnU-Net, files or networks. A strategy is one file in `strategies/`; `registry` finds it, `problem`
holds what goes in and comes out, `streams` the randomness. Importing this package loads neither torch nor numba.
"""

from alunet.query.problem import Batch, Factors, Heads, McScores, Need, Query, Signals, Truth
from alunet.query.registry import (
    Strategy,
    StrategyInfo,
    as_published,
    canonical,
    get,
    infos,
    names,
    parse,
    register,
)
from alunet.query.streams import STREAMS, Streams

__all__ = [
    "STREAMS", "Batch", "Factors", "Heads", "McScores", "Need", "Query", "Signals", "Strategy", "StrategyInfo",
    "Streams", "Truth", "as_published", "canonical", "get", "infos", "names", "parse", "register",
]
