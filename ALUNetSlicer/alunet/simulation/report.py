"""The files that a study keeps up to date: tables after every round, pictures when it pauses or
ends.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from alunet.loop import RoundRecord
from alunet.project import Project
from alunet.schema import Emit, Event
from alunet.simulation import tables
from alunet.simulation.config import Study, folder_name

if TYPE_CHECKING:
    import pandas as pd


class Report:
    """Reads the finished rounds of the projects of `study` in `out`, and writes tables and pictures
    there.

    All runs of the study are in them, also those that earlier calls played.
    """

    def __init__(self, out: Path, study: Study, emit: Emit) -> None:
        self._out, self._study, self._emit = out, study, emit
        self._lock = threading.Lock()
        self._known: dict[Path, list[RoundRecord]] = {}

    def runs(self) -> list[tables.RunRounds]:
        """The finished rounds of every run that has at least round 0."""
        study, found = self._study, []
        for strategy in study.strategies:
            for fold in study.folds:
                for seed in study.seeds:
                    folder = run_folder(self._out / "runs", fold, seed)
                    records = self._records(folder, strategy)
                    if records:
                        found.append(
                            tables.RunRounds(
                                fold, seed, strategy, [vars(record) for record in records]
                            )
                        )
        return found

    def _records(self, folder: Path, strategy: str) -> list[RoundRecord]:
        first = self._read(folder / tables.INITIAL, 1)
        return (
            first and first + self._read(folder / folder_name(strategy), self._study.rounds + 1)[1:]
        )

    def _read(self, root: Path, wanted: int) -> list[RoundRecord]:
        """The first `wanted` finished rounds of a run's project, or as many as there are."""
        known = self._known.get(root, [])
        if len(known) < wanted and root.is_dir():
            with Project.open(root, shared=True) as project:
                known = self._known[root] = [
                    RoundRecord.from_json(entry.record) for entry in project.rounds.finished()
                ]
        return known[:wanted]

    def curves(self) -> pd.DataFrame:
        """Learning curves, see `tables.curves_table`."""
        return tables.curves_table(self._study.dataset, self.runs())

    def rounds(self) -> pd.DataFrame:
        """Diagnostics and costs, see `tables.rounds_table`."""
        return tables.rounds_table(self._study.dataset, self.runs())

    def summary(self) -> pd.DataFrame:
        """One row for each strategy, see `tables.summary_table`."""
        return tables.summary_table(self.curves())

    def write(self) -> None:
        """Rewrite `curves.csv` and `rounds.csv`; may be called from any thread."""
        with self._lock:
            for table, name in ((self.curves(), "curves.csv"), (self.rounds(), "rounds.csv")):
                if not tables.write_csv(table, self._out / name):
                    text = (
                        f"{name} is open in another program and was not updated; it will be "
                        f"after the next round"
                    )
                    self._emit(Event("message", {"text": text}))

    def draw(self) -> None:
        """Redraw the learning curve of each metric, once there is something to draw."""
        from alunet.simulation.plots import plot_curves

        with self._lock:
            curves = self.curves()
            if len(curves):
                plot_curves(curves, self._out)


def run_folder(runs: Path, fold: int, seed: int) -> Path:
    """Where the runs of a fold and seed lie: the shared `initial` and a folder for each
    strategy.
    """
    return runs / f"fold{fold}_seed{seed}"
