"""Check the types of the engine with mypy, room by room.

`Scripts/types.json` has the number of errors that each room may have. A room with 0 is strict:
mypy's lines are printed and the check fails. Any other room fails when its number grows; when it
shrinks, a line asks to lower the number. A room that is not listed is strict. What mypy checks is
set in pyproject.toml; its cache is `.mypy_cache`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from environment import ROOT

ALLOWED = ROOT / "Scripts" / "types.json"
COMMAND = (
    "-m",
    "mypy",
    "--config-file",
    "pyproject.toml",
    "--no-pretty",
    "--no-color-output",
    "--no-error-summary",
)
_LINE = re.compile(r"ALUNetSlicer[/\\]alunet[/\\](\w+)")
_ERROR = ": error: "
# asked for by NumPy 2.2, the last for Python 3.10
_OLDER_NUMPY = 'Missing type arguments for generic type "ndarray"'


def main() -> int:
    """Run mypy and return the exit code: 0, 1 where a room has too many errors, or mypy's where
    it could not run.
    """
    done = subprocess.run(
        [sys.executable, *COMMAND],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode > 1 or (done.returncode and _ERROR not in done.stdout):
        print(done.stdout + done.stderr)
        return done.returncode
    allowed = json.loads(ALLOWED.read_text(encoding="utf-8"))
    found = by_room(done.stdout)
    failures, hints = compare(found, allowed)
    for line in (*hints, *failures):
        print(line)
    if not failures:
        print(
            f"No new type error; {sum(map(count, found.values()))} are left in the rooms that "
            f"are not strict."
        )
    return 1 if failures else 0


def by_room(output: str) -> dict[str, list[str]]:
    """Return mypy's lines by room, those about no room under an empty name; what differs with
    NumPy is left out.
    """
    rooms: dict[str, list[str]] = {}
    for line in output.splitlines():
        found = _LINE.match(line)
        if _OLDER_NUMPY not in line:
            rooms.setdefault(found[1] if found else "", []).append(line)
    return rooms


def count(lines: Sequence[str]) -> int:
    """Return the number of errors among mypy's lines, which may be notes, too."""
    return sum(_ERROR in line for line in lines)


def compare(
    found: Mapping[str, Sequence[str]], allowed: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """Return the lines that fail the check, and those that ask to lower a number."""
    failures: list[str] = []
    hints: list[str] = []
    for room in sorted({*found, *allowed}):
        number, limit = count(found.get(room, ())), allowed.get(room, 0)
        if number < limit:
            hints.append(
                f"{room}: {number} type errors, {limit} allowed. Lower the number in "
                f"Scripts/{ALLOWED.name}."
            )
        elif number > limit == 0:
            failures += found[room]
        elif number > limit:
            failures.append(
                f"{room}: {number} type errors, {limit} allowed. Find the new ones "
                f"with `python -m mypy`."
            )
    return failures, hints


if __name__ == "__main__":
    sys.exit(main())
