"""The dropout passes of a strategy: the recipe's, or its own (docs/method.md, 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from alunet.errors import InputError
from alunet.query.model_outputs import McScores
from alunet.query.problem import Query

# The published code looked this often and dropped out this much, BALD excepted.
PUBLISHED_PASSES = {"dropout": 0.1, "passes": 10}


@dataclass(frozen=True)
class PassOptions:
    """Options of every strategy that looks at dropout passes.

    Attributes:
        dropout: rate of the passes; 0 for the recipe's.
        passes: how many; 0 for the recipe's.
    """

    dropout: float = 0.0
    passes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise InputError(
                f"dropout is {self.dropout}.",
                "Give a rate below 1, like 0.1; 0 takes the recipe's.",
            )
        if self.passes < 0 or self.passes == 1:
            raise InputError(
                f"passes is {self.passes}.", "Give at least 2, usually 10; 0 takes the recipe's."
            )

    def scores(self, query: Query) -> McScores:
        """Scores of all candidates from these passes."""
        return query.outputs.mc(self.dropout or None, self.passes or None)
