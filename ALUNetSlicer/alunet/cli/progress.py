"""What a person sees while one project works: a line with what is done now and how long it still
takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from alunet.cli.terminal import stop_on_terminate
from alunet.errors import Cancelled
from alunet.schema import Emit, Event
from alunet.schema.durations import duration
from alunet.simulation.progress import PlainDisplay, words_of


@contextmanager
def at_work() -> Iterator[Emit]:
    """A listener for long work: a live line in a terminal, plain lines elsewhere, both on standard
    error.

    Raises:
        Cancelled: Ctrl-C, or a polite kill.
    """
    stop_on_terminate()
    console = Console(stderr=True)
    try:
        if console.is_terminal:
            with LiveLine(console) as line:
                yield line
        else:
            yield PlainDisplay(console)
    except KeyboardInterrupt:
        raise Cancelled(
            "Stopped.", "Everything finished is kept: the same command goes on from here."
        ) from None


class LiveLine:
    """One line, redrawn in place and gone at the end; a context manager."""

    def __init__(self, console: Console) -> None:
        self._lock, self._words, self._end = threading.Lock(), "starting", 0.0
        self._spinner = Spinner("dots")
        self._live = Live(
            console=console, refresh_per_second=8, get_renderable=self.render, transient=True
        )

    def __enter__(self) -> LiveLine:
        self._live.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take an event; the line shows it at its next refresh."""
        if event.kind == "message":
            self._live.console.print(event.data["text"], markup=False, highlight=False)
        if event.kind in ("progress", "epoch", "step"):
            left = event.data.get("seconds_left")
            with self._lock:
                self._words, self._end = (
                    words_of(event),
                    0.0 if left is None else time.monotonic() + left,
                )

    def render(self) -> RenderableType:
        """What is on the screen now."""
        with self._lock:
            left = self._end - time.monotonic()
            self._spinner.update(
                text=self._words + (f" · about {duration(left)} left" if left >= 1 else "")
            )
        return self._spinner
