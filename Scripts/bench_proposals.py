"""Proposals from drawn slices alone: Dice and added path length at fixed intervals, and a refresh.

    python Scripts/bench_proposals.py --data DIR [--quick] [--results docs/results/proposals.csv]

Part of Scripts/bench.py: `python3 Scripts/bench.py proposals`. Of each case every 2nd, 3rd, 4th or
8th slice is drawn, the first one 0. Dice per case is that of the slices between the outermost drawn
ones that are not drawn, mean of its structures there; effort is measured slice by slice. No model
and no option of the method depends on the data set.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ALUNetSlicer"))

from alunet.imaging.dataset import read_dataset_description
from alunet.imaging.reading import read_labels_with_spacing
from alunet.proposals.effort import Effort, effort_of, total_of
from alunet.proposals.neighbors import Neighbors
from alunet.proposals.proposal import LabelMap
from alunet.simulation.config import splits

INTERVALS = (2, 3, 4, 8)
BARS = {
    "Task04_Hippocampus": (0.92, 0.89, 0.865, 0.69),
    "ACDC_cardiac_MR": (0.79, 0.76, 0.67, 0.30),
    "Abdomen_CT_8organ": (0.91, 0.89, 0.87, 0.78),
    "Task09_Spleen_one": (0.95, 0.947, 0.91, 0.78),
}
"""Folder of the data -> least Dice at each interval."""
HIPPOCAMPUS_CASES = 60
QUICK_CASES = 3
REFRESH_SECONDS = 2.0
REPEATS = 5
Limited = list[tuple[str, float, float, bool, str]]
"""What, its value, the bar, whether the value must not exceed it, and a note."""


@dataclass(frozen=True)
class Measured:
    """One data set at one interval.

    Attributes:
        dice: mean of the cases.
        added_1, empty_1: mean added path length of an undrawn slice at 1 pixel, from the proposal
            and from nothing.
        removed_1: mean removed path length.
        accepted: share of the undrawn slices that need nothing at 1 pixel.
        saved: 1 - (added + removed) / empty.
    """

    data: str
    every: int
    cases: int
    slices: int
    dice: float
    bar: float
    added_1: float
    removed_1: float
    empty_1: float
    accepted: float
    saved: float


def measure(quick: bool) -> Limited:
    """Return Dice against the bars on all data sets that are there, and the refresh of a CT."""
    root = Path(os.environ.get("ALUNET_DATA", ""))
    rows: Limited = []
    for name in BARS:
        if root.name and (root / name).is_dir():
            for found in measure_set(root / name, quick):
                note = f"{found.saved:.0%} of the path saved, {found.accepted:.0%} accepted"
                what = f"Dice of {name}, every {found.every}, {found.cases} cases"
                rows.append((what, found.dice, 0.0 if quick else found.bar, False, note))
    seconds, note = refresh(quick)
    rows.append(("Refresh after a drawn slice, CPU seconds", seconds, REFRESH_SECONDS, True, note))
    return rows


def measure_set(folder: Path, quick: bool = False) -> Iterator[Measured]:
    """Measure a data set at each interval."""
    cases = [read_labels_with_spacing(file) for file in label_files(folder, quick)]
    for every, bar in zip(INTERVALS, BARS[folder.name], strict=True):
        dice, efforts, empties = [], Effort(), 0
        for labels, spacing in cases:
            found, effort, empty = measure_case(labels.astype(np.uint8), spacing, every)
            if found is not None:
                dice.append(found)
            efforts, empties = efforts + effort, empties + empty
        paths, count = efforts.total, efforts.slices
        yield Measured(
            folder.name,
            every,
            len(cases),
            count,
            float(np.mean(dice)),
            bar,
            paths.added_1 / count,
            paths.removed_1 / count,
            empties / count,
            efforts.accepted / count,
            1 - (paths.added_1 + paths.removed_1) / empties,
        )


def label_files(folder: Path, quick: bool = False) -> list[Path]:
    """Return the label files to measure: of the hippocampus the test cases of fold 0, and as many
    more by name as make 60; of the others all.
    """
    description = read_dataset_description(folder)
    files = {name: label for name, _, label in description.cases if label is not None}
    names = sorted(files)
    if len(names) > HIPPOCAMPUS_CASES:
        tests = splits(names, [0])[0]
        others = [name for name in names if name not in set(tests)]
        names = [*tests, *others[: HIPPOCAMPUS_CASES - len(tests)]]
    return [files[name] for name in (names[:QUICK_CASES] if quick else names)]


def measure_case(
    labels: LabelMap, spacing: tuple[float, ...], every: int
) -> tuple[float | None, Effort, int]:
    """Return Dice of the undrawn slices, the effort to correct them, and the path length of an
    empty start.
    """
    drawn = list(range(0, len(labels), every))
    source = Neighbors(
        {number: labels[number] for number in drawn},
        (spacing[0], spacing[1], spacing[2]),
        len(labels),
    )
    undrawn = [number for number in range(drawn[-1]) if number % every]
    if not undrawn:
        return None, Effort(), 0
    found = np.stack([source.at(number) for number in undrawn])
    truth = labels[undrawn]
    values = []
    for structure in np.union1d(np.unique(found), np.unique(truth)):
        if structure:
            one, other = found == structure, truth == structure
            values.append(2 * int((one & other).sum()) / (int(one.sum()) + int(other.sum())))
    plane = (float(spacing[1]), float(spacing[2]))
    efforts = [effort_of(one, other, plane) for one, other in zip(found, truth, strict=True)]
    effort = total_of(efforts)
    empty = effort_from_nothing(truth, plane)
    return (float(np.mean(values)) if values else None), effort, empty


def effort_from_nothing(truth: LabelMap, plane: tuple[float, float]) -> int:
    """Return the added path length of slices that begin empty."""
    return total_of(
        effort_of(np.zeros_like(labels), labels, plane) for labels in truth
    ).total.added_1


# --- speed ----------------------------------------------------------------------------------------


def refresh(quick: bool) -> tuple[float, str]:
    """Return the least CPU seconds in which the proposals follow one more drawn slice."""
    slices, side = (100, 256) if quick else (300, 512)
    case = made_case(slices, side)
    drawn = {number: case[number] for number in range(0, slices, 8)}
    best, count = float("inf"), 0
    for _ in range(REPEATS):
        source = Neighbors(drawn, (1.0, 0.8, 0.8), slices)
        number = slices // 2 // 8 * 8 + 4
        for own in range(number - 16, number + 16):  # as the panel has shown them
            source.at(own)
        start = time.process_time()
        changed = source.draw(number, case[number])
        for own in changed:
            source.at(own)
        best, count = min(best, time.process_time() - start), len(changed)
    whole = time.process_time()
    for own in range(slices):
        source.at(own)
    whole = time.process_time() - whole
    note = (
        f"{slices} x {side} x {side}, 8 structures, every 8th drawn: {count} slices follow; "
        f"the whole case {whole:.1f} s"
    )
    return best, note


def made_case(slices: int, side: int) -> LabelMap:
    """Return label maps of eight structures that move, swell and end, (slices, side, side)."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[:side, :side]
    case = np.zeros((slices, side, side), np.uint8)
    for structure in range(8):
        row, column = side * (0.25 + 0.5 * (structure // 4)), side * (0.14 + 0.24 * (structure % 4))
        radius = side * rng.uniform(0.07, 0.15)
        first, last = slices * rng.uniform(0.02, 0.2), slices * rng.uniform(0.75, 0.98)
        for number in range(int(first) + 1, int(last)):
            u = (number - first) / (last - first)
            away = (rows - row - 0.06 * side * np.sin(3 * u + structure)) ** 2 + (
                columns - column - 0.04 * side * np.cos(3 * u)
            ) ** 2
            case[number][away < radius**2 * 4 * u * (1 - u)] = structure + 1
    return case


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default=os.environ.get("ALUNET_DATA", ""), help="folder of data sets"
    )
    parser.add_argument("--quick", action="store_true", help="a few cases of each")
    parser.add_argument("--results", type=Path, help="a CSV file to write")
    options = parser.parse_args()
    found = []
    for name in BARS:
        folder = Path(options.data) / name
        if not folder.is_dir():
            print(f"{name}: not in {options.data}")
            continue
        for own in measure_set(folder, options.quick):
            found.append(own)
            print(
                f"{own.data:20} every {own.every}: Dice {own.dice:.4f} (bar {own.bar:.3f}), added "
                f"{own.added_1:.1f} + removed {own.removed_1:.1f} of {own.empty_1:.1f} px a slice, "
                f"{own.saved:.0%} saved, {own.accepted:.0%} accepted",
                flush=True,
            )
    seconds, note = refresh(options.quick)
    print(f"Refresh: {seconds:.2f} CPU seconds ({note})")
    if options.results:
        with options.results.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow([own.name for own in fields(Measured)])
            for own in found:
                writer.writerow([f"{v:.4f}" if isinstance(v, float) else v for v in astuple(own)])


if __name__ == "__main__":
    main()
