"""One training: from scratch or from all weights of an earlier model, resumed where it was interrupted."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alunet.model.environment import CONFIGURATION, Folders, resolve_device
from alunet.model.labels import LabelFolder
from alunet.model.settings import TrainingSettings
from alunet.project.files import atomic_path, sha256_file
from alunet.schema import Emit


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
) -> dict[str, Any]:
    """Train on the annotated voxels of `cases` and write the final weights.

    Args:
        labels: folder of refreshed label maps (`LabelFolder`).
        cases: annotated case -> number of annotated slices, its weight in the sampling.
        weights_in: all weights to start from, heads included; None: from scratch.
        weights_out: file of the final weights, a state dict on the CPU. Written at the very end, whole.
        seed: of initialisation, sampling, augmentation and dropout.

    Returns:
        ``loss`` and ``dice`` (pseudo Dice on annotated slices) of the last epoch, ``parameters``, ``batch_size`` and
        ``sha256`` of the weights.
    """
    from alunet.model.trainer import SparseTrainer

    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    folders = Folders(nnunet)
    plans = json.loads(folders.plans.read_text(encoding="utf-8")) | {"continue_training": False}
    dataset = json.loads(folders.dataset_json.read_text(encoding="utf-8"))
    trainer = SparseTrainer(plans, CONFIGURATION, 0, dataset, torch.device(resolve_device(device)))
    trainer.configure(settings, LabelFolder(labels, nnunet), cases, emit)
    trainer.initialize()
    interrupted = Path(trainer.output_folder) / "checkpoint_latest.pth"
    if interrupted.is_file():
        trainer.load_checkpoint(str(interrupted))
    elif weights_in is not None:
        trainer.network.load_state_dict(torch.load(weights_in, map_location=trainer.device, weights_only=True))
    trainer.run_training()
    save_weights(trainer.network, weights_out)
    return {
        "loss": float(trainer.logger.get_value("train_losses", step=-1)),
        "dice": float(trainer.logger.get_value("mean_fg_dice", step=-1)),
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "batch_size": trainer.batch_size,
        "sha256": sha256_file(weights_out),
    }


def save_weights(network: torch.nn.Module, file: Path) -> None:
    """The state dict of `network` on the CPU; a kill leaves no half file, and equal weights give equal bytes."""
    content = io.BytesIO()  # torch writes the name of a file into it, and ours is a temporary one
    torch.save({name: tensor.cpu() for name, tensor in network.state_dict().items()}, content)
    with atomic_path(file) as part:
        part.write_bytes(content.getvalue())
