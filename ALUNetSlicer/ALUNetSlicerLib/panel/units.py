"""Format times and sizes with their units."""

from __future__ import annotations

from ALUNetSlicerLib.ports.i18n import tr as _


def clock(seconds: float) -> str:
    """Minutes and seconds: ``3:07``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


WORTH = 0.05
"""A share of the work that must be done before it says anything of the rest."""


def left(seconds: float | None, done: float = 1.0, total: float = 1.0) -> str:
    """What is left of some work; empty where nobody knows, and at the beginning, when an estimate
    is worth nothing.

    Args:
        done, total: how much of the work is done.
    """
    if seconds is None or done < WORTH * total:
        return ""
    if seconds < 60:
        return _("less than a minute left")
    if seconds < 5400:
        return _("{count} min left").format(count=round(seconds / 60))
    return _("{count} h left").format(count=round(seconds / 3600, 1))


def size(count: float) -> str:
    """Bytes."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
