"""Say what the next round will take, before it begins."""

from __future__ import annotations

from dataclasses import replace

from ALUNetSlicerLib.engine.messages import RoundForecast
from ALUNetSlicerLib.ports.i18n import tr as _


def chosen(forecast: RoundForecast | None, strategy: str, minutes: float) -> RoundForecast | None:
    """Return the forecast for what is chosen in the panel; None where the engine gave none for it.

    Args:
        strategy: its name.
        minutes: to train; 0: as usual.
    """
    if forecast is None or strategy not in (_name(forecast.strategy), forecast.quicker):
        return None
    if strategy != _name(forecast.strategy):
        quick = forecast.quicker_seconds
        forecast = replace(forecast, choosing=quick, strategy=strategy, quicker="")
    return replace(forecast, training=60 * minutes) if minutes else forecast


def words(forecast: RoundForecast) -> str:
    """Say it: "About 12 min: 5 training, 6 choosing, 1 proposals"."""
    parts = [
        (_("{count} training"), forecast.training),
        (_("{count} testing"), forecast.testing),
        (_("{count} choosing"), forecast.choosing),
        (_("{count} proposals"), forecast.proposals),
    ]
    whole = sum(seconds for _text, seconds in parts)
    whole_text, unit = (_("About {count} s"), 1) if whole < 90 else (_("About {count} min"), 60)
    counted = [
        text.format(count=round(seconds / unit)) for text, seconds in parts if seconds >= unit / 2
    ]
    return ": ".join(
        [whole_text.format(count=round(whole / unit)), *filter(None, [", ".join(counted)])]
    )


def shorter(forecast: RoundForecast) -> str:
    """Say what would make it shorter; empty where nothing would by much."""
    if not forecast.quicker:
        return ""
    saved = round((forecast.choosing - forecast.quicker_seconds) / 60)
    return _("'{strategy}' would choose {count} min sooner.").format(
        strategy=forecast.quicker, count=saved
    )


def _name(strategy: str) -> str:
    return strategy.partition(":")[0]
