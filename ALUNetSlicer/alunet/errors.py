"""What can go wrong for a person, in words that person can act on.

Every error that reaches a user is one of these: a message that names the offending value, a hint
that says what to do next, and the exit code of the terminal. Anything else that escapes is a defect
of ours.
"""

from __future__ import annotations


class AlunetError(Exception):
    """Base of all errors meant for people.

    Args:
        message: what is wrong, with the value.
        hint: what to do next; may be empty where the message says it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InputError(AlunetError):
    """The given data, options or files cannot be used (exit code 2, HTTP 4xx)."""

    exit_code = 2


class EngineError(AlunetError):
    """A background computation failed; the message carries its last words."""


class OutOfMemory(EngineError):
    """A background computation needed more memory than there is."""


class Cancelled(AlunetError):
    """Somebody asked for the work to stop; what was finished stays on disk."""

    exit_code = 130
