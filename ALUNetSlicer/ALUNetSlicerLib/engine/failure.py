"""Why something failed, in words for people, and the functions that wait for an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Failure:
    """Why a request failed: a code for programs, a message and what to do for people."""

    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


Done = Callable[[Any], None]
"""Gets what was asked for."""
Failed = Callable[[Failure], None]
"""Gets why it failed."""
