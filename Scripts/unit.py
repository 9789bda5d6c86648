"""Compare tiles with whole slices at equal drawn area: Dice of held-out patients.

    python Scripts/unit.py --data DIR --work DIR --results docs/results/unit.csv

Large images are taken at half their resolution, so that seconds of training teach something. All
are planned with a patch of about half the sides of a slice, so that a slice has several tiles. For
each seed a first batch is drawn, a model trained on it, a second batch chosen by each strategy, and
the training goes on: once with whole slices, once with tiles. Of the tiles, in the order in which
they are drawn or chosen, as many are handed in as have the area of the slices of the same round.
Steps, recipe and network are the same for both. Patients are never split: fold 0 is held out.

Seeds that are in the results already are left out, and finished rounds are kept in --work, so a
stopped run goes on where it was. Everything of a seed is computed in one process on one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
from collections import defaultdict
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ALUNetSlicer"))

from alunet.loop import Loop, Recipe, RoundRecord, preset
from alunet.loop.oracle import Oracle
from alunet.model.interface import name_of
from alunet.pool import Pool
from alunet.project import Project
from alunet.query import Streams
from alunet.schema import SLICE, TILE, Event, ignore_events
from alunet.simulation.tables import INITIAL

SETS: dict[str, dict[str, Any]] = {
    "ACDC_cardiac_MR": {
        "patients": r"(patient\d+)",
        "shrink": [2, 2, 1],
        "patch": 64,
        "features": [16, 32, 64, 128, 256],
        "steps": 200,
        "pool": 16,
        "tests": 8,
    },
    "Task04_Hippocampus": {
        "patients": r"(.*)",
        "shrink": [1, 1, 1],
        "patch": 24,
        "features": [16, 32, 64],
        "steps": 500,
        "pool": 20,
        "tests": 8,
    },
}
"""Voxels that become one along x, y and z, side of the patch in pixels, features of the network's
stages (half of nnU-Net's, as in the preset `cpu`), steps of each training, and how many cases of
fold 0 to learn from and to test on.
"""
STRATEGIES = ("random", "power-entropy")
BATCH = 24
"""Slices of each round."""
COLUMNS = (
    "data",
    "seed",
    "unit",
    "strategy",
    "round",
    "samples",
    "slices",
    "voxels",
    "dice",
    "class_dice",
    "train_seconds",
    "query_seconds",
)


def main() -> int:
    """Play the seeds that have no result yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--work", type=Path, required=True, help="projects; kept between runs")
    parser.add_argument("--results", type=Path, required=True, help="CSV file; grows by each seed")
    parser.add_argument("--seeds", type=int, default=3, help="how many; without: 3")
    options = parser.parse_args()
    for seed in range(options.seeds):
        for name in SETS:
            if (name, str(seed)) not in finished(options.results):
                base = prepared(options.data / name, options.work)
                append(options.results, play_seed(base, options.work, seed))
    return 0


def finished(results: Path) -> set[tuple[str, str]]:
    """Return data set and seed of what is in the results."""
    if not results.is_file():
        return set()
    with results.open(newline="", encoding="utf-8") as lines:
        return {(row["data"], row["seed"]) for row in csv.DictReader(lines)}


def append(results: Path, rows: list[dict[str, Any]]) -> None:
    """Add lines, with the header where the file is new."""
    new = not results.is_file()
    with results.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def recipe(data: str) -> Recipe:
    """Return the preset `cpu`, trained for the data set's steps."""
    return preset("cpu").with_length(1, SETS[data]["steps"])


class SmallPatches(Loop):
    """Plans with small patches, and a network that suits them."""

    def run_child(self, function: str, log: Path, **arguments: Any) -> Any:
        """Make the patch smaller as soon as nnU-Net has planned."""
        found = super().run_child(function, log, **arguments)
        if function.endswith(":prepare"):
            side, features = (SETS[self.project.name][key] for key in ("patch", "features"))
            stages = len(features)
            file = self.framework.plan_file(self.project.nnunet_dir)
            plans = json.loads(file.read_text(encoding="utf-8"))
            configuration = plans["configurations"]["2d"]
            network = configuration["architecture"]["arch_kwargs"]
            for key in ("kernel_sizes", "strides", "n_conv_per_stage"):
                network[key] = network[key][:stages]
            network["n_conv_per_stage_decoder"] = network["n_conv_per_stage_decoder"][: stages - 1]
            network["n_stages"], network["features_per_stage"] = stages, features
            configuration["patch_size"] = found["patch"] = [side, side]
            file.write_text(json.dumps(plans), encoding="utf-8")
        return found


def prepared(source: Path, work: Path) -> Path:
    """Return a planned project of the data set: the test cases of fold 0, and cases to learn
    from.
    """
    from alunet.imaging.dataset import read_dataset_description
    from alunet.imaging.patients import group_cases
    from alunet.simulation.config import splits

    root = work / source.name
    if root.exists():
        return root
    part, small = work / f"{source.name}.part", work / f"{source.name}-small"
    for folder in (part, small):
        shutil.rmtree(folder, ignore_errors=True)
    about = read_dataset_description(source)
    names = [name for name, _, _ in about.cases]
    tests = splits(names, [0], group_cases(names, SETS[source.name]["patients"], "patients"))[0]
    learned = [name for name in names if name not in tests][: SETS[source.name]["pool"]]
    tests = tests[: SETS[source.name]["tests"]]
    for folder in ("imagesTr", "labelsTr"):
        (small / folder).mkdir(parents=True)
    shutil.copyfile(source / "dataset.json", small / "dataset.json")
    for name in names:
        shrink(source, small, name, about.labels)
    kept = [case for case in read_dataset_description(small).cases if case[0] in {*tests, *learned}]
    with Project.create(
        part, name=source.name, labels=about.labels, channels=about.channels
    ) as project:
        project.cases.import_dataset(small, found=replace(about, cases=kept))
        project.cases.set_role(tests, "test")
        SmallPatches(project, recipe(source.name), seed=0, threads=1).prepare()
    part.rename(root)
    return root


def shrink(source: Path, small: Path, name: str, labels: dict[str, int]) -> None:
    """Write a case with fewer voxels: the mean of an image's, the most frequent of the labels."""
    import SimpleITK as sitk

    factors, file = SETS[source.name]["shrink"], f"{name}.nii.gz"
    image = sitk.ReadImage(source / "imagesTr" / file, sitk.sitkFloat32)
    sitk.WriteImage(sitk.BinShrink(image, factors), small / "imagesTr" / file)
    truth = sitk.ReadImage(source / "labelsTr" / file)
    shares = [
        sitk.BinShrink(sitk.Cast(truth == value, sitk.sitkFloat32), factors)
        for value in labels.values()
    ]
    most = np.stack([sitk.GetArrayFromImage(share) for share in shares]).argmax(0)
    found = sitk.GetImageFromArray(np.array(list(labels.values()), np.uint8)[most])
    found.CopyInformation(shares[0])
    sitk.WriteImage(found, small / "labelsTr" / file)


def play_seed(base: Path, work: Path, seed: int) -> list[dict[str, Any]]:
    """Play a seed of a data set in a child process; returns the lines of the results."""
    from alunet.model import child, environment

    place = work / f"{base.name}-{seed}"
    place.mkdir(exist_ok=True)
    source = os.pathsep.join([str(Path(__file__).parent), child.with_source()["PYTHONPATH"]])
    variables = environment.variables(base / "nnunet", place / "training", 1)

    def say(event: Event) -> None:
        if event.kind == "message":
            print(event.data["text"], flush=True)

    rows: list[dict[str, Any]] = child.run(
        "unit:play",
        {"base": str(base), "place": str(place), "seed": seed},
        environment={**variables, "PYTHONPATH": source},
        log=place / "log.txt",
        emit=say,
    )
    return rows


# --- in the child ---------------------------------------------------------------------------------


class Here(Loop):
    """Computes in this process, which has nnU-Net's environment."""

    def run_child(
        self, function: str, log: Path, heard: Any = ignore_events, **arguments: Any
    ) -> Any:
        """Call the function; a training begins without what another one left."""
        training = os.environ["nnUNet_results"]  # noqa: SIM112  nnU-Net's own name
        shutil.rmtree(training, ignore_errors=True)
        module, name = function.split(":")
        self.framework.use_structures(self.project.nnunet_dir, self.project.labels)
        about = {"framework": name_of(self.framework), "folder": str(self.project.nnunet_dir)}
        return getattr(import_module(module), name)(**about, **arguments, emit=heard)


def play(base: str, place: str, seed: int, emit: Any) -> list[dict[str, Any]]:
    """Play whole slices, then tiles of the same area."""
    rows, areas = [], {}
    for unit in (SLICE, TILE):
        root = Path(place) / unit
        with begun(Path(base), root / INITIAL, unit) as project:
            loop = Here(project, recipe(project.name), seed=seed, device="cpu", threads=1)
            records = [(INITIAL, first_round(loop, areas.get(INITIAL)))]
            for strategy in STRATEGIES:
                if not (root / strategy).exists():
                    project.fork(root / strategy).close()
        for strategy in STRATEGIES:
            with Project.open(root / strategy) as project:
                loop = Here(project, recipe(project.name), seed=seed, device="cpu", threads=1)
                records.append((strategy, next_round(loop, strategy, areas.get(strategy))))
        for strategy, record in records:
            areas.setdefault(strategy, record.labelled_voxels)
            row = line(Path(base).name, unit, strategy, record)
            emit(Event("message", {"text": " ".join(map(str, row.values()))}))
            rows.append(row)
    return rows


def begun(base: Path, root: Path, unit: str) -> Project:
    """Open the project of the first round, made on the shared images where it is new."""
    if root.exists():
        return Project.open(root)
    with Project.open(base, read_only=True) as data:
        project = Project.create(
            root,
            name=data.name,
            labels=data.labels,
            channels=data.channels,
            data=base,
            unit=unit,
        )
        project.cases.set_role([case.name for case in data.cases.all("test")], "test")
        project.settings.patch = data.settings.patch
        project.settings.arithmetic = data.settings.arithmetic
    return project


def first_round(loop: Loop, area: int | None) -> RoundRecord:
    """Draw the first batch, train from scratch and evaluate."""
    loop.prepare()
    if loop.rounds():
        return loop.rounds()[0]
    size = len(loop.project.pool)
    drawn = Streams(loop.seed, 0)["init"].permutation(size)
    ids = prefix(loop.project, drawn, BATCH, area)
    batch = {"ids": [int(i) for i in ids], "gains": [0.0] * len(ids), "reasons": [""] * len(ids)}
    loop.open_round(INITIAL, len(ids), lambda folder: {**batch, "diagnostics": {}, "costs": {}})
    Oracle(loop.project).reveal(ids, 0)
    return loop.learn()


def next_round(loop: Loop, strategy: str, area: int | None) -> RoundRecord:
    """Choose, hand in, train on and evaluate."""
    if len(loop.rounds()) > 1:
        return loop.rounds()[1]
    # tiles overlap: more are chosen than can be needed
    most = int(np.bincount(loop.project.pool.case * 4096 + loop.project.pool.slice).max())
    chosen = loop.suggest(strategy, BATCH * most)
    ids = prefix(loop.project, np.array([entry.sample for entry in chosen]), BATCH, area)
    Oracle(loop.project).reveal(ids, 1)
    return loop.learn()


def prefix(project: Project, ids: Any, number: int, area: int | None) -> Any:
    """Return the first samples: so many, or those that bring what is annotated to an area."""
    if area is None:
        return ids[:number]
    pool = project.pool
    drawn: dict[tuple[int, int], Any] = defaultdict(lambda: np.zeros((0, 0), bool))
    total = 0
    labelled = np.flatnonzero(project.samples.labelled())
    for sample in labelled:
        total += cover(pool, int(sample), drawn)
    for count, sample in enumerate(ids):
        if total >= area:
            return ids[:count]
        total += cover(pool, int(sample), drawn)
    raise SystemExit(f"{len(ids)} tiles have less than {area} voxels: choose more.")


def cover(pool: Pool, sample: int, drawn: dict[tuple[int, int], Any]) -> int:
    """Mark the voxels of a sample; returns how many are new."""
    (rows, cols) = [extent for extent in pool.raw_box[sample].tolist() if extent[1] - extent[0] > 1]
    key = int(pool.case[sample]), int(pool.slice[sample])
    if not drawn[key].size:
        drawn[key] = np.zeros((512, 512), bool)
    part = drawn[key][slice(*rows), slice(*cols)]
    new = int((~part).sum())
    part[:] = True
    return new


def line(data: str, unit: str, strategy: str, record: RoundRecord) -> dict[str, Any]:
    """Return a line of the results."""
    dice = [value for name, value in record.metrics["dice"].items() if name != "mean"]
    return {
        "data": data,
        "seed": record.seed,
        "unit": unit,
        "strategy": strategy,
        "round": record.number,
        "samples": record.labelled_samples,
        "slices": record.labelled_slices,
        "voxels": record.labelled_voxels,
        "dice": round(float(record.mean()), 4),
        "class_dice": " ".join("-" if value is None else f"{value:.4f}" for value in dice),
        "train_seconds": record.seconds["train"],
        "query_seconds": record.seconds.get("query", 0.0),
    }


if __name__ == "__main__":
    sys.exit(main())
