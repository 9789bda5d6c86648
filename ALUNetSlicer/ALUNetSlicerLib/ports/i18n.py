"""Translation of what people read; outside of Slicer's application the English text stays."""

from __future__ import annotations

try:
    from slicer.i18n import tr
except ImportError:  # the core of Slicer alone

    def tr(text: str, context: str | None = None) -> str:
        """The text itself."""
        return text


__all__ = ["tr"]
