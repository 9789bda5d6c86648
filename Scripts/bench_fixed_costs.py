"""What costs the same however little there is to compute, part of Scripts/bench.py."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from bench_registry import REPEATS, Row, Size, benchmark

_BAR = 0.4  # CPU seconds of a command that computes nothing


@benchmark("commands")
def commands(size: Size) -> list[Row]:
    """`alunet --help` and `alunet status`, of a project of a few cases, in CPU seconds."""
    with tempfile.TemporaryDirectory() as name:
        project = _project(Path(name), 2 if size.quick else 6)
        rows = []
        for arguments in (("--help",), ("status", str(project))):
            seconds = min(_alunet(*arguments) for _ in range(REPEATS + 2))
            what = f"alunet {arguments[0]}"
            rows.append(Row(what, seconds, _BAR, seconds, _BAR, True, "against the bar"))
        return rows


@benchmark("preprocessing")
def preprocessing_again(size: Size) -> list[Row]:
    """Planning again, as each round does, where no case came: no image may be touched."""
    with tempfile.TemporaryDirectory() as name:
        project = _project(Path(name), 2 if size.quick else 6)
        first = _alunet("plan", str(project))
        before = _images(project)
        again = _alunet("plan", str(project))
        after = _images(project)
    touched = sum(before.get(file) != stamp for file, stamp in after.items())
    if not before:
        touched = -1  # nothing was prepared: nothing was measured
    what = f"round without new cases, {len(before)} preprocessed files"
    note = f"CPU s against preparing them; {touched} prepared again"
    return [
        Row(what, again, first, again / first, note=note),
        Row(f"{what}, prepared again", touched, 0, abs(touched), 0, True, "files", again),
    ]


def _images(project: Path) -> dict[str, int]:
    folder = project / "nnunet"
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*.b2nd")}


def _project(folder: Path, cases: int) -> Path:
    """A project with the phantom's cases, made as a person makes it."""
    from alunet.simulation.phantom import make_phantom

    source = make_phantom(folder / "phantom", cases)
    _alunet("init", str(folder / "project"), "--like", str(source))
    _alunet("add", str(folder / "project"), str(source))
    return folder / "project"


def _alunet(*arguments: str) -> float:
    """CPU seconds of a command and of what it starts."""
    import psutil

    own = psutil.Process()
    before = own.cpu_times()
    command = [sys.executable, "-m", "alunet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
    after = own.cpu_times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
