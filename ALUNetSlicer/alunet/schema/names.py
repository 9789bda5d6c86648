"""What a name may be, of a project, a case, a structure or a person: one rule for all ways in."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from alunet.errors import InputError

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
"""Names of devices on Windows, with any ending, and with blanks before it."""
_NOT_IN_FILES = re.compile(r'[<>:"/\\|?*]')
_FOLDERS = ("annotations", "cache", "history", "images", "jobs", "labels", "locks", "nnunet")
_OWN = frozenset((*_FOLDERS, "rounds", "lock", "project.db"))
"""Names of the folders and files of every project."""


@dataclass(frozen=True)
class NameKind:
    """What is named.

    Attributes:
        words: for messages.
        most: characters.
        in_files: files or folders are called so.
    """

    words: str
    most: int = 100
    in_files: bool = False
    hint: str = "Choose another name."


PROJECT = NameKind("a project", in_files=True)
CASE = NameKind("a case", most=150, in_files=True, hint="Rename the file, or give a name.")
STRUCTURE = NameKind("a structure")
PERSON = NameKind("a person", hint="Say who is working.")


def composed(text: str) -> str:
    """Return a text in the one Unicode form (NFC) in which names are kept and compared."""
    return unicodedata.normalize("NFC", text)


def compared(name: str) -> str:
    """Return a name as it is compared with others: in one Unicode form and without case."""
    return composed(composed(name).casefold())


def is_text(text: str) -> bool:
    """Whether every character of a text is one: no half of a surrogate pair, and no NUL."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def usable_name(name: str, kind: NameKind, *, known: bool = False) -> str:
    """Return a name in the form in which it is kept.

    Args:
        known: some project has it already, so that only what no file system holds is refused.

    Raises:
        InputError: nothing of that kind can be called so.
    """
    shown = repr(name if len(name) <= 60 else name[:60] + "…").encode("ascii", "backslashreplace")
    text = f"{shown.decode() if not is_text(name) else repr(name[:60])} cannot be the name of"
    if not is_text(name) or any(unicodedata.category(letter) == "Cc" for letter in name):
        raise InputError(f"{text} {kind.words}: it holds what is no character.", kind.hint)
    name = composed(name)
    if not name.strip():
        raise InputError(f"{text} {kind.words}.", kind.hint)
    if len(name) > kind.most or (kind.in_files and len(name.encode()) > 2 * kind.most):
        raise InputError(
            f"{text} {kind.words}: it is too long.", f"Use at most {kind.most} characters."
        )
    if kind.in_files:
        _check_in_files(name, f"{text} {kind.words}", kind, known)
    return name


def _check_in_files(name: str, text: str, kind: NameKind, known: bool) -> None:
    """Raise InputError for what some file system, or a project's folder, has no place for."""
    if _RESERVED.fullmatch(name.split(".")[0].rstrip(" ")):
        raise InputError(f"{text}: Windows reserves it.", kind.hint)
    if not known and (name.casefold().startswith("tmp-") or name.casefold() in _OWN):
        raise InputError(f"{text}: the files of every project have such names.", kind.hint)
    if kind is CASE and (_NOT_IN_FILES.search(name) or len(name.encode()) > kind.most):
        raise InputError(
            f"{text}.",
            'Use letters, digits, blanks, "-" and "_", in at most 150 bytes; not / \\ : * ? " < > '
            "|.",
        )
    if name.startswith(".") or name != name.strip(" ."):
        raise InputError(f"{text}: there is a dot or a blank at an end.", kind.hint)
