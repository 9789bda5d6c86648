"""What was found damaged and put right, said where people and programs look."""

from __future__ import annotations

import logging

from alunet.project.events import Events

log = logging.getLogger("alunet.project")


def tell(events: Events, file: str, text: str) -> None:
    """Store the event "repaired", within the caller's transaction, and log it.

    Args:
        file: name of what was damaged, below the project.
    """
    log.warning("%s", text)
    events.add("repaired", {"file": file, "text": text})
