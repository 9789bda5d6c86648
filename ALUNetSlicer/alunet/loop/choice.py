"""Choose a batch: with which strategy and how many samples where people do not say, and asking
the strategy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alunet import query
from alunet.errors import InputError
from alunet.loop import steps
from alunet.loop.oracle import Oracle
from alunet.loop.tiles import Tiling
from alunet.model import child
from alunet.project import Project
from alunet.project.rounds import CHOSEN, UNASKED
from alunet.query import Need, Streams

if TYPE_CHECKING:
    from alunet.loop.loop import Loop

FIRST_STRATEGY, LATER_STRATEGY, BUDGET = "spread", "usimf", 100


def usual_choice(project: Project, strategy: str | None, budget: int | None) -> tuple[str, int]:
    """Return strategy and budget of the next batch.

    Args:
        strategy: None: that of the round before; `spread` at first, then `usimf`.
        budget: None: as in the round before, or 100.
    """
    finished = project.rounds.finished()
    earlier = [
        entry.strategy
        for entry in finished
        if entry.number > 0 and entry.strategy not in (UNASKED, CHOSEN)
    ]
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
        raise InputError(
            f"A budget of {budget} samples selects nothing.", "Give a budget of at least 1."
        )
    if ahead < 0:
        raise InputError(f"{ahead} samples ahead cannot be chosen.", "Give 0 or more.")


def choose(loop: Loop, strategy: str, budget: int, ahead: int, folder: Path) -> dict[str, Any]:
    """Ask a strategy for the batch of the next round; what it was asked is kept in `folder`.

    Returns:
        ``ids``, ``gains``, ``reasons``, ``uncertainty``, ``diagnostics`` and ``costs``, see
        `steps.ask`.
    """
    number = loop.current()
    if not len(loop.candidates()):
        return {
            "ids": [],
            "gains": [],
            "reasons": [],
            "diagnostics": {"exhausted": True},
            "costs": {},
        }
    needs, names = query.parse(strategy).needs, list(loop.project.labels)
    tiles = Tiling.of(loop.project)
    arrays = _question(loop, tiles, folder / "question.npz", Need.TRUTH in needs)
    further, most = tiles.enough(budget, ahead), budget + ahead
    if query.parse(strategy).info.takes_all:
        most = len(loop.project.pool)
    if needs <= {Need.TRUTH}:  # no model, no child process
        costs: dict[str, dict[str, float]] = {}
        with child.step("query", loop.emit, costs):
            streams = Streams(loop.seed, number)
            batch = steps.ask(strategy, arrays, budget, further, names, None, streams, "cpu")
        return tiles.asked_for({**batch, "costs": costs}, most)
    tiles.pool.save(folder / "pool.npz")
    chosen: dict[str, Any] = loop.run_child(
        "alunet.loop.steps:select",
        folder / "query.log",
        pool=str(folder / "pool.npz"),
        question=str(folder / "question.npz"),
        strategy=strategy,
        budget=budget,
        ahead=further,
        names=names,
        weights=str(loop.sound_weights(number - 1)),
        scoring=loop.scoring,
        cache=str(loop.project.data / "cache"),
        seed=loop.seed,
        round_number=number,
        device=loop.device,
        threads=loop.threads,
    )
    return tiles.asked_for(chosen, most)


def _question(loop: Loop, tiles: Tiling, file: Path, with_truth: bool) -> dict[str, np.ndarray]:
    """What a strategy is told, also written to `file` for a child process; hidden labels only
    where it asks.
    """
    project, ids = loop.project, tiles.of_samples(loop.candidates())
    labelled = tiles.of_samples(np.flatnonzero(project.samples.labelled()))
    shown = None
    if with_truth:
        voxels, border = Oracle(project).counts(tiles.pool)
        shown = voxels[ids], border[ids]
    return steps.write_question(
        file,
        ids,
        labelled,
        tiles.pool.case[ids],
        project.annotations.class_voxels(),
        project.annotations.case_voxels(),
        shown,
    )
