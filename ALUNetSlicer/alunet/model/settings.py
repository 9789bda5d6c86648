"""What a training and a scoring pass can be told; plain values, recorded in the manifest of each
round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from alunet.errors import InputError

# at most, of a training by time: each epoch ends with a Dice and a checkpoint
_EPOCH_STEPS, _EPOCH_SECONDS = 50, 30.0


@dataclass(frozen=True)
class TrainingSettings:
    """One training run. The defaults are nnU-Net's, at the paper's length (300 epochs of 250
    iterations).

    Attributes:
        heads: what a training that goes on from earlier weights does with the segmentation heads:
            "keep", or "reset" to random weights, as nnU-Net's loader of pretrained weights does.
        checkpoint: which weights look at the pool and at the test cases: the "final" ones, or the
            "best", those of the epoch with the largest moving average of the pseudo Dice *on the
            test cases*. The latter selects the model on the test set, so its Dice is too good;
            training goes on from the final weights either way.
        seconds: train for about so long instead: `paced` turns it into epochs and iterations by a
            measured step.
        memory_share: of the batch; below 1 no processes augment. For computers with little memory.
        cases: annotated cases are drawn in proportion to their annotated "slices", or all alike,
            "uniform".
    """

    epochs: int = 300
    iterations: int = 250  # per epoch
    seconds: float | None = None
    # unaugmented batches of annotated slices for the pseudo Dice of an epoch
    check_iterations: int = 5
    batch_size: int | None = None  # None: the plan's
    # a batch of large patches has fewer, two at least; None: no limit
    batch_pixels: int | None = None
    optimizer: str = "sgd"  # "sgd": nnU-Net's; "adamw": for short trainings
    learning_rate: float = 1e-2  # the peak
    schedule: str = "poly"  # shape of its fall to 0: "poly", nnU-Net's, "cosine" or "linear"
    warmup: float = 0.0  # share of the steps in which it rises
    weight_decay: float = 3e-5
    # window of the moving average of the weights, as a share of the steps; 0: the last weights
    average: float = 0.0
    foreground: float = 0.33  # share of a batch that is centered on a structure
    growth: float = 0.0  # share of the steps, the first ones, on patches with half the sides
    # degrees, as augmentation; None: nnU-Net's, 15 or 180 by the patch's shape
    rotation: float | None = None
    mirroring: bool = True  # as augmentation
    workers: int = 0  # processes that augment; 0: none. Another number draws other batches
    # "fp32" or "bf16" on a CPU; "auto": what `alunet.model.arithmetic` chose for the device
    precision: str = "auto"
    memory_format: str = "contiguous"  # or "channels_last"
    heads: str = "keep"
    checkpoint: str = "final"
    cases: str = "slices"
    memory_share: float = 1.0

    def __post_init__(self) -> None:
        choices = {
            "heads": ("keep", "reset"),
            "checkpoint": ("final", "best"),
            "cases": ("slices", "uniform"),
            "schedule": ("poly", "cosine", "linear"),
            "optimizer": ("sgd", "adamw"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} of a training is {getattr(self, name)!r}.",
                    f"Choose {' or '.join(known)}.",
                )

    def paced(self, seconds_per_step: float) -> TrainingSettings:
        """Return the same training with as many steps as fit into its `seconds`, at least one."""
        steps = max(1, round((self.seconds or 0) / seconds_per_step))
        iterations = max(1, min(steps, _EPOCH_STEPS, round(_EPOCH_SECONDS / seconds_per_step)))
        return replace(
            self, epochs=max(1, round(steps / iterations)), iterations=iterations, seconds=None
        )

    def final_weights(self, model: Path) -> Path:
        """Where the final weights lie, from which training goes on: the model itself, or beside
        the best checkpoint.
        """
        return model if self.checkpoint == "final" else model.with_name(f"final_{model.name}")


@dataclass(frozen=True)
class ScoringSettings:
    """How the pool is looked at (docs/method.md, 2.1 and 2.5)."""

    passes: int = 10  # T, Monte Carlo dropout passes
    dropout: float = 0.1  # rate while scoring
    # of scores and test predictions: "fp32", "bf16", or "auto" as in a training
    precision: str = "fp32"
    memory_format: str = "contiguous"  # or "channels_last"
    batch_size: int | None = None  # None: from the size of a patch
    mirroring: bool = True  # test-time mirroring of the test predictions
    engine: str = "torch"  # of passes without dropout; or "openvino", where it is installed
    memory_share: float = 1.0  # of the tiles and slices at a time; what is computed is the same


MEASURES = ("variance", "std", "bald", "entropy")
"""Measures of `alunet.model.uncertainty`; named here, where reading them loads nothing heavy."""
