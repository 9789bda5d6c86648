"""What the commands share: help that wraps, and an end that is polite."""

from __future__ import annotations

import signal

from alunet.schema.names import PERSON, usable_name


def flowing(text: str) -> str:
    """Each paragraph on one line, so that it wraps as wide as the terminal is; indented examples
    stay as they are.
    """
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(
        part if part.startswith(" ") else part.replace("\n", " ") for part in paragraphs
    )


def person(name: str | None) -> str | None:
    """A person's name as it is kept; raises InputError for what is none. Without one: as it is."""
    return usable_name(name, PERSON) if name else name


def stop_on_terminate() -> None:
    """Let a polite kill end a study as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
