"""The long steps of the loop, each a function that a child process runs (`alunet.model.child`): JSON in, JSON out."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alunet import query
from alunet.model.child import step
from alunet.model.environment import resolve_device
from alunet.model.settings import ScoringSettings, TrainingSettings
from alunet.pool import Pool
from alunet.schema import Emit
from alunet.storage.files import write_json

_LENGTH = "length.json"


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def prepare(
    nnunet: str,
    plan_cases: list[dict[str, Any]],
    cases: list[dict[str, Any]],
    labels: dict[str, int],
    channels: list[str],
    dropout: float,
    emit: Emit,
    width: float = 1.0,
) -> dict[str, Any]:
    """Plan from `plan_cases` unless a plan is there, preprocess `cases`; returns geometries, patch and costs."""
    from alunet.model.environment import Folders
    from alunet.model.plan import CaseFiles, load_plans, plan, preprocess

    def files(entries: list[dict[str, Any]]) -> list[CaseFiles]:
        return [CaseFiles(entry["name"], tuple(Path(image) for image in entry["images"])) for entry in entries]

    folders, costs = Folders(Path(nnunet)), {}
    if plan_cases:
        with step("plan", emit, costs):
            plan(Path(nnunet), files(plan_cases), labels, channels, dropout, emit, width)
    with step("preprocess", emit, costs):
        geometries = preprocess(Path(nnunet), files(cases), emit)
    _, configuration, _ = load_plans(folders)
    return {"geometries": geometries, "patch": [int(n) for n in configuration.patch_size], "costs": costs}


def learn(
    nnunet: str,
    labels: str,
    annotated: dict[str, dict[str, Any]],
    tests: list[dict[str, str]],
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
    """Refresh the label maps of changed cases, train (unless the weights are there), and evaluate the test cases.

    Args:
        annotated: case -> {"file": its annotation, "slices": its annotated samples}.
        tests: [{"name", "label"}]; empty: no evaluation, and no best checkpoint.
        structures: name -> value in the label maps of the tests.
        weights_out: the model; it evaluates.
    """
    from alunet.model.predict import LabelledCase, evaluate

    _limit_threads(threads)
    costs: dict[str, dict[str, float]] = {}
    with step("refresh labels", emit, costs):
        settings = TrainingSettings(**training)
        checked = tests if settings.checkpoint == "best" else []
        _refresh(Path(nnunet), Path(labels), {case: entry["file"] for case, entry in annotated.items()})
        _refresh(Path(nnunet), Path(labels), {entry["name"]: entry["label"] for entry in checked})
    counts = {case: int(entry["slices"]) for case, entry in annotated.items()}
    from alunet.model.train import seconds_per_step, train

    def measure() -> float:
        with step("time a step", emit, costs):
            return seconds_per_step(Path(nnunet), Path(labels), counts, settings, device)

    chosen = settings if settings.seconds is None else paced(settings, Path(weights_out).parent, measure)
    with step("train", emit, costs):
        start = Path(weights_in) if weights_in else None
        names = [entry["name"] for entry in checked]
        trained = train(
            Path(nnunet), Path(labels), counts, chosen, start, Path(weights_out), seed, device, emit, names
        )
    evaluation: dict[str, Any] = {"cases": {}, "metrics": {}}
    if tests:
        with step("evaluate", emit, costs):
            from alunet.model.network import Model

            model = Model(Path(nnunet), Path(weights_out), resolve_device(device))
            cases = [LabelledCase(entry["name"], Path(entry["label"])) for entry in tests]
            evaluation = evaluate(Path(nnunet), model, cases, structures, ScoringSettings(**scoring), emit)
    trained |= {"epochs": chosen.epochs, "iterations": chosen.iterations}
    return {"training": trained, "evaluation": evaluation, "costs": costs, "device": resolve_device(device)}


def written_length(folder: Path) -> dict[str, Any] | None:
    """Return the length that the training of a round was begun with; None where no time was asked for.

    It holds ``epochs``, ``iterations``, the ``seconds`` that were asked for, and the measured ``seconds_per_step``.
    """
    file = folder / _LENGTH
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def paced(settings: TrainingSettings, folder: Path, measure: Callable[[], float]) -> TrainingSettings:
    """Return the training with the number of steps that is written in the round's folder.

    Where none is written for its time, a step is measured and the number that fits is written, before the training
    starts. What was begun at another length is removed: no schedule can go on from there.

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
        write_json(folder / _LENGTH, {**written, "seconds": settings.seconds, "seconds_per_step": seconds})
    return replace(settings, epochs=written["epochs"], iterations=written["iterations"], seconds=None)


def _refresh(nnunet: Path, labels: Path, files: dict[str, str]) -> None:
    from alunet.imaging.reading import read_labels
    from alunet.model.labels import LabelFolder

    folder = LabelFolder(labels, nnunet)
    for case, file in files.items():
        source, target = Path(file), labels / f"{case}.npz"
        written = source.stat().st_mtime_ns
        if not target.is_file() or target.stat().st_mtime_ns != written:
            folder.refresh(case, read_labels(source))
            os.utime(target, ns=(written, written))  # somebody may annotate the case meanwhile: that is for next time


def select(
    nnunet: str,
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
    from alunet.loop.model_outputs import ComputedOutputs

    _limit_threads(threads)
    costs: dict[str, dict[str, float]] = {}
    with step("query", emit, costs):
        place = resolve_device(device)
        settings = ScoringSettings(**scoring)
        streams = query.Streams(seed, round_number)
        with np.load(question) as content:
            arrays = {name: content[name] for name in content.files}
        outputs = ComputedOutputs(
            Path(nnunet),
            Path(weights),
            Pool.load(Path(pool)),
            arrays["ids"],
            arrays["labelled"],
            streams,
            settings,
            place,
            Path(cache),
            emit,
        )
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
    """The arrays of a query, in memory and on disk for a child process: candidates, labelled samples, and so on."""
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
    truth = query.Truth(arrays["truth_voxels"], arrays["truth_border"]) if "truth_voxels" in arrays else None
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
    )
    batch = query.parse(strategy).select(problem)
    return {
        "ids": [int(i) for i in batch.ids],
        "gains": [float(gain) for gain in batch.gains],
        "reasons": list(batch.reasons),
        "uncertainty": None if batch.uncertainty is None else [_known(share) for share in batch.uncertainty],
        "diagnostics": batch.diagnostics,
    }


def _known(share: float) -> float | None:
    return None if math.isnan(share) else float(share)
