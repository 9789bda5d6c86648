"""Attacks on the engine: each counts what goes wrong and says how often it may.

An attack is one module of this folder with

    COUNT: int                                                      how often it is played whole
    attack(count: int, seed: int, work: Path) -> list[Finding]

`Scripts/attack.py` plays them whole; the tests play each with a small count. The same seed makes
the same attack.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_TESTING = Path(__file__).resolve().parents[1]
# The attacks use what the tests use: the engine itself, and the tests' own tools.
for _folder in (_TESTING, _TESTING.parent, _TESTING / "engine", _TESTING / "service"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))


@dataclass(frozen=True)
class Finding:
    """One line of an attack's report.

    Attributes:
        what: what was counted or measured.
        value: how often, or how much.
        bar: the value that it may have at most; at least, where `at_least` is set.
        unit: of value and bar, empty for a count.
        detail: what a person needs to play a failure again.
    """

    what: str
    value: float
    bar: float
    unit: str = ""
    at_least: bool = False
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value is within its bar."""
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def __str__(self) -> str:
        bar = f"{'at least' if self.at_least else 'at most'} {self.bar:g}"
        text = f"{self.what}: {self.value:g} {self.unit}".rstrip() + f" ({bar})"
        return text if self.holds else f"{text}  FAILED {self.detail}".rstrip()


def assert_holds(findings: list[Finding]) -> None:
    """Fail a test with every line that is not within its bar."""
    failed = [str(finding) for finding in findings if not finding.holds]
    assert findings and not failed, "\n".join(failed)
