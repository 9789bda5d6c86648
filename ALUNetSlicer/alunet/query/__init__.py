"""Query strategies: arrays in, a batch and its reasons out.

Knows nothing of nnU-Net, files or networks. A strategy is one file in `strategies/`; `registry`
finds it, `problem` holds what goes in and comes out, `random_streams` the randomness. Importing
this package loads neither torch nor numba.
"""

from alunet.query.model_outputs import Factors, Heads, McScores, ModelOutputs, Need, Truth
from alunet.query.problem import Batch, Query
from alunet.query.random_streams import STREAMS, Streams
from alunet.query.registry import (
    WORDS,
    RegisteredStrategy,
    Strategy,
    as_published,
    canonical,
    get,
    infos,
    names,
    parse,
    register,
)

__all__ = [
    "STREAMS",
    "Batch",
    "Factors",
    "Heads",
    "McScores",
    "ModelOutputs",
    "Need",
    "Query",
    "RegisteredStrategy",
    "Strategy",
    "Streams",
    "Truth",
    "WORDS",
    "as_published",
    "canonical",
    "get",
    "infos",
    "names",
    "parse",
    "register",
]
