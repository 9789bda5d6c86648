"""The service that runs on a root already: found by its note, and believed where it is alive, ours
and knows the token of the note.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from alunet.errors import InputError
from alunet.schema import Announcement
from alunet.schema.proof import NoProofError, ask_proof

NOTE = "service.json"
"""The announcement, for those who look for a running service."""
_PATIENCE_SECONDS = 10.0
_ANSWER_SECONDS = 5.0


def running_service(own: Path) -> Announcement:
    """Return the service that has the lock of the root; it may be about to write its note.

    Raises:
        InputError: there is none that can be believed.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, TypeError):
            written = (own / NOTE).stat().st_mtime
            note = Announcement(**json.loads((own / NOTE).read_text(encoding="utf-8")))
            if _lives(note.pid, written) and _proves_itself(note):
                return note
        time.sleep(0.1)
    raise InputError(
        f"Another program has {own.parent}, but no service proves that it runs there.",
        "It may be starting, or of an older ALUNet: try again in a moment, or end it.",
    )


def _lives(pid: int, written: float) -> bool:
    """Whether the process that wrote a note lives; its number may be another's by now."""
    try:
        process = psutil.Process(pid)
        own = os.name == "nt" or process.uids().effective == os.geteuid()
        return own and process.create_time() <= written + 1
    except psutil.Error:
        return False


def _proves_itself(note: Announcement) -> bool:
    """Whether what answers at the note's address knows its token.

    With TLS the answer would need the certificate's authority, which is the client's business.
    """
    parts = urlsplit(note.address)
    if parts.scheme == "https":
        return True
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(parts.hostname), str(parts.hostname))
    try:
        with socket.create_connection((host, parts.port or 80), _ANSWER_SECONDS) as connection:
            ask_proof(connection, note.token)
    except NoProofError:
        return False
    return True
