"""Outside of Slicer its real core (the wheel `slicer-core`) stands for it, and `pythonqt` for
its windows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
pytest.importorskip(
    "slicer", reason="the real core of Slicer: pip install slicer-core", exc_type=ImportError
)
pythonqt = pytest.importorskip(
    "pythonqt",
    reason="PySide6, and the system libraries that Qt needs: pip install PySide6-Essentials",
    exc_type=ImportError,
)
pythonqt.install()


@pytest.fixture(autouse=True)
def _no_slot_failed() -> Iterator[None]:
    """What a slot raises fails the test."""
    pythonqt.errors()
    yield
    raised = pythonqt.errors()
    if raised:
        pytest.fail("\n".join(raised))
