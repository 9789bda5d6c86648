"""Which strategy and how many samples the next batch is chosen with, where people do not say."""

from __future__ import annotations

from alunet import query
from alunet.errors import InputError
from alunet.project import Project
from alunet.project.rounds import CHOSEN, UNASKED

FIRST_STRATEGY, LATER_STRATEGY, BUDGET = "spread", "usimf", 100


def usual_choice(project: Project, strategy: str | None, budget: int | None) -> tuple[str, int]:
    """Return strategy and budget of the next batch.

    Args:
        strategy: None: that of the round before; `spread` at first, then `usimf`.
        budget: None: as in the round before, or 100.
    """
    finished = project.rounds.finished()
    earlier = [entry.strategy for entry in finished if entry.number > 0 and entry.strategy not in (UNASKED, CHOSEN)]
    usual = earlier[-1] if earlier else LATER_STRATEGY if finished else FIRST_STRATEGY
    budgets = [entry.budget for entry in finished if entry.budget]
    return strategy or usual, (budgets[-1] if budgets else BUDGET) if budget is None else budget


def check_choice(strategy: str | None, budget: int | None, ahead: int) -> None:
    """Refuse a choice before anything long is done.

    Raises:
        InputError: there is no such strategy or option, or a number is too small.
    """
    if strategy is not None:
        query.parse(strategy)
    if budget is not None and budget < 1:
        raise InputError(f"A budget of {budget} samples selects nothing.", "Give a budget of at least 1.")
    if ahead < 0:
        raise InputError(f"{ahead} samples ahead cannot be chosen.", "Give 0 or more.")
