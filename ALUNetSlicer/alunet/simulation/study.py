"""`alunet.simulate(...)`: whole active-learning runs from one call."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alunet.errors import Cancelled, InputError
from alunet.imaging.dataset import DatasetDescription, read_dataset_description
from alunet.loop import Loop
from alunet.model.hardware import usable_cores
from alunet.model.interface import load_framework
from alunet.project import Project
from alunet.project.settings import check_unit
from alunet.schema import TILE, Emit, Event, ignore_events
from alunet.simulation import config
from alunet.simulation.grid import ExperimentGrid, RunSettings
from alunet.simulation.report import Report
from alunet.simulation.split import Group, Split
from alunet.storage.files import FolderLock

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SimulationResult:
    """What a study found.

    Attributes:
        curves: learning curves in tidy form (also `curves_csv`).
        rounds: query diagnostics, seconds and peak memory of every round (also `rounds_csv`).
        summary: one row for each strategy, best first.
        out: the folder of the study; the files lie in it.
    """

    curves: pd.DataFrame
    rounds: pd.DataFrame
    summary: pd.DataFrame
    out: Path

    @property
    def curves_csv(self) -> Path:
        """Learning curves."""
        return self.out / "curves.csv"

    @property
    def rounds_csv(self) -> Path:
        """What every round did and cost."""
        return self.out / "rounds.csv"

    @property
    def splits_json(self) -> Path:
        """Patients and cases to learn from and to test on, for each fold."""
        return self.out / "splits.json"

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The learning curves drawn: PNG and SVG of Dice, then of each other metric."""
        from alunet.simulation.plots import pictures

        return tuple(path for pair in pictures(self.curves, self.out).values() for path in pair)


def simulate(
    dataset: str | Path,
    out: str | Path,
    strategies: Sequence[str] = ("usimf", "random"),
    rounds: int = 3,
    budget: int = 100,
    initial: int = 100,
    folds: Sequence[int] = (0,),
    seeds: Sequence[int] = (0,),
    test: str | Path | None = None,
    preset: str = "cpu",
    mode: str = "finetune",
    epochs: int | None = None,
    iterations: int | None = None,
    device: str = "auto",
    jobs: int = 1,
    limit: int | None = None,
    emit: Emit | None = None,
    as_published: bool = False,
    group: Group | None = None,
    unit: str = TILE,
) -> SimulationResult:
    """Play active-learning runs on a labelled data set, with its hidden labels as the annotator.

    For every fold and seed one initial set is drawn and one model trained on it; from there each
    strategy goes its own way. Stop it at any moment: the same call goes on where it was. Later
    calls on the same `out` may add strategies, rounds, folds and seeds; everything else must stay
    as it was.

        import alunet

        if __name__ == "__main__":
            names = ["usimf", "random"]
            result = alunet.simulate("Task04_Hippocampus", "out", names, seeds=[0, 1, 2])
            print(result.summary)

    Args:
        dataset: a labelled data set in the form of the Medical Segmentation Decathlon or of
            nnU-Net.
        out: folder of the study: curves.csv, rounds.csv, splits.json, curves.png, curves.svg, a
            project for each run.
        strategies: names, with options as in "usimf:eta=10"; `alunet strategies` lists them.
        rounds: after the initial one.
        budget: samples (slices, or tiles of large slices) labelled in each round.
        initial: samples labelled at random before the first round.
        folds: of nnU-Net's five-fold split (0 to 4) of the patients: the cases of the fold's
            patients are the test set, all others the pool.
        seeds: of everything random.
        test: a labelled data set as the test set instead of a fold; all of `dataset` is the pool
            then.
        preset: recipe of training and scoring, "cpu" or "paper".
        mode: "finetune" trains a round on from all weights of the one before, "scratch" anew, as
            long as round 0.
        epochs, iterations: another length of every training than the preset's: epochs, and steps in
            an epoch.
        device: "auto", "cpu", "cuda" or "mps".
        jobs: runs at a time.
        limit: use the first so many cases of `dataset` only (for a quick look).
        emit: hears the progress (`alunet.schema.Event`), from several threads but one at a time.
        as_published: choose and train as the code of the published experiments did
            (docs/fidelity.md), which among other things picks each round's model on the test cases;
            options of a strategy that are given stay.
        group: which cases are of one patient: a regular expression whose first group, or else whole
            match, is the patient in a case name; a table {patient: [case, …]}; or "none": each case
            is another patient. Without: as "groups" in dataset.json says.
        unit: what is labelled at once and counts in the budget: a "tile" of the plan's patch, or a
            whole "slice".

    Raises:
        PatientsUnclear: neither `group` nor dataset.json says how cases group, and names look like
            several cases of one patient.
        InputError: the data or an option cannot be used; a new `out` is left as it was then.
        EngineError: a run failed; all others were played to their end.
        Cancelled: Ctrl-C; everything finished is kept.
    """
    config.check_numbers(rounds, budget, initial, jobs, seeds, limit)
    names = config.check_strategies(strategies, as_published)
    recipe = config.recipe_of(preset, mode, epochs, iterations, as_published)
    if device != "auto":
        load_framework().resolve_device(device)
    data = _Data.read(Path(dataset), None if test is None else Path(test), limit, group)
    fixed = {**data.fingerprint(), "recipe": recipe.to_json(), "budget": budget, "initial": initial}
    if check_unit(unit) != TILE:  # studies of before units were known have none
        fixed["unit"] = unit
    wanted = config.Study(
        fixed, names, rounds, tuple(dict.fromkeys(folds)), tuple(dict.fromkeys(seeds))
    )
    settings = RunSettings(
        recipe, budget, initial, rounds, device, max(1, usable_cores() // jobs), jobs
    )
    try:
        report = _play(Path(out), wanted, data, settings, _one_at_a_time(emit or ignore_events))
    except KeyboardInterrupt:
        raise Cancelled(
            "Stopped.", "Everything finished is kept: the same command goes on from here."
        ) from None
    return SimulationResult(report.curves(), report.rounds(), report.summary(), Path(out))


def _play(
    out: Path, wanted: config.Study, data: _Data, settings: RunSettings, emit: Emit
) -> Report:
    """Import and prepare what is not yet, and play the wanted runs; returns the report of all
    runs in `out`.
    """
    tests, cancel = data.split.tests(wanted.folds), threading.Event()
    study = config.merge(out, wanted)
    report = Report(out, study, emit)
    with _own(out), _open_data(out, wanted, data, emit) as project:
        Loop(
            project, settings.recipe, seed=0, device=settings.device, emit=emit, cancel=cancel
        ).prepare()
        _check_pool(project, tests, wanted)
        config.save(out, study)
        data.split.save(out, study.folds)
        if not data.split.is_by_case:
            emit(Event("message", {"text": f"Pool and test cases are split {data.split}."}))
        try:
            ExperimentGrid(
                out / "runs", project, wanted, tests, settings, report.write, emit, cancel
            ).play()
        finally:
            report.write()
            report.draw()
    return report


@dataclass(frozen=True)
class _Data:
    """The data set, and the test set where one is given; checked, not yet read voxel by voxel."""

    path: Path
    pool: DatasetDescription
    limit: int | None
    split: Split
    test_path: Path | None = None
    test: DatasetDescription | None = None

    @classmethod
    def read(
        cls, path: Path, test_path: Path | None, limit: int | None, group: Group | None
    ) -> _Data:
        pool = read_dataset_description(path)
        pool = replace(pool, cases=pool.cases[:limit])
        config.check_labelled(pool, f"the data set {path}")
        if test_path is None:
            return cls(path, pool, limit, Split.of(pool, None, group))
        test = read_dataset_description(test_path)
        config.check_labelled(test, f"the test set {test_path}")
        config.check_test_set(pool, test)
        return cls(path, pool, limit, Split.of(pool, test, group), test_path, test)

    def fingerprint(self) -> dict[str, object]:
        test = None if self.test is None else config.dataset_identity(self.test)
        return {
            "dataset": config.dataset_identity(self.pool),
            "test set": test,
            "split": str(self.split),
        }


@contextlib.contextmanager
def _own(out: Path) -> Iterator[None]:
    """Keep other processes out of the folder while the study is played."""
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock = FolderLock(out)
    except InputError as error:
        hint = "Wait for it, stop it, or give another folder for --out."
        raise InputError(f"The study in {out} is being played by another process.", hint) from error
    try:
        yield
    finally:
        lock.release()
        if not (out / "study.json").exists():  # the data could not be used: leave nothing behind
            (out / "lock").unlink(missing_ok=True)
            if new:
                out.rmdir()


def _open_data(out: Path, study: config.Study, data: _Data, emit: Emit) -> Project:
    """The project that holds images, labels and preprocessed images of all runs; imported where
    it is not yet.
    """
    root, part = out / "data", out / "data.part"
    if not root.exists():
        shutil.rmtree(part, ignore_errors=True)  # stopped in the middle of the import
        fresh = not (out / "study.json").exists()
        config.save(out, study)
        try:
            with Project.create(
                part,
                name=data.pool.name,
                labels=data.pool.labels,
                channels=data.pool.channels,
                unit=study.fixed.get("unit", TILE),
            ) as project:
                project.cases.import_dataset(data.path, role="pool", limit=data.limit, emit=emit)
                if data.test_path is not None:
                    project.cases.import_dataset(data.test_path, role="test", emit=emit)
        except (InputError, OSError):
            shutil.rmtree(part, ignore_errors=True)
            if fresh:
                (out / "study.json").unlink()
            raise
        part.rename(root)
    return Project.open(root)


def _check_pool(project: Project, tests: dict[int, list[str]], study: config.Study) -> None:
    """Raises InputError where a fold's pool has fewer samples than the study wants to label."""
    import numpy as np

    initial, budget = int(study.fixed["initial"]), int(study.fixed["budget"])
    wanted = initial + study.rounds * budget
    pool = project.pool
    counts = dict(zip(pool.cases, np.bincount(pool.case, minlength=len(pool.cases)), strict=True))
    for fold, names in tests.items():
        size = int(sum(count for name, count in counts.items() if name not in set(names)))
        if wanted > size:
            raise InputError(
                f"{initial} initial samples and {study.rounds} rounds of {budget} are {wanted}, "
                f"but the pool of fold {fold} has {size}.",
                "Use a smaller --initial or --budget, fewer --rounds, or more cases.",
            )


def _one_at_a_time(emit: Emit) -> Emit:
    """The listener, protected from being called by two threads at once."""
    lock = threading.Lock()

    def locked(event: Event) -> None:
        with lock:
            emit(event)

    return locked
