"""The shortest loop that still trains, for tests that need a model and not a good one."""

from __future__ import annotations

from dataclasses import replace

from alunet.loop import PRESETS

RECIPE = PRESETS["cpu"].with_length(epochs=1, iterations=6)
RECIPE = replace(RECIPE, scoring=replace(RECIPE.scoring, passes=2))
INITIAL, BUDGET = 12, 5
