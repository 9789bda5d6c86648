"""Why something failed, in words for people, and the functions that wait for an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alunet.schema import Problem


@dataclass(frozen=True)
class Failure:
    """Why a request failed: a code for programs, a message and what to do for people.

    Attributes:
        code: one of `alunet.schema.Code`, or of those that the agent and this side have beyond it.
        about: what was tried; when that succeeds later the failure is of the past.
    """

    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] | None = None
    about: str = ""

    @classmethod
    def of_problem(cls, problem: Problem) -> Failure:
        """What the engine gives as the reason."""
        return cls(problem.code.value, problem.message, problem.hint, problem.details)

    @property
    def author(self) -> str:
        """Who else has the slice, where that is the reason; "?" where it is not said."""
        return str((self.details or {}).get("author", "?"))

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


Done = Callable[[Any], None]
"""Gets what was asked for."""
Failed = Callable[[Failure], None]
"""Gets why it failed."""
