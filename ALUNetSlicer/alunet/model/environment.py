"""Where nnU-Net finds its folders, how many threads it may use, and on which device it runs."""

from __future__ import annotations

from pathlib import Path

from alunet.errors import InputError
from alunet.model.hardware import allocator_variables

DATASET = "Dataset001_ALUNet"
CONFIGURATION = "2d"
PLANS = "nnUNetPlans"


class Folders:
    """nnU-Net's folders below `nnunet` (those of one project alone)."""

    def __init__(self, nnunet: Path) -> None:
        self.raw = nnunet / "nnUNet_raw" / DATASET
        self.preprocessed = nnunet / "nnUNet_preprocessed" / DATASET
        self.images = self.preprocessed / f"{PLANS}_{CONFIGURATION}"
        self.plans = self.preprocessed / f"{PLANS}.json"
        self.dataset_json = self.preprocessed / "dataset.json"
        self.fingerprint = self.preprocessed / "dataset_fingerprint.json"


def variables(nnunet: Path, results: Path, threads: int) -> dict[str, str]:
    """Environment of a child process.

    Args:
        nnunet: the folder that holds nnUNet_raw and nnUNet_preprocessed.
        results: where a training writes.
        threads: threads of the numeric libraries.
    """
    return {
        "nnUNet_raw": str(nnunet / "nnUNet_raw"),
        "nnUNet_preprocessed": str(nnunet / "nnUNet_preprocessed"),
        "nnUNet_results": str(results),
        # read by the planner, which fails with 0; our trainer has its own setting
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": str(max(1, threads)),
        # rounds are short: compiling anew each time costs more than it gives
        "nnUNet_compile": "f",
        "nnUNet_wandb_enabled": "0",
        "OMP_NUM_THREADS": str(threads),
        # on a busy machine, threads that spin for each other stop everything
        "OMP_WAIT_POLICY": "PASSIVE",
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "NUMBA_NUM_THREADS": str(threads),
        "MPLBACKEND": "Agg",
        **allocator_variables(),
    }


def resolve_device(device: str) -> str:
    """ "auto" becomes cuda, mps or cpu, whichever is there; raises InputError for a device that
    is not.
    """
    import torch

    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(device, False):
        here = ", ".join(name for name, there in available.items() if there)
        raise InputError(
            f"Device '{device}' is not available.", f"Available here: {here}; or use 'auto'."
        )
    return device
