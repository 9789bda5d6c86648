"""Detect that a computation ran out of memory, in whatever way it ended.

Python and torch raise; C++ ends the process with a signal and a word; the system kills it without
one, and counts that.
"""

from __future__ import annotations

import errno
import signal

from alunet.model.hardware import kills_for_memory

TEXT = "There was not enough memory."

_WORDS = (
    "bad_alloc",
    "out of memory",
    "allocate memory",
    "not enough memory",
    "unable to allocate",
    "alloc_failed",
    "failed to allocate",
    "could not create a primitive",  # oneDNN, which gives no reason
    "could not create a memory",
)
_HELPERS = "background workers"  # what batchgenerators says of augmenting processes that are gone
_KILLED = (-9, 128 + 9)
_ABORTED = (-int(signal.SIGABRT), 128 + int(signal.SIGABRT))
_NO_MEMORY_WINDOWS = 0xC0000017


def is_cause(error: BaseException) -> bool:
    """Whether an error says that memory could not be had."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _says_so(str(error))


def ended(code: int | None, words: str, kills: int | None) -> bool:
    """Whether a process ended for want of memory.

    Args:
        code: how it ended; None where it has not.
        words: what it said last.
        kills: `kills_for_memory` before it began.
    """
    now = kills_for_memory()
    counted = None if now is None or kills is None else now > kills
    if code in _KILLED:
        return counted is not False  # without a count: most kills are for memory
    if code in _ABORTED:
        return _says_so(words)
    return code == _NO_MEMORY_WINDOWS or (_HELPERS in words and bool(counted))


def _says_so(words: str) -> bool:
    return any(word in words.lower() for word in _WORDS)
