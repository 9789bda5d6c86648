"""Log a defect of the agent in one line on standard error; the agent goes on."""

from __future__ import annotations

import sys
from pathlib import Path


def log_defect(error: BaseException) -> None:
    """Log type and place of an error, without values: they may hold names or tokens."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else "?"
    sys.stderr.write(f"alunet agent: defect: {type(error).__name__} at {where}\n")
