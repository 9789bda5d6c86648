"""The long steps of the loop, each a function that a child process runs: JSON in, JSON out.

The first two arguments name the framework (`alunet.model.interface`) and its folder; `emit` comes
from the runner (`alunet.model.child`).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alunet import query
from alunet.loop.evaluation import LabelledCase, evaluate
from alunet.loop.model_outputs import ComputedOutputs
from alunet.model.child import step
from alunet.model.hardware import memory_free
from alunet.model.interface import CaseFiles, TrainingData, load_framework
from alunet.model.settings import ScoringSettings, TrainingSettings
from alunet.pool import Pool
from alunet.schema import Emit
from alunet.storage.files import write_json

_LENGTH = "length.json"
_MEMORY = 0.75  # of what is free; the network's passes take some, too

Costs = dict[str, dict[str, float]]
"""Step -> seconds and peak_memory_mb."""


def prepare(
    framework: str,
    folder: str,
    plan_cases: list[dict[str, Any]],
    cases: list[dict[str, Any]],
    labels: dict[str, int],
    channels: list[str],
    dropout: float,
    emit: Emit,
    width: float = 1.0,
) -> dict[str, Any]:
    """Plan from `plan_cases`, if any, preprocess `cases`; returns geometries, patch and costs."""

    def files(entries: list[dict[str, Any]]) -> list[CaseFiles]:
        return [
            CaseFiles(entry["name"], tuple(Path(image) for image in entry["images"]))
            for entry in entries
        ]

    maker, place = load_framework(framework), Path(folder)
    costs: Costs = {}
    if plan_cases:
        with step("plan", emit, costs):
            maker.plan(place, files(plan_cases), labels, channels, dropout, width, emit)
    with step("preprocess", emit, costs):
        prepared = maker.preprocess(place, files(cases), emit)
    geometries = [geometry.to_json() for geometry in prepared.geometries]
    return {"geometries": geometries, "patch": list(prepared.patch), "costs": costs}


def choose_arithmetic(
    framework: str, folder: str | None, device: str, machine: str, emit: Emit
) -> dict[str, Any]:
    """Choose how `device` computes; returns `Arithmetic` in plain values."""
    place = None if folder is None else Path(folder)
    return load_framework(framework).choose_arithmetic(place, device, machine, emit).to_json()


def learn(
    framework: str,
    folder: str,
    labels: str,
    annotated: dict[str, dict[str, Any]],
    tests: list[dict[str, Any]],
    structures: dict[str, int],
    training: dict[str, Any],
    scoring: dict[str, Any],
    weights_in: str | None,
    weights_out: str,
    seed: int,
    device: str,
    threads: int,
    emit: Emit,
) -> dict[str, Any]:
    """Refresh the label maps of changed cases, train, and evaluate the test cases.

    Args:
        annotated: case -> {"file": its annotation, "slices": its annotated samples}.
        tests: [{"name", "label", "silent"}]; empty: no evaluation, and no best checkpoint.
        structures: name -> value in the label maps of the tests.
        weights_out: the model; it evaluates.
    """
    maker, place, model = load_framework(framework), Path(folder), Path(weights_out)
    maker.limit_threads(threads)
    settings = TrainingSettings(**training)
    costs: Costs = {}
    # the best checkpoint is chosen on references that know all structures, where there are any
    whole = [entry for entry in tests if not entry.get("silent")] or tests
    checked = whole if settings.checkpoint == "best" else []
    files = {case: Path(entry["file"]) for case, entry in annotated.items()}
    files |= {entry["name"]: Path(entry["label"]) for entry in checked}
    counts = {case: int(entry["slices"]) for case, entry in annotated.items()}
    data = TrainingData(place, Path(labels), counts, [entry["name"] for entry in checked])
    with step("refresh labels", emit, costs):
        maker.refresh_labels(place, data.labels, files)

    def measure() -> float:
        with step("time a step", emit, costs):
            return maker.seconds_per_step(data, settings, device)

    chosen = settings if settings.seconds is None else paced(settings, model.parent, measure)
    with step("train", emit, costs):
        start = Path(weights_in) if weights_in else None
        trained = maker.train(data, chosen, start, model, seed, device, emit)
    evaluation: dict[str, Any] = {"cases": {}, "metrics": {}}
    if tests:
        with step("evaluate", emit, costs):
            opened = maker.open(place, model, device, ScoringSettings(**scoring), emit)
            cases = [
                LabelledCase(entry["name"], Path(entry["label"]), tuple(entry.get("silent", ())))
                for entry in tests
            ]
            evaluation = evaluate(opened.segment, cases, structures, emit)
    length = {"epochs": chosen.epochs, "iterations": chosen.iterations}
    return {
        "training": {**trained.to_json(), **length},
        "evaluation": evaluation,
        "costs": costs,
        "device": maker.resolve_device(device),
    }


def written_length(folder: Path) -> dict[str, Any] | None:
    """Return the length that the training of a round was begun with; None where no time was asked
    for.

    It holds ``epochs``, ``iterations``, the ``seconds`` that were asked for, and the measured
    ``seconds_per_step``.
    """
    file = folder / _LENGTH
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def paced(
    settings: TrainingSettings, folder: Path, measure: Callable[[], float]
) -> TrainingSettings:
    """Return the training with the number of steps that is written in the round's folder.

    Where none is written for its time, a step is measured and the number that fits is written,
    before the training starts. What was begun at another length is removed: no schedule can go on
    from there.

    Args:
        measure: gives the seconds of a step.
    """
    written = written_length(folder)
    if written is None or written["seconds"] != settings.seconds:
        (folder / _LENGTH).unlink(missing_ok=True)
        shutil.rmtree(folder / "training", ignore_errors=True)
        seconds = measure()
        chosen = settings.paced(seconds)
        written = {"epochs": chosen.epochs, "iterations": chosen.iterations}
        write_json(
            folder / _LENGTH, {**written, "seconds": settings.seconds, "seconds_per_step": seconds}
        )
    return replace(
        settings, epochs=written["epochs"], iterations=written["iterations"], seconds=None
    )


def select(
    framework: str,
    folder: str,
    pool: str,
    question: str,
    strategy: str,
    budget: int,
    ahead: int,
    names: list[str],
    weights: str,
    scoring: dict[str, Any],
    cache: str,
    seed: int,
    round_number: int,
    device: str,
    threads: int,
    emit: Emit,
) -> dict[str, Any]:
    """Ask `strategy` for a batch; returns ids, gains, reasons, uncertainty, diagnostics and costs.

    Args:
        question: npz file of `write_question`.
        names: of the classes, background first.
    """
    maker = load_framework(framework)
    costs: Costs = {}
    maker.limit_threads(threads)
    with step("query", emit, costs):
        settings, streams = ScoringSettings(**scoring), query.Streams(seed, round_number)
        with np.load(question, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        model = maker.open(Path(folder), Path(weights), device, settings, emit)
        outputs = ComputedOutputs(
            model,
            Path(weights),
            Pool.load(Path(pool)),
            arrays["ids"],
            arrays["labelled"],
            streams,
            settings,
            Path(cache),
        )
        place = maker.resolve_device(device)
        batch = ask(strategy, arrays, budget, ahead, names, outputs, streams, place)
    return {**batch, "costs": costs}


def write_question(
    file: Path,
    ids: np.ndarray,
    labelled: np.ndarray,
    case: np.ndarray,
    class_voxels: np.ndarray,
    case_voxels: tuple[np.ndarray, np.ndarray],
    truth: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, np.ndarray]:
    """The arrays of a query, in memory and on disk for a child process: candidates, labelled
    samples, and so on.
    """
    arrays = {"ids": ids, "labelled": labelled, "case": case, "class_voxels": class_voxels}
    arrays |= {"case_voxels": case_voxels[0], "case_sizes": case_voxels[1]}
    if truth is not None:
        arrays |= {"truth_voxels": truth[0], "truth_border": truth[1]}
    with file.open("wb") as stream:
        np.savez(stream, **arrays)
    return arrays


def ask(
    strategy: str,
    arrays: dict[str, np.ndarray],
    budget: int,
    ahead: int,
    names: list[str],
    outputs: Any,
    streams: query.Streams,
    device: str,
) -> dict[str, Any]:
    """Let a strategy choose from in-memory arrays; the batch as plain values."""
    truth = (
        query.Truth(arrays["truth_voxels"], arrays["truth_border"])
        if "truth_voxels" in arrays
        else None
    )
    problem = query.Query(
        ids=arrays["ids"],
        budget=budget,
        case=arrays["case"],
        class_voxels=arrays["class_voxels"],
        outputs=outputs,
        streams=streams,
        truth=truth,
        labels=tuple(names),
        device=device,
        case_voxels=arrays["case_voxels"],
        case_sizes=arrays["case_sizes"],
        ahead=ahead,
        memory=int(_MEMORY * memory_free()),
    )
    batch = query.parse(strategy).select(problem)
    return {
        "ids": [int(i) for i in batch.ids],
        "gains": [float(gain) for gain in batch.gains],
        "reasons": list(batch.reasons),
        "uncertainty": None
        if batch.uncertainty is None
        else [_known(share) for share in batch.uncertainty],
        "diagnostics": batch.diagnostics,
    }


def _known(share: float) -> float | None:
    return None if math.isnan(share) else float(share)
