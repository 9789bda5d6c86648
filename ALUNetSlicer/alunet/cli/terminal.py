"""What the commands share: help that wraps, and an end that is polite."""

from __future__ import annotations

import signal


def flowing(text: str) -> str:
    """Each paragraph on one line, so that it wraps as wide as the terminal is; indented examples
    stay as they are.
    """
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(
        part if part.startswith(" ") else part.replace("\n", " ") for part in paragraphs
    )


def stop_on_terminate() -> None:
    """Let a polite kill end a study as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
