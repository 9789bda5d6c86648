"""Run an `alunet.agent.install` module in a process that ends with Slicer; parse its lines, its
answer and its end.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from alunet.schema import from_json
from ALUNetSlicerLib.ports.protocols import Process

Kind = TypeVar("Kind")

TAIL = 400
_CODE = (
    "import sys; sys.path[:] = filter(None, sys.path); import runpy; "  # not of the current folder
    "sys.version_info[:2] < (3, 10) and sys.exit('alunet-old %d.%d' % sys.version_info[:2]); "
    "runpy.run_module('alunet.agent.install.run_with_parent', run_name='__main__', alter_sys=True)"
)
"""Of any Python, also one too old to read the module."""


@dataclass(frozen=True)
class Ended:
    """How it ended.

    Attributes:
        status: its exit status; None where it never came so far: not started, killed, crashed.
        answer: what it told, empty where it told nothing.
        lines: the last it said.
    """

    status: int | None
    answer: dict[str, Any]
    lines: tuple[str, ...]

    def read(self, kind: type[Kind]) -> Kind:
        """What it told, as one of the types of `answers`."""
        return from_json(kind, self.answer)

    @property
    def last(self) -> str:
        """The last line that says something."""
        return next(
            (line.strip() for line in reversed(self.lines) if line.strip()), "it says nothing"
        )


def command(python: str, module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module so that it ends with its parent."""
    return [python, "-c", _CODE, module, *arguments]


class HelperProcess:
    """A process that runs from `start` on; `close` ends it and all that it started.

    Args:
        process: of a `command`.
        line: gets each line that is for people, without its end.
        ended: called once, unless it is closed before.
    """

    def __init__(
        self, process: Process, line: Callable[[str], None], ended: Callable[[Ended], None]
    ) -> None:
        self._process, self._line, self._ended = process, line, ended
        self._rest, self._tail = b"", deque[str](maxlen=TAIL)
        self._answer: dict[str, Any] = {}
        self._status: int | None = None
        self._closed = False

    def start(self) -> None:
        """Start it."""
        self._process.start(self._hear, self._end)

    def close(self) -> None:
        """End it; nothing more is heard."""
        self._closed = True
        self._process.close()

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._take(line.decode("utf-8", "replace").rstrip())

    def _take(self, line: str) -> None:
        if self._closed or not line:
            return
        word, _, content = line.partition(" ")
        try:
            if word == "alunet-exit":
                self._status = int(content)
                return
            if word == "alunet-answer":
                self._answer = dict(json.loads(content))
                return
        except (TypeError, ValueError):
            pass  # half a line of a process that died
        self._tail.append(line)
        self._line(line)

    def _end(self, words: str) -> None:
        self._hear(b"\n")
        for line in words.splitlines():
            self._take(line.rstrip())
        if not self._closed:
            self._closed = True
            self._ended(Ended(self._status, self._answer, tuple(self._tail)))
