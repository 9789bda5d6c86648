"""Times as people say them."""

from __future__ import annotations

from collections.abc import Mapping


def duration(seconds: float) -> str:
    """Return seconds as a person says them: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def shared(parts: Mapping[str, float]) -> str:
    """Return a time and its parts: "12 min: 5 training, 6 choosing, 1 proposals".

    Args:
        parts: seconds by name; those too short to count in the unit of the whole are left out.
    """
    whole = sum(parts.values())
    unit = 1 if whole < 90 else 60
    words = [f"{round(part / unit)} {name}" for name, part in parts.items() if part >= unit / 2]
    return ": ".join([duration(whole), *filter(None, [", ".join(words)])])
