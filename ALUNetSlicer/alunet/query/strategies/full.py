"""Full: everything labelled, the upper reference of a learning curve."""

from __future__ import annotations

from dataclasses import dataclass

from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query
from alunet.query.registry import register


@register(
    "full",
    title="Full",
    needs=[Need.NOTHING],
    source="reference",
    takes_all=True,
    summary="The whole pool at once: what the model reaches with every label.",
)
@dataclass(frozen=True)
class Full:
    """No options."""

    def select(self, query: Query) -> Batch:
        """Take everything."""
        return query.whole_pool("the whole pool")
