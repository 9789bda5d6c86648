"""Proposals for slices: where a slice's labels begin, how good they are expected to be, and what
correcting them costs.

Knows label maps and spacings alone: neither a model nor files. `neighbors` interpolates from the
drawn slices of a case, `expected` says how good that is, `effort` measures what is left to draw.
"""

from alunet.proposals.expected import MODEL_UNMEASURED, Accuracy, fit_accuracy
from alunet.proposals.neighbors import Neighbors
from alunet.proposals.proposal import LabelMap, Proposal

__all__ = [
    "MODEL_UNMEASURED",
    "Accuracy",
    "LabelMap",
    "Neighbors",
    "Proposal",
    "fit_accuracy",
]
