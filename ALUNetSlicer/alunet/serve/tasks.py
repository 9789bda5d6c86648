"""What the jobs do, each with the loop of the project. All can be started again after a crash
and go on from disk.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import alunet
from alunet import query
from alunet.errors import InputError
from alunet.imaging.reading import EXACT_ENDING, ending_of
from alunet.loop import outputs
from alunet.loop.choice import usual_choice
from alunet.loop.dicom_package import pack_labels, pack_predictions
from alunet.loop.recipe import check_seconds
from alunet.loop.segmentation_export import export_segmentations
from alunet.loop.slice_maps import make_slice_maps
from alunet.project import Project
from alunet.schema import (
    DICOM_SEG,
    FILE_FORMATS,
    NOT_ANNOTATED,
    SEGMENTATION_ENDING,
    Event,
    JobKind,
)
from alunet.serve import imports
from alunet.serve.background import let_others_first
from alunet.serve.job_context import JobContext
from alunet.storage.files import atomic_path, write_json

ON_DEVICE = (JobKind.ROUND, JobKind.PREDICT, JobKind.UNCERTAINTY, JobKind.SIMULATE)
"""Of these one runs at a time, whatever the project."""
_BEHIND_PEOPLE = (JobKind.IMPORT, JobKind.EXPORT)
"""Those that read and write large files while people save slices."""


def run(task: JobContext) -> Path | None:
    """Do the job; returns the file that it made, if any.

    Raises:
        AlunetError: it failed, or was cancelled.
    """
    check(task.job.kind, task.job.options)
    if task.job.kind in _BEHIND_PEOPLE:
        let_others_first()
    return _TASKS[task.job.kind](task, **task.job.options)


def check(kind: JobKind, options: dict[str, Any]) -> None:
    """Raises InputError for options that a job of that kind does not have, or of another type."""
    known = _OPTIONS[kind]
    for name, value in options.items():
        if name not in known:
            has = f"It has {', '.join(known)}." if known else "It has none."
            raise InputError(f"A job of kind '{kind.value}' has no option '{name[:40]}'.", has)
        if not known[name](value):
            raise InputError(
                f"The option '{name}' cannot be {value!r:.60}.",
                "See the description of the service.",
            )
    for strategy in [options.get("strategy"), *options.get("strategies", [])]:
        if strategy is not None:
            query.parse(strategy)
    if "train_for" in options:
        check_seconds(options["train_for"])


def _plan(task: JobContext) -> None:
    task.annotation_loop().plan()


def _round(
    task: JobContext,
    strategy: str | None = None,
    budget: int | None = None,
    ahead: int | None = None,
    train_for: float | None = None,
) -> None:
    """Train on what was annotated, if anything was, and suggest the next batch; by default as
    many more ahead.
    """
    loop = task.annotation_loop()
    if train_for is not None:
        loop.train_for(train_for)
    rounds = task.project.rounds
    begun = task.project.jobs.kept_note(task.job.id, "round", rounds.current())
    stays = begun == rounds.current() and not rounds.touched() and loop.loop.batch() is not None
    size = usual_choice(task.project, strategy, budget)[1]
    done = loop.next_round(strategy, budget, size if ahead is None else ahead, closes=begun)
    if done.worklist is None:
        task.emit(Event("message", {"text": "Every sample is annotated or skipped."}))
    elif stays:
        task.emit(
            Event(
                "message",
                {"text": "Nothing was annotated since the last training; the batch stays."},
            )
        )


def _predict(task: JobContext, cases: Sequence[str] = ()) -> None:
    loop = task.annotation_loop().loop
    loop.last()
    outputs.predict(loop, cases, loop.folder() / "proposals", EXACT_ENDING, proposals=True)


def _uncertainty(
    task: JobContext,
    cases: Sequence[str] = (),
    measure: str = "entropy",
    samples: Sequence[int] = (),
) -> None:
    loop = task.annotation_loop().loop
    loop.last()
    if samples:
        make_slice_maps(loop, samples, measure)
        return
    names = list(cases) or list(dict.fromkeys(row.case for row in task.project.worklist.rows()))
    for name in names:
        file = loop.folder() / "uncertainty" / measure / f"{name}{EXACT_ENDING}"
        if not file.is_file():  # an earlier attempt of this job made it: the model is the same
            outputs.uncertainty(loop, name, file, measure)


def _export(
    task: JobContext,
    what: str = "model",
    format: str = "nii.gz",
    cases: Sequence[str] = (),
    colors: Mapping[str, str] | None = None,
) -> Path:
    if what == "model":
        return outputs.export_model(task.annotation_loop().loop, task.result("model.zip"))
    target = task.result(f"{what}.zip")
    if format == DICOM_SEG:
        pack = pack_labels if what == "labels" else pack_predictions
        return pack(task.annotation_loop().loop, cases, target, alunet.__version__)
    if what == "predictions":
        raise InputError(f"Predictions cannot be exported as '{format}'.", f"Ask for {DICOM_SEG}.")
    with tempfile.TemporaryDirectory(dir=task.project.jobs.folder) as folder:
        if format == SEGMENTATION_ENDING[1:]:
            export_segmentations(task.project, cases, Path(folder), colors)
        else:
            outputs.export_labels(task.project, cases, Path(folder), f".{format}")
        _pack([file for file in Path(folder).iterdir() if file.is_file()], Path(folder), target)
    return target


def _pack(files: Sequence[Path], folder: Path, target: Path) -> None:
    """A zip file of files below a folder, whole or not at all."""
    with (
        atomic_path(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for file in sorted(files):
            archive.write(file, file.relative_to(folder).as_posix())


def _simulate(
    task: JobContext,
    strategies: Sequence[str] = ("random", "usimf"),
    rounds: int = 3,
    budget: int = 20,
    initial: int = 20,
    seeds: Sequence[int] = (0,),
    group: str | None = None,
) -> Path:
    from alunet.simulation.study import simulate

    setup, out = (
        task.annotation_loop().setup,
        task.project.jobs.folder / f"{task.job.id}-simulation",
    )
    data = _labelled_dataset(task.project, out.with_suffix(".data"))
    simulate(
        data,
        out,
        strategies,
        rounds,
        budget,
        initial,
        seeds=seeds,
        preset=setup.preset,
        epochs=setup.epochs,
        iterations=setup.iterations,
        device=setup.device,
        emit=task.emit,
        group=group,
    )
    target = task.result("simulation.zip")
    _pack(
        [file for file in out.iterdir() if file.suffix in (".csv", ".png", ".svg", ".json")],
        out,
        target,
    )
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(data, ignore_errors=True)
    return target


def _labelled_dataset(project: Project, folder: Path) -> Path:
    """The cases with a reference as a data set in nnU-Net's form: those whose references know all
    structures, or where there are none such all cases, without the structures that are unknown.
    """
    labelled = [case for case in project.cases.all() if case.label is not None]
    cases = [case for case in labelled if not case.silent] or labelled
    unknown = {number for case in cases for number in case.silent}
    labels = {name: number for name, number in project.labels.items() if number not in unknown}
    if not cases:
        raise InputError(
            "No case of the project has a reference label.", "A simulation needs them."
        )
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for case in cases:
        for channel, image in enumerate(case.images):
            target = folder / "imagesTr" / f"{case.name}_{channel:04d}{ending_of(image)}"
            shutil.copyfile(image, target)
        if case.label is not None:
            target = folder / "labelsTr" / f"{case.name}{ending_of(case.label)}"
            shutil.copyfile(case.label, target)
    about = {
        "channel_names": {str(number): name for number, name in enumerate(project.channels)},
        "labels": {**labels, "ignore": NOT_ANNOTATED},
        "numTraining": len(cases),
    }
    write_json(folder / "dataset.json", about)
    return folder


def _number(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e15


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200


def _colors(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _text(name) and isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}", color)
        for name, color in value.items()
    )


def _list(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and len(value) <= 10_000 and all(of(item) for item in value)
    )


_TASKS: dict[JobKind, Callable[..., Path | None]] = {
    JobKind.PLAN: _plan,
    JobKind.ROUND: _round,
    JobKind.PREDICT: _predict,
    JobKind.UNCERTAINTY: _uncertainty,
    JobKind.EXPORT: _export,
    JobKind.SIMULATE: _simulate,
    JobKind.IMPORT: imports.run,
}
_OPTIONS: dict[JobKind, dict[str, Callable[[Any], bool]]] = {
    JobKind.PLAN: {},
    JobKind.ROUND: {
        "strategy": _text,
        "budget": _number(1, 100_000),
        "ahead": _number(0, 100_000),
        "train_for": _seconds,
    },
    JobKind.PREDICT: {"cases": _list(_text)},
    JobKind.UNCERTAINTY: {
        "cases": _list(_text),
        "measure": _text,
        "samples": _list(_number(0, (1 << 31) - 1)),
    },
    JobKind.EXPORT: {
        "what": ("model", "labels", "predictions").__contains__,
        "format": (*FILE_FORMATS, DICOM_SEG, SEGMENTATION_ENDING[1:]).__contains__,
        "cases": _list(_text),
        "colors": _colors,
    },
    JobKind.SIMULATE: {
        "strategies": _list(_text),
        "rounds": _number(1, 100),
        "budget": _number(1, 100_000),
        "initial": _number(1, 100_000),
        "seeds": _list(_number(0, 1 << 31)),
        "group": _text,
    },
    JobKind.IMPORT: {
        "name": _text,
        "images": _list(_text),
        "role": _text,
        "label": lambda value: value is None or _text(value),
        "label_use": _text,
        "dicom": lambda value: value is None or isinstance(value, dict),
    },
}
