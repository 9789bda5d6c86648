"""The log of a service, on standard error: nothing is repeated, and nothing can flood it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from typing import TextIO

_SECONDS, _MOST = 60.0, 200


class Repeated(logging.Filter):
    """Keeps back what was said within the last minute, and counts it: when it is said again, how
    often it was meanwhile. Of many different messages in a minute the first are written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written."""
        error = record.exc_info[0] if record.exc_info else None
        key = record.name, record.getMessage(), "" if error is None else error.__name__
        now, (since, count) = time.monotonic(), self._said.get(key, (0.0, 0))
        if since and now - since < _SECONDS:
            self._said[key] = since, count + 1
            return False
        if since == 0.0 and len(self._said) >= _MOST:
            self._said = {k: v for k, v in self._said.items() if now - v[0] < _SECONDS}
            if len(self._said) >= _MOST:
                return False
        self._said[key] = now, 0
        if count:
            record.msg, record.args = f"{key[1]} (and {count} times in the minute before)", ()
        return True


def log_to_stderr() -> None:
    """Write warnings and errors of the service on standard error."""
    stream: TextIO = sys.stderr
    with contextlib.suppress(OSError):
        # a number of its own: the usual one is held back while an image is read
        stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)
    handler = logging.StreamHandler(stream)
    handler.addFilter(Repeated())
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", handlers=[handler]
    )
