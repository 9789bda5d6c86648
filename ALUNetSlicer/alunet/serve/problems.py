"""Errors on their way out: every one of them becomes a status and a `Problem`."""

from __future__ import annotations

import logging
from typing import Any

from alunet.errors import AlunetError, InputError, OutOfMemory
from alunet.imaging.limits import TooLarge
from alunet.project.changes import AnswerNeeded
from alunet.project.refusals import (
    AlreadyAnnotated,
    ChangedMeanwhile,
    ChannelsFixed,
    Leased,
    NotPlanned,
    StaleVersion,
)
from alunet.project.requests import KeyReused
from alunet.schema import Code, Problem, to_json
from alunet.storage.failures import (
    DamagedDatabase,
    DiskError,
    DiskFull,
    Locked,
    NoDescriptors,
    ReadOnly,
    StorageFailure,
    known_failure,
)
from alunet.storage.locks import InUse

log = logging.getLogger("alunet.serve")

STATUS = {
    Code.UNAUTHORIZED: 401,
    Code.BAD_REQUEST: 400,
    Code.NOT_FOUND: 404,
    Code.NOT_ALLOWED: 405,
    Code.EXISTS: 409,
    Code.WRONG_OFFSET: 409,
    Code.LEASED: 409,
    Code.STALE_ANNOTATION: 409,
    Code.ANNOTATED: 409,
    Code.ANSWER_NEEDED: 409,
    Code.NOT_READY: 409,
    Code.BUSY: 409,
    Code.UNUSABLE: 409,
    Code.TOO_LARGE: 413,
    Code.BAD_RANGE: 416,
    Code.BAD_CHECKSUM: 422,
    Code.INCOMPLETE: 422,
    Code.KEY_REUSED: 422,
    Code.TOO_MANY: 429,
    Code.DISK_FULL: 507,
    Code.READ_ONLY: 503,
    Code.LOCKED: 503,
    Code.NO_DESCRIPTORS: 503,
    Code.DISK_ERROR: 503,
    Code.NO_MEMORY: 503,
    Code.DAMAGED: 500,
    Code.FAILED: 500,
}

RETRY_AFTER = {503: "5", 507: "30"}
"""Status -> seconds after which the same request may be served."""

_STORAGE: dict[type[StorageFailure], Problem] = {
    DiskFull: Problem(
        Code.DISK_FULL, "The disk of the engine is full.", "Free some space there, then try again."
    ),
    ReadOnly: Problem(
        Code.READ_ONLY,
        "The disk of the engine cannot be written.",
        "Make it writable, then try again. Reading goes on.",
    ),
    Locked: Problem(
        Code.LOCKED, "Another program has locked files of the project.", "Try again in a moment."
    ),
    NoDescriptors: Problem(
        Code.NO_DESCRIPTORS,
        "The computer of the engine opens no more files.",
        "Try again in a moment, or raise its limit of open files.",
    ),
    DiskError: Problem(
        Code.DISK_ERROR, "The disk of the engine fails.", "Check that disk, then try again."
    ),
    DamagedDatabase: Problem(
        Code.DAMAGED, "The database of the project is damaged.", "Restore it from a backup."
    ),
}


class Refused(InputError):
    """A request that is not served.

    Args:
        code: what is wrong, for programs; it decides the HTTP status.
        message: what is wrong, for people.
        hint: what to do next.
        details: what `Code` says comes with it.
    """

    def __init__(self, code: Code, message: str, hint: str = "", **details: Any) -> None:
        super().__init__(message, hint)
        self.problem = Problem(code, message, hint, details)


def problem_of(error: BaseException) -> Problem:
    """What to tell the client of an error; a defect is logged here and only named there."""
    if isinstance(error, Refused):
        return error.problem
    error = known_failure(error) or error
    if isinstance(error, StorageFailure):  # without the paths of that computer
        return _STORAGE[type(error)]
    if isinstance(error, InputError):
        code, details = _meaning(error)
        return Problem(code, error.message, error.hint, details)
    if isinstance(error, OutOfMemory):
        return Problem(Code.NO_MEMORY, error.message, error.hint)
    if isinstance(error, AlunetError):
        return Problem(Code.FAILED, error.message, error.hint)
    log.error("an unexpected error", exc_info=error)
    return Problem(
        Code.FAILED, "The engine failed; this is a defect.", "Its log has the whole story."
    )


def _meaning(error: InputError) -> tuple[Code, dict[str, Any]]:
    """The code of an error of the engine, and what comes with that code."""
    if isinstance(error, StaleVersion):
        return Code.STALE_ANNOTATION, {"version": error.version, "kept": error.kept}
    if isinstance(error, ChangedMeanwhile):
        return Code.STALE_ANNOTATION, {"version": error.version, "kept": error.version}
    if isinstance(error, Leased):
        return Code.LEASED, to_json(error.lease)
    if isinstance(error, AnswerNeeded):
        return Code.ANSWER_NEEDED, {"about": error.about, "choices": error.choices}
    if isinstance(error, KeyReused):
        return Code.KEY_REUSED, {}
    codes = (
        (InUse, Code.BUSY),
        (NotPlanned, Code.NOT_READY),
        (AlreadyAnnotated, Code.ANNOTATED),
        (ChannelsFixed, Code.EXISTS),
        (TooLarge, Code.TOO_LARGE),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), Code.BAD_REQUEST), {}
