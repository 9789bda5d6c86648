"""The file `install.log`: all that the processes of the last installation said."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TextIO


class InstallLog:
    """Open while an installation runs; a disk that is full does not end it.

    Args:
        file: it may not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        self._file: TextIO | None = None

    def open(self) -> None:
        """Begin a new one, in a folder that is made where it is missing.

        Raises:
            OSError: nothing can be written there.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="utf-8", buffering=1)

    def note(self, line: str) -> None:
        """Add a line."""
        if self._file is not None:
            try:
                self._file.write(line + "\n")
            except OSError:
                self._file = None  # a full disk; pip says so itself

    def close(self) -> None:
        """End it, also where it was not begun."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
