"""One active-learning round over a project: plan, train or fine-tune, score, query, propose."""

from alunet.loop.loop import Loop
from alunet.loop.recipe import PRESETS, Recipe, preset
from alunet.loop.round_record import RoundRecord

__all__ = ["PRESETS", "Loop", "Recipe", "RoundRecord", "preset"]
