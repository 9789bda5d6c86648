"""C libraries print on standard error by themselves when a file is damaged; people get our one
line instead.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO


def scratch_file() -> IO[bytes]:
    """Open a file without a name, in memory where the system can.

    Raises:
        OSError: there is no room for one.
    """
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("alunet"), "w+b")
    return tempfile.TemporaryFile()


_ONE_AT_A_TIME = threading.Lock()  # standard error belongs to the whole process


@contextlib.contextmanager
def discard_stderr_on_failure() -> Iterator[None]:
    """Holds back what is printed on standard error: shown where the block ends well, dropped
    where it raises.
    """
    with contextlib.ExitStack() as stack:
        if not _ONE_AT_A_TIME.acquire(blocking=False):
            yield  # do not wait for the other image: its block holds this output back, too
            return
        stack.callback(_ONE_AT_A_TIME.release)
        try:
            kept = stack.enter_context(scratch_file())
            own = os.dup(2)
        except OSError:  # there is no standard error, or no room for a temporary file
            own = -1
        if own < 0:
            yield
            return
        stack.callback(os.close, own)
        _flush()
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(own, 2)
        kept.seek(0)
        with contextlib.suppress(OSError):
            os.write(own, kept.read())


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
