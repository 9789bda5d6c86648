"""A batch simulation in the background, from Slicer's Python console."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Process
from ALUNetSlicerLib.ports.signal import Signal


def arguments(
    dataset: str, out: str, strategies: Sequence[str], options: Mapping[str, Any]
) -> list[str]:
    """Arguments of ``alunet`` for a study."""
    words = ["simulate", str(dataset), "--out", str(out)]
    for name in strategies:
        words += ["--strategy", name]
    for option, value in options.items():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            words += [f"--{option.replace('_', '-')}", str(part)]
    return words


class Simulation:
    """A study that runs in a process of its own.

    Args:
        process: of ``alunet simulate``.
        out: folder of the study.

    Attributes:
        line: emits each line that it writes.
        ended: emits None, or a `Failure`.
        running: whether it runs.
    """

    def __init__(self, process: Process, out: Path) -> None:
        self.line, self.ended = Signal(), Signal()
        self.running = True
        self._process, self._out, self._rest = process, out, b""
        process.start(self._hear, self._over)

    def cancel(self) -> None:
        """Stop it; the same call goes on where it was."""
        if self.running:
            self.running = False
            self._process.kill()
            self.ended.emit(
                Failure(
                    "cancelled", _("The simulation was cancelled."), _("The same call goes on.")
                )
            )

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Strategy -> (labeled slices, mean foreground Dice) of each round, mean over folds and
        seeds.
        """
        found: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        with (self._out / "curves.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["label"] == "mean" and row["dice"]:
                    point = float(row["labelled_slices"]), float(row["dice"])
                    found[row["strategy"]][int(row["round"])].append(point)
        return {
            name: [_mean(rounds[number]) for number in sorted(rounds)]
            for name, rounds in found.items()
        }

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.line.emit(line.decode("utf-8", "replace").rstrip())

    def _over(self, words: str) -> None:
        if self.running:
            self.running = False
            reason = (words.splitlines() or [_("it gave no reason")])[-1]
            message = _("The simulation ended: {reason}").format(reason=reason)
            failed = Failure("simulation", message, _("The same call goes on where it was."))
            self.ended.emit(None if self._process.code == 0 else failed)


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _y in points) / len(points), sum(y for _x, y in points) / len(points)
