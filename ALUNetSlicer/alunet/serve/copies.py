"""Passing copies that a service keeps beside its projects: of those, a case that is erased leaves
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def forget_copies(root: Path, uploads: Sequence[str]) -> None:
    """Remove the uploads that a case came from, and all copies of files in other forms.

    The names of such copies do not tell whose they are; they are made again when they are needed.

    Args:
        root: folder of the service's projects; where no service was there, nothing happens.
    """
    own = root / ".alunet"
    files = [*own.glob("converted/*")]
    for upload in uploads:
        files += own.glob(f"uploads/{upload}*")
    for file in files:
        file.unlink(missing_ok=True)
