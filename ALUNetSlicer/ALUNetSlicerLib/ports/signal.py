"""A signal in plain Python: those of Qt are not to be had outside Slicer, and were not always
reliable inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Calls what is connected, in the order of connection."""

    def __init__(self) -> None:
        self._listeners: list[Callable[..., Any]] = []

    def connect(self, listener: Callable[..., Any]) -> None:
        """Call it from now on; connected twice it is called once."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def disconnect(self, listener: Callable[..., Any]) -> None:
        """Call it no more; one that is not connected is no error."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def emit(self, *values: Any) -> None:
        """Call all; who connects or disconnects meanwhile counts from the next time on."""
        for listener in list(self._listeners):
            listener(*values)
