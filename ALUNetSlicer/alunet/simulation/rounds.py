"""The rounds of a simulation: the slices that a strategy suggests are labeled at once, from the
hidden labels.
"""

from __future__ import annotations

import numpy as np

from alunet.errors import InputError
from alunet.loop import Loop, RoundRecord, children
from alunet.loop.oracle import Oracle
from alunet.loop.slice_effort import keep_effort
from alunet.query import Streams
from alunet.simulation.tables import INITIAL, REFERENCE


def play_first_round(loop: Loop, initial: int) -> RoundRecord:
    """Play round 0: label `initial` samples drawn uniformly, train from scratch, evaluate.

    Raises:
        InputError: the pool has fewer samples.
    """
    loop.prepare()
    finished = loop.rounds()
    if finished:
        return finished[0]
    size = len(loop.project.pool)
    if not 1 <= initial <= size:
        raise InputError(
            f"An initial set of {initial} samples is not possible.", f"The pool has {size}."
        )
    chosen = Streams(loop.seed, 0)["init"].choice(size, initial, replace=False)
    batch = {
        "ids": [int(i) for i in chosen],
        "gains": [0.0] * initial,
        "reasons": ["initial set"] * initial,
        "diagnostics": {},
        "costs": {},
    }
    loop.open_round(INITIAL, initial, lambda folder: batch)
    return _answer(loop)


def play_round(loop: Loop, strategy: str, budget: int) -> RoundRecord:
    """Play the next round: choose `budget` samples, label them, train on, evaluate.

    A round that was interrupted is the next round again. After an empty batch the training still
    takes place, so that all strategies are trained equally long.

    Args:
        strategy: name and options, like "usimf:eta=10".

    Raises:
        InputError: round 0 was not played, or the round was begun with another strategy or budget.
    """
    loop.last()
    with children.in_one(loop):
        return _play(loop, strategy, budget)


def _play(loop: Loop, strategy: str, budget: int) -> RoundRecord:
    if not loop.project.rounds.touched():  # else it was stopped after the first labels
        loop.next_round(strategy, budget)
    # the batch that is open; of a pool that is exhausted, an empty one
    loop.suggest(strategy, budget)
    return _answer(loop, strategy == REFERENCE)


def _answer(loop: Loop, reference: bool = False) -> RoundRecord:
    """Label the open batch and learn; the effort of a reference, all labels, is not measured."""
    number = loop.current()
    samples = [entry.sample for entry in loop.project.worklist.suggestions(number)]
    oracle = Oracle(loop.project)
    if not reference:
        keep_effort(loop, samples)
    oracle.reveal(np.array(samples, np.int64), number)
    return loop.learn()
