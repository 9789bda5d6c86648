"""What the flow needs of the world around it. Slicer has the real ones (`qt_ports`); a test
brings its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Process(Protocol):
    """A program with pipes; everything is called on the main thread and returns at once.

    Attributes:
        code: exit code of its last end; None where it could not be started.
    """

    code: int | None

    def start(self, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        """Start it, or start it again.

        Args:
            heard: gets what it writes to standard output, in pieces of any size.
            ended: called once when it has ended or could not be started, with its last words.
        """

    def write(self, data: bytes) -> None:
        """Write to its standard input; nothing happens where it does not run."""

    def close(self) -> None:
        """Close its standard input, so that it ends; `ended` is not called."""

    def kill(self) -> None:
        """End it at once; `ended` is called."""


class Timer(Protocol):
    """Time of the main thread."""

    def now(self) -> float:
        """Seconds of a clock that never goes back."""

    def later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Do something later, once; what is returned calls it off."""


class Activity(Protocol):
    """Whether somebody uses mouse and keys."""

    def mark(self) -> Any:
        """Something that is another one as soon as mouse or keys were used in the window."""


class Editor(Protocol):
    """The Segment Editor that somebody paints with."""

    def show(self, node: Any, segmentation: Any, volume: Any, confined: bool) -> None:
        """Edit a segmentation node over a volume node, with the state of a segment editor node.

        Args:
            confined: whether the node is of one slice alone.
        """

    def remember(self) -> None:
        """Keep what is painted now for an undo: a change follows that no brush made."""

    def forget(self) -> None:
        """Nothing that was painted before can be undone any more."""

    def rest(self) -> None:
        """No effect is active, no key of the editor works, nothing is edited."""


class UserSettings(Protocol):
    """What belongs to the person, on this computer; never in a scene."""

    def get(self, name: str, otherwise: str = "") -> str:
        """A value."""

    def set(self, name: str, value: str) -> None:
        """Keep a value, on disk."""


class Desktop(Protocol):
    """Dialogs, and the small things that a widget is filled with."""

    def confirm(self, text: str) -> bool:
        """Ask a person."""

    def color(self, title: str, color: str) -> str:
        """Let a person choose a color, #rrggbb; empty for none."""

    def folder(self, title: str) -> str:
        """Let a person choose a folder; empty for none."""

    def choose(self, text: str, rows: Sequence[str]) -> int:
        """Let a person choose one of several things; -1 for none."""

    def open_file(self, title: str) -> str:
        """Let a person choose a file; empty for none."""

    def save_file(self, title: str, name: str) -> str:
        """Let a person name a file; empty for none."""

    def cell(self, text: str, tip: str = "") -> Any:
        """A cell of a table."""

    def bar(self, text: str, tip: str = "") -> Any:
        """A cell whose text is a bar."""

    def tick(self, text: str, ticked: bool, tip: str = "", usable: bool = True) -> Any:
        """A line of a list, to be ticked where it is usable."""

    def ticked(self, item: Any) -> bool:
        """Whether such a line is."""

    def status(self, text: str) -> None:
        """Tell something that need not be read."""

    def chart(self, chart: Any) -> None:
        """Show a chart."""

    def close_chart(self) -> None:
        """Lay the views out as they were before the chart, where nobody did otherwise since."""
