"""Compare training recipes at equal CPU seconds on real data: Dice of held-out cases against
seconds.

    python Scripts/recipes.py --data DIR --work DIR --results docs/results/recipes.csv PLAN.json

PLAN.json is a list of cells, each with what differs from the defaults below; "settings" are what
differs from the preset `cpu`, and a width of 0 is that of the preset:

    {"name": "half-width", "data": "ACDC_cardiac_MR", "slices": 100, "seconds": 300, "seed": 0,
     "split": "inner", "width": 0.5, "settings": {"learning_rate": 0.001}}

A cell that is in the results already is left out, and a training that was stopped goes on from its
last 2,000 steps, so a stopped run goes on where it was. Cells run one after another, each training
in a process of its own on one thread; start the script twice, with --share 0/2 and 1/2, for two
cores. "seconds" are CPU seconds (user and system) of the training alone; the number of steps
follows from a measured step. With "stages": 4 the slices come in four equal parts; each stage
trains a quarter of the seconds on all slices so far, from the weights of the stage before, with
"later" on top of the settings: rounds that continue. "inner" holds out a fifth of the training
cases of fold 0, "test" the test cases of fold 0. Patients are never split.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ALUNetSlicer"))

DEFAULTS: dict[str, Any] = {
    "name": "",
    "data": "",
    "slices": 100,
    "seconds": 120,
    "seed": 0,
    "split": "inner",
    "width": 0.0,
    "settings": {},
    "mirrored": False,
    "stages": 1,
    "later": {},
}
STEPS_OF_AN_EPOCH = 200
COLUMNS = (*DEFAULTS, "steps", "cpu_seconds", "dice", "class_dice", "parameters", "capability")
PATIENT = {"ACDC_cardiac_MR": r"(patient\d+)"}


def main() -> int:
    """Run the cells that have no result yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path, nargs="?", help="JSON list of cells; none: draw only")
    parser.add_argument("--data", type=Path, help="folder that holds the data sets")
    parser.add_argument("--work", type=Path, help="folder for prepared images; kept between runs")
    parser.add_argument(
        "--draw", type=Path, help="picture of the results: Dice against CPU seconds"
    )
    parser.add_argument(
        "--results", type=Path, required=True, help="CSV file that grows by a line a cell"
    )
    parser.add_argument(
        "--share", default="0/1", help="i/n: only every n-th cell, from the i-th on"
    )
    options = parser.parse_args()
    if options.plan is not None:
        if options.data is None or options.work is None:
            parser.error("Cells need --data and --work.")
        play_all(options)
    if options.draw is not None:
        draw(options.results, options.draw)
    return 0


def play_all(options: argparse.Namespace) -> None:
    """Run the cells of the plan in turn, those of this share alone."""
    part, parts = map(int, options.share.split("/"))
    cells = [{**DEFAULTS, **cell} for cell in json.loads(options.plan.read_text(encoding="utf-8"))]
    for cell in cells[part::parts]:
        if key(cell) in finished(options.results):
            continue
        row = run(cell, options.data, options.work)
        append(options.results, row)
        print(
            f"{cell['data']:20} {cell['name']:28} {row['cpu_seconds']:7.0f} s {row['steps']:6} "
            f"steps "
            f"Dice {row['dice']:.4f}",
            flush=True,
        )


def draw(results: Path, picture: Path) -> None:
    """Draw Dice against CPU seconds, a panel a data set, a line a recipe (mean over its seeds)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import pandas as pd

    table = pd.read_csv(results)
    sets = sorted(table["data"].unique())
    figure, panels = plt.subplots(
        1, len(sets), figsize=(5 * len(sets), 5), squeeze=False, layout="constrained"
    )
    for name, panel in zip(sets, panels[0], strict=True):
        own = table[table["data"] == name]
        for recipe, runs in own.groupby("name", sort=False):
            means = runs.groupby("seconds")[["cpu_seconds", "dice"]].mean()
            panel.plot(means["cpu_seconds"], means["dice"], "o-", label=recipe, markersize=5)
        panel.set(
            title=name, xlabel="CPU seconds of training", ylabel="mean Dice of held-out cases"
        )
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.savefig(picture, dpi=110)


def key(cell: dict[str, Any]) -> str:
    """What tells a cell from another: everything but its name."""
    return json.dumps(
        {name: _parsed(DEFAULTS[name], _shown(cell[name])) for name in DEFAULTS if name != "name"}
    )


def _shown(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)


def finished(results: Path) -> set[str]:
    """Keys of the cells with a result."""
    if not results.is_file():
        return set()
    with results.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return {key({name: _parsed(DEFAULTS[name], row[name]) for name in DEFAULTS}) for row in rows}


def _parsed(default: Any, text: str) -> Any:
    """A value of the CSV in the type of its default."""
    if isinstance(default, dict):
        return json.loads(text)
    return text == "True" if isinstance(default, bool) else type(default)(text)


def append(results: Path, row: dict[str, Any]) -> None:
    """Add a line, with the header where the file is new."""
    new = not results.is_file()
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({name: _shown(row[name]) for name in COLUMNS})


def run(cell: dict[str, Any], data: Path, work: Path) -> dict[str, Any]:
    """Train and evaluate one cell in a child process."""
    from alunet.model import child, environment

    project = prepared(data / cell["data"], work / cell["data"])
    nnunet = widened(
        project / "nnunet", work / f"{cell['data']}-width-{cell['width']}", cell["width"]
    )
    name = hashlib.sha256(json.dumps(cell, sort_keys=True).encode("utf-8")).hexdigest()[:16]
    place = work / f"cell-{name}"  # an interrupted training goes on from its last epoch
    place.mkdir(exist_ok=True)
    found = child.run(
        "recipes:play",
        {"nnunet": str(nnunet), "project": str(project), "place": str(place), "cell": cell},
        environment={
            **environment.variables(nnunet, place / "training", 1),
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), child.with_source()["PYTHONPATH"]]
            ),
        },
        log=work / f"log-{name}.txt",
    )
    shutil.rmtree(place)
    return {**cell, **found}


def prepared(source: Path, root: Path) -> Path:
    """A planned project of the data set, with all its images."""
    from alunet.imaging.dataset import read_dataset_description
    from alunet.loop import Loop, preset
    from alunet.project import Project

    if not root.exists():
        part = root.with_name(f"{root.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        about = read_dataset_description(source)
        with Project.create(
            part, name=source.name, labels=about.labels, channels=about.channels
        ) as project:
            project.cases.import_dataset(source)
            Loop(project, preset("paper"), seed=0).prepare()  # the full width
        part.rename(root)
    return root


def widened(nnunet: Path, root: Path, width: float) -> Path:
    """The same plan with another number of features, on the same preprocessed images."""
    from alunet.loop import preset
    from alunet.model.environment import Folders
    from alunet.model.plan import features

    old, new = Folders(nnunet), Folders(root)
    if not new.plans.is_file():
        new.preprocessed.mkdir(parents=True, exist_ok=True)
        new.raw.mkdir(parents=True, exist_ok=True)
        for name in ("dataset.json", "dataset_fingerprint.json"):
            shutil.copyfile(old.preprocessed / name, new.preprocessed / name)
        for kept in (old.images, old.preprocessed / "properties"):
            link = new.preprocessed / kept.name
            if not link.exists():
                link.symlink_to(kept, target_is_directory=True)
        plans = json.loads(old.plans.read_text(encoding="utf-8"))
        network, patch = plans["configurations"]["2d"]["architecture"]["arch_kwargs"], [1]
        if not width:
            width, patch = preset("cpu").width, plans["configurations"]["2d"]["patch_size"]
        network["features_per_stage"] = features(network["features_per_stage"], width, patch)
        new.plans.write_text(json.dumps(plans), encoding="utf-8")
    return root


def play(nnunet: str, project: str, place: str, cell: dict[str, Any], emit: Any) -> dict[str, Any]:
    """In the child: reveal random slices, train for the seconds, segment the held-out cases."""
    import torch

    from alunet.loop import preset
    from alunet.loop.evaluation import LabelledCase, evaluate
    from alunet.model.labels import LabelFolder
    from alunet.model.network import Model
    from alunet.model.predict import Predictor
    from alunet.model.settings import ScoringSettings, TrainingSettings
    from alunet.model.train import train

    base = {**asdict(preset("cpu").first), "epochs": 1, "precision": "fp32"}
    torch.set_num_threads(1)
    cell = {**DEFAULTS, **cell}
    folder = LabelFolder(Path(place) / "labels", Path(nnunet))
    weights, steps, spent = None, 0, 0.0
    for stage in range(1, cell["stages"] + 1):
        cases, held_out = reveal(Path(project), cell, folder, stage / cell["stages"])
        settings = {**base, **cell["settings"], **(cell["later"] if weights else {})}
        part = Part(Path(place), stage)
        if not part.steps:
            seconds = cell["seconds"] / cell["stages"]
            part.begin(affordable(Path(nnunet), folder.folder, cases, settings, seconds))
        if not part.done:
            length = {"epochs": part.epochs, "iterations": part.steps // part.epochs}
            train(
                Path(nnunet),
                folder.folder,
                cases,
                TrainingSettings(**{**settings, **length}),
                weights,
                part.weights,
                cell["seed"],
                "cpu",
                part.counted(emit),
            )
            part.end()
        weights, steps, spent = part.weights, steps + part.steps, spent + part.spent
    scoring = ScoringSettings(mirroring=cell["mirrored"])
    model = Model(Path(nnunet), weights, "cpu")
    cases = [LabelledCase(name, Path(label)) for name, label in held_out.items()]
    structures = {str(value): value for value in range(1, model.classes)}
    found = evaluate(Predictor(Path(nnunet), model, scoring).segment, cases, structures, emit)
    by_class = [round(value, 4) for value in found["metrics"]["dice"].values() if value is not None]
    return {
        "steps": steps,
        "cpu_seconds": round(spent, 1),
        "dice": round(sum(by_class) / len(by_class), 4),
        "class_dice": " ".join(map(str, by_class)),
        "parameters": sum(each.numel() for each in model.network.parameters()),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


class Part:
    """A stage of a cell, and how far it is; what is noted survives a kill.

    Attributes:
        weights: file of the model.
        steps: of the whole stage; 0 before it began.
        spent: CPU seconds so far, also before a kill.
        done: whether the stage has ended.
    """

    def __init__(self, place: Path, stage: int) -> None:
        self.weights, self._note = place / f"weights{stage}.pth", place / f"stage{stage}.json"
        self._training = place / "training"
        self.steps, self.spent, self.done = 0, 0.0, False
        if self._note.is_file():
            noted = json.loads(self._note.read_text(encoding="utf-8"))
            self.steps, self.spent, self.done = noted["steps"], noted["spent"], noted["done"]
        self._counted = time.process_time()

    @property
    def epochs(self) -> int:
        """How many equal parts the steps have; a killed training goes on from the last whole
        one.
        """
        return max(1, self.steps // STEPS_OF_AN_EPOCH)

    def begin(self, steps: int) -> None:
        """Begin with so many steps, or a few less that divide into epochs."""
        shutil.rmtree(self._training, ignore_errors=True)
        self.steps = steps
        self.steps -= steps % self.epochs
        self._keep()
        self._counted = time.process_time()

    def counted(self, emit: Any) -> Any:
        """Return a listener that passes events on, and notes the CPU seconds of each epoch."""

        def hear(event: Any) -> None:
            if event.kind == "epoch":
                self._count()
            emit(event)

        return hear

    def end(self) -> None:
        """Note that the stage has ended."""
        self.done = True
        self._count()

    def _count(self) -> None:
        now = time.process_time()
        self.spent, self._counted = self.spent + now - self._counted, now
        self._keep()

    def _keep(self) -> None:
        from alunet.storage.files import write_json

        write_json(self._note, {"steps": self.steps, "spent": self.spent, "done": self.done})


def affordable(
    nnunet: Path, labels: Path, cases: dict[str, int], settings: dict[str, Any], seconds: float
) -> int:
    """How many steps fit into the CPU seconds."""
    from alunet.model.settings import TrainingSettings
    from alunet.model.train import seconds_per_step

    wanted = TrainingSettings(**{**settings, "iterations": 100})
    return max(
        10,
        round(seconds / seconds_per_step(nnunet, labels, cases, wanted, "cpu", time.process_time)),
    )


def reveal(
    root: Path, cell: dict[str, Any], folder: Any, share: float = 1.0
) -> tuple[dict[str, int], dict[str, str]]:
    """Write label maps that show a share of the cell's random slices of the training cases.

    Returns:
        Number of labeled slices by case, and the held-out cases' label files.
    """
    import numpy as np

    from alunet.imaging.reading import read_labels
    from alunet.project import Project
    from alunet.schema import NOT_ANNOTATED

    with Project.open(root, read_only=True) as project:
        cases = {case.name: case for case in project.cases.all()}
        training, held_out = split(list(cases), PATIENT.get(cell["data"], r"(.*)"), cell["split"])
        pool = project.pool
        own = np.flatnonzero(np.isin(pool.case, [pool.cases.index(name) for name in training]))
        count = min(cell["slices"] or len(own), len(own))
        chosen = np.random.default_rng([cell["seed"], 2024]).choice(own, count, replace=False)[
            : round(share * count)
        ]
        table: dict[str, list[int]] = {}
        for sample in chosen:
            table.setdefault(pool.case_name(int(sample)), []).append(int(sample))
        for name, samples in table.items():
            truth = read_labels(cases[name].label)
            shown = np.full(truth.shape, NOT_ANNOTATED, np.uint8)
            for sample in samples:
                voxels = pool.raw_slices(sample)
                shown[voxels] = truth[voxels]
            folder.refresh(name, shown)
        labels = {name: str(cases[name].label) for name in held_out}
    return {name: len(samples) for name, samples in table.items()}, labels


def split(names: list[str], pattern: str, kind: str) -> tuple[list[str], list[str]]:
    """Training and held-out cases, by patient: fold 0 ("test"), or a fifth of its training cases
    ("inner").
    """
    import numpy as np
    from sklearn.model_selection import KFold

    def fold(patients: list[str]) -> set[str]:
        ordered = np.sort(np.array(patients))
        return set(
            ordered[
                next(iter(KFold(5, shuffle=True, random_state=12345).split(ordered)))[1]
            ].tolist()
        )

    of = {name: re.search(pattern, name).group(1) for name in names}  # type: ignore[union-attr]
    test = fold(sorted(set(of.values())))
    rest = [name for name in names if of[name] not in test]
    if kind == "test":
        return rest, [name for name in names if of[name] in test]
    inner = fold(sorted({of[name] for name in rest}))
    return [name for name in rest if of[name] not in inner], [
        name for name in rest if of[name] in inner
    ]


if __name__ == "__main__":
    sys.exit(main())
