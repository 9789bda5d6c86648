"""What the sections of the panel share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_TOOLTIP_ROLE, _USER_ROLE = 3, 256
"""Of `Qt.ItemDataRole`; a combo box keeps the flags of an item one below the second."""
_ROW = 22
"""Height of a row of a table, pixels."""
TITLE_LENGTH = 56
"""Characters of a section's title: as wide as what is in the sections."""


def allow(widget: Any, tip: str, missing: str = "") -> None:
    """Enable a control, or say in its tooltip what is missing.

    Args:
        tip: what it does.
        missing: what must be done first; empty where nothing is.
    """
    widget.enabled = not missing
    widget.toolTip = missing or tip


def entitle(section: Any, title: str, detail: str = "") -> None:
    """Show a section's title, and beside it what can be said; the tooltip has what is cut.

    A long title would widen the panel, and the views would move.
    """
    whole = f"{title}: {detail}" if detail else title
    section.text = whole if len(whole) <= TITLE_LENGTH else f"{whole[: TITLE_LENGTH - 1].rstrip()}…"
    section.toolTip = whole if section.text != whole else ""


def fill(combo: Any, rows: list[tuple[str, Any]]) -> None:
    """Fill a combo box with texts and what they stand for; what was chosen stays chosen where it
    is still there.
    """
    chosen = combo.currentData
    blocked = combo.blockSignals(True)
    combo.clear()
    for text, value in rows:
        combo.addItem(text, value)
    place = next((number for number, row in enumerate(rows) if row[1] == chosen), 0)
    combo.setCurrentIndex(place if rows else -1)
    combo.blockSignals(blocked)


def disable_rows(combo: Any, why: list[str]) -> None:
    """Disable the rows of a combo box for which there is a reason, which their tooltip says."""
    for number, reason in enumerate(why):
        if reason:
            combo.setItemData(number, 0, _USER_ROLE - 1)
            combo.setItemData(number, reason, _TOOLTIP_ROLE)


def head(table: Any, columns: Sequence[str]) -> None:
    """Give a table its columns; its rows are as low as a line of text."""
    table.setColumnCount(len(columns))
    table.setHorizontalHeaderLabels(columns)
    table.verticalHeader().visible = False
    table.verticalHeader().setDefaultSectionSize(_ROW)
    table.horizontalHeader().setStretchLastSection(True)


class Section:
    """One section: its signals are taken away together."""

    def __init__(self) -> None:
        self._bound: list[tuple[Any, Callable[..., Any]]] = []

    def hear(self, signal: Any, listener: Callable[..., Any]) -> None:
        """Connect a signal of the workspace until the section is closed."""
        signal.connect(listener)
        self._bound.append((signal, listener))

    def close(self) -> None:
        """The panel goes."""
        for signal, listener in self._bound:
            signal.disconnect(listener)
        self._bound.clear()
