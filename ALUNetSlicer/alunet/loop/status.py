"""Where a project worked on by hand stands, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.forecast import Forecast
from alunet.loop.round_record import RoundRecord, notes_on
from alunet.loop.worklist import RoundWorklist
from alunet.model.metrics import DICE, MEAN, Values
from alunet.project import Project
from alunet.project.case_table import CaseStanding


@dataclass(frozen=True)
class RoundLine:
    """One round.

    Attributes:
        state: "open" while its batch is annotated, "training", or "finished".
        suggested: samples in its batch.
        labelled: labelled samples at its end, or now.
        dice: mean foreground Dice of its model; None where there is none (yet).
        dice_on: what that was measured on: "test cases", or "annotated slices" that it was trained
            on.
        metrics: metric -> mean over the structures, of all that were measured on the same.
        note: why it cannot be compared with the round before; empty where it can.
        train_seconds: how long its training took; None where there was none (yet).
        steps: of that training.
    """

    number: int
    state: str
    strategy: str
    suggested: int
    labelled: int
    dice: float | None
    dice_on: str | None
    train_seconds: float | None = None
    steps: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class ProjectOverview:
    """Everything about a project that fits on a screen.

    Attributes:
        cases, test_cases: names of the cases to learn from, and of those to evaluate on.
        removed: names of the cases that were removed, and can be restored.
        unplanned: names of cases that are not preprocessed yet.
        pool, labelled, skipped: samples; `open` of the open round.
        slices: distinct slices with a label.
        label_values: structure -> its value in label files that do not say what their values mean.
        notes: case -> what was said of it when it was imported and planned.
        voxels: structure -> annotated voxels.
        open_voxels: voxels of labeled samples that are left open.
        unseen_voxels: case -> drawn voxels that no training sees, because the image is 0 there.
        unit: what people are asked for, a "tile" or a whole "slice".
        minutes: that people say they spent.
        train_for: seconds that a round's training may take; None where the project has a number of
            steps.
        forecast: what the next round will take; None where that is not known yet.
        step: what to do next: "add", "plan", "suggest", "annotate", "next-round" or "export".
        case: the case to annotate next, where `step` is "annotate".
    """

    project: str
    labels: dict[str, int]
    channels: list[str]
    cases: list[str]
    test_cases: list[str]
    removed: list[str]
    unplanned: list[str]
    pool: int
    labelled: int
    slices: int
    label_values: dict[str, int]
    notes: dict[str, list[str]]
    voxels: dict[str, int]
    open_voxels: int
    unseen_voxels: dict[str, int]
    open: int
    skipped: int
    unit: str
    minutes: float
    train_for: float | None
    forecast: Forecast | None
    rounds: list[RoundLine]
    setup: dict[str, Any]
    step: str
    case: str | None


@dataclass(frozen=True)
class Standings:
    """The cases of a project as a status names them, each list by name.

    Attributes:
        unplanned: names of those that are not preprocessed yet, or not in the pool.
    """

    present: list[CaseStanding]
    removed: list[str]
    unplanned: list[str]

    @classmethod
    def of(cls, project: Project) -> Standings:
        """Read how the cases stand."""
        everything = project.cases.standings()
        known = project.samples.pool_cases() or frozenset()
        present = [case for case in everything if case.state == "present"]
        return cls(
            present,
            [case.name for case in everything if case.state == "removed"],
            [
                case.name
                for case in present
                if not case.is_planned or (case.role == "pool" and case.name not in known)
            ],
        )

    def of_role(self, role: str) -> list[str]:
        """Return the names of those to learn from ("pool"), or to evaluate on ("test")."""
        return [case.name for case in self.present if case.role == role]


def status(annotation: AnnotationLoop) -> ProjectOverview:
    """Where the project stands; nothing is changed, so it may be open for reading only."""
    project, worklist = annotation.project, annotation.worklist()
    cases, counts = Standings.of(project), project.samples.counts()
    tested = any(case.role == "test" and case.has_label for case in cases.present)
    records = annotation.loop.rounds()
    rounds = [
        _finished(record, tested, note)
        for record, note in zip(records, notes_on(records), strict=True)
    ]
    begun = project.rounds.begun()
    if worklist is not None and begun is not None:
        state, size = begun.state.value, len(worklist.items)
        rounds.append(
            RoundLine(begun.number, state, worklist.strategy, size, counts.labelled, None, None)
        )
    voxels = [int(count) for count in project.annotations.class_voxels()]
    step, case = _next(annotation, worklist, cases)
    return ProjectOverview(
        project=project.name,
        labels=project.labels,
        channels=project.channels,
        cases=cases.of_role("pool"),
        test_cases=cases.of_role("test"),
        removed=cases.removed,
        unplanned=cases.unplanned,
        pool=counts.pool,
        labelled=counts.labelled,
        slices=counts.slices,
        label_values=project.cases.structures.of_structures(),
        notes=project.cases.notes(),
        voxels=dict(zip(project.labels, voxels, strict=True)),
        open_voxels=project.samples.covered_voxels() - sum(voxels),
        unseen_voxels=project.annotations.unseen_voxels(),
        open=0 if worklist is None else len(worklist.open()),
        skipped=counts.skipped,
        unit=project.settings.unit,
        minutes=round(project.annotations.seconds_spent() / 60, 1),
        train_for=annotation.loop.recipe.train_for,
        forecast=annotation.forecast(),
        rounds=rounds,
        setup=dict(vars(annotation.setup)),
        step=step,
        case=case,
    )


def _finished(record: RoundRecord, tested: bool, note: str) -> RoundLine:
    on_tests = tested and record.mean() is not None
    found = _means(record.metrics if on_tests else record.training_metrics)
    return RoundLine(
        number=record.number,
        state="finished",
        strategy=record.strategy,
        suggested=len(record.selected["ids"]),
        labelled=record.labelled_samples,
        dice=found.get(DICE),
        dice_on=("test cases" if on_tests else "annotated slices") if DICE in found else None,
        train_seconds=record.train_seconds,
        steps=record.steps,
        metrics=found,
        note=note,
    )


def _means(metrics: Mapping[str, Values]) -> dict[str, float]:
    means = {metric: values[MEAN] for metric, values in metrics.items()}
    return {
        metric: round(mean, 4)
        for metric, mean in means.items()
        if mean is not None and math.isfinite(mean)
    }


def _next(
    annotation: AnnotationLoop, worklist: RoundWorklist | None, cases: Standings
) -> tuple[str, str | None]:
    project, pool = annotation.project, cases.of_role("pool")
    if not pool:
        return "add", None
    if cases.unplanned or project.cases.to_learn():
        return "plan", None
    waiting = [] if worklist is None else worklist.open()
    if waiting:
        return "annotate", waiting[0].case
    if project.rounds.touched():
        return "next-round", None
    if project.samples.any_left():
        return "suggest", None
    return ("export", None) if project.rounds.current() else ("annotate", pool[0])
