"""What a person sees while a study is played: a line for each run and the time left, or plain lines
in a log.

`Board` follows the events and knows where every run stands; `LiveDisplay` and `PlainDisplay` show
it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alunet.schema import Emit, Event
from alunet.schema.durations import duration

Key = tuple[int, int, str]
_VERBS = {
    "train": "training",
    "evaluate": "evaluating",
    "query": "choosing",
    "refresh labels": "refreshing labels",
}


@dataclass
class RunLine:
    """Where one run stands.

    Attributes:
        state: "running", "done" or "failed".
        phase: what it does, in words.
        number: its round.
        dice: mean foreground Dice of the last finished round.
        started: when its round began (monotonic seconds), None between rounds.
        seconds_left: of its round, as far as its training tells.
    """

    state: str = "running"
    phase: str = "starting"
    number: int = 0
    dice: float | None = None
    started: float | None = None
    seconds_left: float | None = None


@dataclass
class Board:
    """The state of a study, built from its events.

    Attributes:
        done, total: rounds of all runs.
        jobs: runs at a time.
        shared: what is done before the runs: import, planning, preprocessing; empty once they
            began.
        durations: seconds of the rounds that were played now, not found finished.
    """

    lines: dict[Key, RunLine] = field(default_factory=dict)
    done: int = 0
    total: int = 0
    jobs: int = 1
    shared: str = "reading the data"
    durations: list[float] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Note what an event says."""
        data = event.data
        if data.get("phase") == "study":
            self.done, self.total, self.jobs, self.shared = (
                data["done"],
                data["total"],
                data["jobs"],
                "",
            )
        elif "strategy" in data and "fold" in data:
            line = self.lines.setdefault((data["fold"], data["seed"], data["strategy"]), RunLine())
            self._follow(line, event)
        elif event.kind in ("progress", "step"):
            self.shared = words_of(event)

    def _follow(self, line: RunLine, event: Event) -> None:
        data = event.data
        if event.kind == "error":
            line.state, line.phase, line.started = "failed", str(data["message"]), None
        elif event.kind == "step" and data["name"] == "round":
            self._turn(line, data, event.time)
        elif event.kind in ("epoch", "progress", "step"):
            line.phase = words_of(event)
            line.seconds_left = (
                data.get("seconds_left") if event.kind == "epoch" else line.seconds_left
            )

    def _turn(self, line: RunLine, data: dict[str, Any], now: float) -> None:
        if "number" in data:
            line.number = data["number"]
        if data["state"] == "started":
            line.started, line.phase, line.seconds_left = now, "starting", None
            return
        line.dice = data.get("dice")
        self.done += 1  # the next event of the study says so too, a moment later
        if data["state"] == "finished" and line.started is not None:
            self.durations.append(now - line.started)
        line.started, line.phase, line.seconds_left = None, "finished", None

    def seconds_left(self, now: float) -> float | None:
        """Estimate for everything: rounds still to play times their mean duration so far, over
        `jobs` at a time.

        Before any round has finished, a running one stands in: what it took and what its training
        says is left.
        """
        running = [line for line in self.lines.values() if line.started is not None]
        if self.durations:
            mean = sum(self.durations) / len(self.durations)
        else:
            whole = [
                now - line.started + line.seconds_left
                for line in running
                if line.seconds_left is not None
            ]
            if not whole:
                return None
            mean = sum(whole) / len(whole)
        played = sum(min(now - line.started, mean) for line in running if line.started is not None)
        return max(0.0, (self.total - self.done) * mean - played) / max(1, self.jobs)


def words_of(event: Event) -> str:
    """An event of a step in words, like "training epoch 3/8 · loss 0.41"."""
    data = event.data
    if event.kind == "epoch":
        words = f"training epoch {data['epoch']}/{data['epochs']}"
        return f"{words} · loss {data['loss']:.2f}" if data.get("loss") is not None else words
    if event.kind == "step":
        name = _VERBS.get(data["name"], data["name"])
        return name if data["state"] == "started" else f"{name} {data['state']}"
    words = _VERBS.get(data["phase"], data["phase"])
    return (
        f"{words} {round(data['done'], 1):g}/{data['total']} {data.get('unit') or ''}".strip()
        if data.get("total")
        else words
    )


@contextmanager
def display(console: Console) -> Iterator[Emit]:
    """A listener for `alunet.simulate(emit=…)`: a live display in a terminal, plain lines
    elsewhere.
    """
    if not console.is_terminal:
        yield PlainDisplay(console)
        return
    live = LiveDisplay(console)
    with live:
        yield live


class PlainDisplay:
    """One line for each finished step, round and message, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console, self._board = console, Board()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self._board.take(event)
        line = self._line(event)
        if line:
            clock = time.strftime("%H:%M:%S", time.localtime(event.time))
            self._console.print(f"{clock} {line}", markup=False, highlight=False, soft_wrap=True)

    def _line(self, event: Event) -> str:
        data = event.data
        where = f"{_name(data)}: " if "strategy" in data and "fold" in data else ""
        if event.kind == "message":
            return where + str(data["text"])
        if event.kind == "error":
            return f"{where}failed: {data['message']}"
        if event.kind != "step" or data["state"] == "started":
            return ""
        if data["name"] == "round":
            return (
                f"{where}round {data['number']} "
                f"{data['state']}{_dice(data.get('dice'))}{self._left(event)}"
            )
        took = f" in {duration(data['seconds'])}" if data.get("seconds") is not None else ""
        return f"{where}{data['name']} {data['state']}{took}"

    def _left(self, event: Event) -> str:
        left = self._board.seconds_left(event.time)
        known = left is not None and left >= 1 and self._board.done < self._board.total
        return f" (about {duration(left)} left for all runs)" if known else ""


class LiveDisplay:
    """A line for each run and a bar over all of them, redrawn in place; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console, self._board, self._lock = console, Board(), threading.Lock()
        self._live = Live(
            console=console, refresh_per_second=4, get_renderable=self.render, transient=False
        )

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take an event; the display shows it at its next refresh."""
        with self._lock:
            self._board.take(event)
        if event.kind == "message":
            self._live.console.print(event.data["text"], markup=False, highlight=False)

    def render(self) -> RenderableType:
        """What is on the screen now."""
        with self._lock:
            return render(self._board, time.time(), max(4, self._console.height - 4))


def render(board: Board, now: float, height: int) -> RenderableType:
    """The board as a table of at most `height` lines and a bar."""
    if not board.total:
        return Text(f"Preparing: {board.shared}", style="cyan")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column, width in (("fold", 4), ("seed", 4), ("strategy", 11), ("now", 42)):
        table.add_column(column, no_wrap=True, overflow="ellipsis", min_width=width)
    table.add_column("Dice", justify="right")
    shown = _most_interesting(board, height)
    for fold, seed, strategy in shown:
        line = board.lines[fold, seed, strategy]
        table.add_row(
            str(fold),
            str(seed),
            strategy,
            Text(_now(line), style=_style(line)),
            "" if line.dice is None else f"{line.dice:.3f}",
        )
    hidden = len(board.lines) - len(shown)
    more = [Text(f"… and {hidden} more runs", style="dim")] if hidden else []
    return Group(table, *more, _overall(board, now))


def _most_interesting(board: Board, height: int) -> list[Key]:
    """The runs to show: those that run or failed before those that are done, in order of
    appearance.
    """
    keys = list(board.lines)
    if len(keys) <= height:
        return keys
    chosen = sorted(
        keys,
        key=lambda key: board.lines[key].started is None and board.lines[key].state != "failed",
    )
    return [key for key in keys if key in set(chosen[:height])]


def _now(line: RunLine) -> str:
    return line.phase if line.state == "failed" else f"round {line.number} · {line.phase}"


def _style(line: RunLine) -> str:
    if line.state == "failed":
        return "red"
    return "green" if line.started is None else ""


def _overall(board: Board, now: float) -> RenderableType:
    left = board.seconds_left(now)
    if board.done >= board.total:
        words = "finished"
    else:
        words = "estimating the time left" if left is None else f"about {duration(left)} left"
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row(
        ProgressBar(board.total, board.done, width=32),
        Text(f"{board.done} of {board.total} rounds"),
        Text(words, style="cyan"),
    )
    return row


def _name(data: dict[str, Any]) -> str:
    return f"fold {data['fold']}, seed {data['seed']}, {data['strategy']}"


def _dice(value: float | None) -> str:
    return "" if value is None else f", Dice {value:.3f}"
