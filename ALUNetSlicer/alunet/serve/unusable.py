"""Projects that cannot be opened: found all the same, and why, in words."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from alunet.errors import AlunetError
from alunet.schema import Code, Problem
from alunet.serve.problems import Refused, problem_of
from alunet.storage.failures import Locked

_OF_EVERY_PROJECT = ("annotations", "rounds")

log = logging.getLogger("alunet.serve")


def holds_project(folder: Path) -> bool:
    """Whether a folder is a project's, also where that cannot be opened."""
    try:
        os.lstat(f"{folder}{os.sep}project.db")  # of thousands, and joining paths takes longer
    except FileNotFoundError:
        if folder.is_symlink() and not folder.exists():
            return True
        return all((folder / name).is_dir() for name in _OF_EVERY_PROJECT)
    except NotADirectoryError:
        return False
    except OSError:  # only its owner can look into it, or the disk cannot be read
        return True
    return True


def refusal(identifier: str, error: Exception) -> Refused:
    """Return why a project cannot be opened, as the error that every request to it gets."""
    problem = _problem(identifier, error)
    return Refused(problem.code, problem.message, problem.hint, **problem.details)


def _problem(identifier: str, error: Exception) -> Problem:
    if isinstance(error, Locked):
        return Problem(
            Code.LOCKED,
            f"The project '{identifier}' is held by another program.",
            "Try again in a moment; where it stays so, end that program.",
        )
    begin = f"The project '{identifier}' cannot be opened: "
    if isinstance(error, AlunetError):
        own = problem_of(error)
        code = Code.UNUSABLE if own.code in (Code.BAD_REQUEST, Code.FAILED) else own.code
        return Problem(code, begin + own.message, own.hint, own.details)
    if isinstance(error, OSError):
        return Problem(
            Code.UNUSABLE, f"{begin}{error.strerror or error}.", "Check who may read its folder."
        )
    words = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return Problem(
        Code.UNUSABLE, f"{begin}its database holds something else ({words}).", "See the log."
    )


class Known:
    """What a service knows of its projects without opening them.

    Attributes:
        names: of those that it has had open.
        problems: of those that could not be opened the last time.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.problems: dict[str, Problem] = {}

    def opened(self, identifier: str, name: str) -> None:
        """A project was opened."""
        self.names[identifier] = name
        self.problems.pop(identifier, None)

    def failed(self, identifier: str, problem: Problem) -> None:
        """A project could not be opened; each reason is logged once."""
        before = self.problems.get(identifier)
        self.problems[identifier] = problem
        if before is None or before.message != problem.message:
            log.warning("%s", problem.message)
