"""How long to train, as people type it: a time like 5m or 1h30m, or a preset named by what it is
for.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from alunet.errors import InputError
from alunet.schema import PRESET_PURPOSES

_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_PARTS = re.compile(
    rf"(?P<plain>{_NUMBER})|(?:(?P<h>{_NUMBER})h)?\s*(?:(?P<m>{_NUMBER})(?:m|min))?\s*(?:(?P<s>{_NUMBER})s)?"
)
_SECONDS = {"plain": 1.0, "h": 3600.0, "m": 60.0, "s": 1.0}

PRESET = Annotated[
    str,
    typer.Option(
        help="Recipe: "
        + "; ".join(f"{name}: {what}" for name, what in PRESET_PURPOSES.items())
        + "."
    ),
]


def train_for_option(otherwise: str) -> typer.models.OptionInfo:
    """Return the option --train-for, whose help says what holds without it."""
    return typer.Option(
        metavar="TIME", help=f"Train for about this long: 90s, 5m, 1h30m. Without: {otherwise}."
    )


def seconds_of(text: str) -> float:
    """Return the seconds of a time as "90", "90s", "5m", "1.5h" or "1h30m".

    Raises:
        InputError: it is no time, or one that no training can take.
    """
    from alunet.loop.recipe import check_seconds

    found = _PARTS.fullmatch(text.strip())
    given = {unit: number for unit, number in found.groupdict().items() if number} if found else {}
    if not given:
        raise InputError(
            f"{text[:40]!r} is no training time.", "Give for instance 90s, 5m or 1h30m."
        )
    seconds = sum(float(number) * _SECONDS[unit] for unit, number in given.items())
    check_seconds(seconds)
    return seconds


def optional_seconds(text: str | None) -> float | None:
    """As `seconds_of`; None where nothing is given."""
    return None if text is None else seconds_of(text)
