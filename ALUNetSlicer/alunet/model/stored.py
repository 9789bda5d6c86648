"""Tensors in files of a project: read as tensors and plain values, never as objects."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alunet.errors import InputError


def load_tensors(file: Path) -> Any:
    """Return what a file of torch holds, on the CPU: tensors and plain values alone.

    Raises:
        InputError: the file is missing or damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch compares no checksum
            bad = archive.testzip()
        if bad is None:
            return torch.load(file, map_location="cpu", weights_only=True)
        reason = f"its part {bad} is damaged"
    except FileNotFoundError:
        raise InputError(f"There are no weights {file}.", "Restore them, or train again.") from None
    except pickle.UnpicklingError:
        reason = "it holds more than weights"
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, zipfile.BadZipFile):
        reason = "it is damaged"
    raise InputError(
        f"{file} cannot be read: {reason}.", "Restore it from a backup, or train again."
    )


def plain(value: Any) -> Any:
    """Return a value with numbers and arrays of numpy as plain numbers and tensors."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return value.item() if isinstance(value, np.generic) else value


def checkpoint_of(trainer: Any) -> dict[str, Any]:
    """Return what nnU-Net's trainer keeps of itself in a checkpoint."""
    scaler = trainer.grad_scaler
    return {
        "network_weights": trainer.network.state_dict(),
        "optimizer_state": trainer.optimizer.state_dict(),
        "grad_scaler_state": None if scaler is None else scaler.state_dict(),
        "logging": trainer.logger.get_checkpoint(),
        "_best_ema": trainer._best_ema,
        "current_epoch": trainer.current_epoch + 1,
        "init_args": trainer.my_init_kwargs,
        "trainer_name": type(trainer).__name__,
        "inference_allowed_mirroring_axes": trainer.inference_allowed_mirroring_axes,
    }


def restore_trainer(trainer: Any, content: dict[str, Any]) -> None:
    """Go on from a checkpoint, as nnU-Net's trainer does from a file that it unpickles itself."""
    if not trainer.was_initialized:
        trainer.initialize()
    trainer.network.load_state_dict(content["network_weights"])
    trainer.optimizer.load_state_dict(content["optimizer_state"])
    if trainer.grad_scaler is not None and content["grad_scaler_state"] is not None:
        trainer.grad_scaler.load_state_dict(content["grad_scaler_state"])
    trainer.logger.load_checkpoint(content["logging"])
    trainer.my_init_kwargs = content["init_args"]
    trainer.current_epoch, trainer._best_ema = content["current_epoch"], content["_best_ema"]
    trainer.inference_allowed_mirroring_axes = content["inference_allowed_mirroring_axes"]


def random_states() -> dict[str, Any]:
    """Return the states of the random numbers of numpy and torch, plain values and tensors."""
    return {"numpy": plain(list(np.random.get_state())), "torch": torch.get_rng_state()}


def restore_random_states(states: dict[str, Any]) -> None:
    """Go on with the random numbers of these states."""
    kind, numbers, *rest = states["numpy"]
    np.random.set_state((kind, numbers.numpy(), *rest))
    torch.set_rng_state(states["torch"])
