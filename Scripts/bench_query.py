"""What a USIM query costs, in plain passes over its pool, part of Scripts/bench.py.

The network is as nnU-Net plans it, with random weights: what a query costs does not depend on
them. What a cheaper query chooses does, so that is measured on trained models
(`Scripts/query_cost.py`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from bench_model import PLANS, RandomTiles, model_of
from bench_registry import Row, Size, benchmark, cpu_seconds

POOL = {"hippocampus": 1000, "acdc": 120}
BARS = {
    ("hippocampus", "thrifty"): 2.5,
    ("acdc", "thrifty"): 3.0,
    ("hippocampus", "passes=10"): 11.0,
}


class Outputs:
    """As `alunet.loop.model_outputs.ComputedOutputs`, of slices from memory, with nothing kept on
    disk.
    """

    def __init__(self, model: Any, tiles: RandomTiles) -> None:
        from alunet.model.settings import ScoringSettings
        from alunet.schema import ignore_events

        self._model, self._tiles = model, tiles
        self._ids = np.arange(len(tiles.images))
        self._emit, self._settings = ignore_events, ScoringSettings(precision="fp32")

    @cached_property
    def _variance(self) -> Any:
        from alunet.model.score import one_pass_variance

        return one_pass_variance(self._model, self._tiles, self._ids, self._settings, self._emit)

    def one_pass_variance(self) -> Any:
        """See `alunet.query.ModelOutputs`; so the others."""
        return self._variance

    def mc(self, dropout: float | None = None, passes: int | None = None) -> Any:
        """Of as many passes as are asked for."""
        from dataclasses import replace

        from alunet.model.score import monte_carlo

        settings = replace(self._settings, passes=passes or 10, dropout=dropout or 0.1)
        return monte_carlo(self._model, self._tiles, self._ids, settings, (0,), self._emit)

    def fisher(self, rows: Any, heads: str = "training") -> Any:
        """Of these slices."""
        from alunet.model.gradients import fisher_diagonal

        return fisher_diagonal(self._gradients(heads), rows)

    def decoder_gradients(self, rows: Any, coordinates: Any, heads: str = "training") -> Any:
        """Of these slices."""
        from alunet.model.gradients import decoder_gradients

        return decoder_gradients(self._gradients(heads), rows, coordinates)

    def _gradients(self, heads: str) -> Any:
        from alunet.model.gradients import GradientReader

        return GradientReader(self._model, self._tiles, heads, self._emit)


@benchmark("query", "hippocampus", "acdc")
def usimf_query(size: Size) -> list[Row]:
    """A USIMF query, from the scores to the batch of 20, against one plain pass over its pool; the
    thrifty one, and the exact one.
    """
    import torch

    from alunet.query import Query, Streams, parse

    plan = PLANS[size.scale]
    model, count = model_of(plan), POOL[size.scale] // (5 if size.quick else 1)
    tiles = RandomTiles(count, plan.patch)

    def query() -> Query:
        return Query(
            ids=np.arange(count),
            budget=20,
            case=np.arange(count) // 10,
            class_voxels=np.arange(plan.classes, 0, -1) * 1000,
            outputs=Outputs(model, tiles),
            streams=Streams(0, 1),
        )

    def plain() -> None:
        with torch.inference_mode():
            for batch in tiles.batches(np.arange(count)):
                model.network(torch.from_numpy(batch.images))

    parse("usimf:thrifty").select(query().only(np.arange(30)))  # compile
    one, rows = cpu_seconds(plain), []
    for text in ("thrifty", "passes=10"):
        ours = cpu_seconds(lambda: parse(f"usimf:{text}").select(query()), 1)  # noqa: B023
        bar = BARS.get((size.scale, text))
        what = f"USIMF query, {text}, {count} of {plan.patch[0]} x {plan.patch[1]}"
        rows.append(Row(what, ours, one, ours / one, bar, True, "in plain passes"))
    return rows
