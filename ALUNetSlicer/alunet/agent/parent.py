"""End with the process that started this one, also where another process still holds our
standard input open.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

OPTION = "--parent"
_SECONDS = 1.0


def named_in(arguments: Sequence[str]) -> int:
    """Return the process id that the command line names as the parent; without one, the parent
    there is now.

    Only the parent itself knows its id for sure: it may end before this process can ask.
    """
    for name, value in zip(arguments, arguments[1:], strict=False):
        if name == OPTION and value.isdecimal():
            return int(value)
    return os.getppid()


def end_with(parent: int) -> None:
    """End this process now if `parent` is not its parent any more, or as soon as that is so."""
    _end_unless(parent)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while True:
        time.sleep(_SECONDS)
        _end_unless(parent)


def _end_unless(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(0)
