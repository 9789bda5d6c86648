"""One training: from scratch or from all weights of an earlier model, resumed where it was
interrupted.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from alunet.errors import InputError
from alunet.model.classes import fit, known_numbers, note_numbers, numbers_of
from alunet.model.environment import CONFIGURATION, Folders, resolve_device
from alunet.model.labels import LabelFolder
from alunet.model.plan import read_plans
from alunet.model.settings import TrainingSettings
from alunet.model.stored import load_tensors
from alunet.schema import Emit, Event, ignore_events
from alunet.storage.files import atomic_path, sha256_file

if TYPE_CHECKING:
    from alunet.model.trainer import SparseTrainer


def train(
    nnunet: Path,
    labels: Path,
    cases: dict[str, int],
    settings: TrainingSettings,
    weights_in: Path | None,
    weights_out: Path,
    seed: int,
    device: str,
    emit: Emit,
    tests: Sequence[str] = (),
) -> dict[str, Any]:
    """Train on the annotated voxels of `cases` and write the weights.

    Args:
        labels: folder of refreshed label maps (`LabelFolder`).
        cases: annotated case -> number of annotated slices, its weight in the sampling.
        weights_in: weights to start from, heads included unless the settings reset them; None: from
            scratch.
        weights_out: file of the model, a state dict on the CPU. Written at the very end, whole. The
            final weights, or, with ``checkpoint="best"``, the best; the final ones are in
            `settings.final_weights(weights_out)` then.
        seed: of initialisation, sampling, augmentation and dropout.
        tests: names of the test cases, whose label maps are in `labels` where the best checkpoint
            is wanted.

    Returns:
        ``loss``, ``dice`` and ``class_dice`` (of each structure, None where none was seen) of the
        last epoch (pseudo Dice on annotated slices; of the test cases, where the best checkpoint is
        wanted), ``parameters``, ``batch_size`` and ``sha256`` of the model; with the best
        checkpoint also its ``best_epoch`` and ``final_sha256``.
    """
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    trainer = _trainer(nnunet, labels, cases, settings, device, emit, tests)
    numbers = numbers_of(trainer.dataset_json)
    interrupted = Path(trainer.output_folder) / "checkpoint_latest.pth"
    if interrupted.is_file() and (content := _checkpoint(interrupted, emit)) is not None:
        trainer.load_checkpoint(content)
    elif weights_in is not None:
        text = load_weights(trainer.network, weights_in, settings.heads, numbers)
        if text:
            emit(Event("message", {"text": text}))
    note_numbers(weights_out, numbers)
    trainer.run_training()
    by_class = trainer.logger.get_value("dice_per_class_or_region", step=-1)
    return {
        "loss": float(trainer.logger.get_value("train_losses", step=-1)),
        "dice": float(trainer.logger.get_value("mean_fg_dice", step=-1)),
        "class_dice": [None if np.isnan(dice) else float(dice) for dice in by_class],
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "batch_size": trainer.batch_size,
        **_save(trainer, weights_out),
    }


def _checkpoint(file: Path, emit: Emit) -> dict[str, Any] | None:
    """What an interrupted training left; None where that is damaged, or holds more than numbers, as
    that of earlier versions did: the training begins anew.
    """
    try:
        found: dict[str, Any] = load_tensors(file)
        return found
    except InputError as error:
        text = f"The interrupted training begins anew: {error.message}"
        emit(Event("message", {"text": text}))
        return None


def _trainer(
    nnunet: Path,
    labels: Path,
    cases: dict[str, int],
    settings: TrainingSettings,
    device: str,
    emit: Emit,
    tests: Sequence[str] = (),
) -> SparseTrainer:
    from alunet.model.trainer import SparseTrainer

    folders = Folders(nnunet)
    plans = read_plans(folders) | {"continue_training": False}
    dataset = json.loads(folders.dataset_json.read_text(encoding="utf-8"))
    trainer = SparseTrainer(plans, CONFIGURATION, 0, dataset, torch.device(resolve_device(device)))
    trainer.configure(settings, LabelFolder(labels, nnunet), cases, emit, tests)
    trainer.initialize()
    return trainer


def seconds_per_step(
    nnunet: Path,
    labels: Path,
    cases: dict[str, int],
    settings: TrainingSettings,
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the mean time of a step of such a training, batches included, from real steps on
    throw-away weights.

    Args:
        clock: `time.process_time` counts CPU seconds.
    """
    growth = settings.growth
    shares = {0.0: 1 - growth, 1.0: growth}  # steps on whole patches, and on small ones
    total = 0.0
    for small, share in shares.items():
        if share:
            trainer = _trainer(
                nnunet, labels, cases, replace(settings, growth=small), device, ignore_events
            )
            trainer.on_train_start()
            trainer.on_train_epoch_start()
            try:
                total += share * trainer.time_steps(clock)
            finally:
                trainer.end_batches()
    return total


def load_weights(
    network: torch.nn.Module,
    file: Path,
    heads: str = "keep",
    numbers: Sequence[int] | None = None,
) -> str:
    """Load all weights of `file` into `network`; with heads="reset" all but those of the
    segmentation heads.

    nnU-Net's loader of pretrained weights passes over every tensor of ``.seg_layers.`` in the same
    way.

    Args:
        numbers: the project's number of each output of the network; None: those of the weights.
            Outputs of structures that the weights do not know stay as they are.

    Returns:
        What a person should know of that; empty where all weights fit.
    """
    weights = load_tensors(file)
    known = known_numbers(file, weights)
    wanted = known if numbers is None else numbers
    weights = dict(fit(weights, known, wanted, network.state_dict()))
    if heads == "reset":
        fresh = {
            name: value for name, value in network.state_dict().items() if ".seg_layers." in name
        }
        weights = {**weights, **fresh}
    network.load_state_dict(weights)
    new, old = len(set(wanted) - set(known)), len(set(known) - set(wanted))
    if heads == "reset" or not new + old:
        return ""
    return (
        f"The structures changed since the last training: it starts from all weights but the "
        f"outputs of {new} new structures, and without those of {old} removed ones."
    )


def _save(trainer: SparseTrainer, model: Path) -> dict[str, Any]:
    final = trainer.settings.final_weights(model)
    save_weights(trainer.network.state_dict(), final)
    if final == model:
        return {"sha256": sha256_file(model)}
    save_weights(trainer.best["weights"], model)
    found = {"best_epoch": trainer.best["epoch"], "final_sha256": sha256_file(final)}
    return {"sha256": sha256_file(model), **found}


def save_weights(weights: Mapping[str, torch.Tensor], file: Path) -> None:
    """A state dict, on the CPU; a kill leaves no half file, and equal weights give equal bytes."""
    content = io.BytesIO()  # torch writes the name of a file into it, and ours is a temporary one
    torch.save({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, content)
    with atomic_path(file) as part:
        part.write_bytes(content.getvalue())
