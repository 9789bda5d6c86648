"""Format times and sizes with their units."""

from __future__ import annotations

from ALUNetSlicerLib.ports.i18n import tr as _


def clock(seconds: float) -> str:
    """Minutes and seconds: ``3:07``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def left(seconds: float | None) -> str:
    """What is left of some work; empty where nobody knows."""
    if seconds is None:
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
