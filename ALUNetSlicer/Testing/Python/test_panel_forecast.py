"""What the panel says of the next round before it begins."""

from __future__ import annotations

import unittest

from alunet.schema.codec import from_json
from ALUNetSlicerLib.engine.messages import ProjectStatus, RoundForecast
from ALUNetSlicerLib.panel import forecast

LONG = RoundForecast(
    training=300, testing=0, choosing=360, proposals=60, strategy="usimf:eta=10",
    quicker="entropy", quicker_seconds=60,
)  # fmt: skip


class ForecastTest(unittest.TestCase):
    """A forecast in words."""

    def test_it_names_the_parts_in_minutes(self) -> None:
        self.assertEqual(forecast.words(LONG), "About 12 min: 5 training, 6 choosing, 1 proposals")
        self.assertEqual(forecast.shorter(LONG), "'entropy' would choose 5 min sooner.")

    def test_a_short_round_is_told_in_seconds(self) -> None:
        short = RoundForecast(6, 2, 3.4, 0.2, "usimf")
        self.assertEqual(forecast.words(short), "About 12 s: 6 training, 2 testing, 3 choosing")
        self.assertEqual(forecast.shorter(short), "")

    def test_it_follows_what_is_chosen(self) -> None:
        usual = forecast.chosen(LONG, "usimf", 10)
        self.assertEqual(usual.training, 600)
        quick = forecast.chosen(LONG, "entropy", 0)
        self.assertEqual((quick.training, quick.choosing, quick.quicker), (300, 60, ""))
        self.assertIsNone(forecast.chosen(LONG, "bald", 0), "of others nothing is known")
        self.assertIsNone(forecast.chosen(None, "usimf", 0))

    def test_an_engine_that_knows_none(self) -> None:
        self.assertIsNone(from_json(ProjectStatus, {"cases": []}).forecast)
        self.assertIsNone(from_json(ProjectStatus, {"forecast": None}).forecast)


if __name__ == "__main__":
    unittest.main()
