"""What a training and a scoring pass can be told; plain values, recorded in the manifest of each round."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """One training run. The defaults are nnU-Net's, at the paper's length (300 epochs of 250 iterations)."""

    epochs: int = 300
    iterations: int = 250  # per epoch
    check_iterations: int = 5  # unaugmented batches of annotated slices for the pseudo Dice of an epoch
    batch_size: int | None = None  # None: the plan's
    optimizer: str = "sgd"  # "sgd": nnU-Net's, polynomial decay; "adamw": for short trainings, warm-up and cosine
    learning_rate: float = 1e-2
    weight_decay: float = 3e-5
    mirroring: bool = True  # as augmentation
    workers: int = 0  # processes that augment; 0: none. Another number draws other batches
    precision: str = "auto"  # "bf16": bfloat16 arithmetic on a CPU; "auto": nnU-Net's own choice


@dataclass(frozen=True)
class ScoringSettings:
    """How the pool is looked at (specification 2.1, 2.5, 2.12)."""

    passes: int = 10  # T, Monte Carlo dropout passes
    dropout: float = 0.1  # rate while scoring
    precision: str = "fp32"  # "bf16": scores and test predictions in bfloat16
    heads: str = "training"  # weights of the heads in the gradient loss: "training", "full-res" or "all-equal"
    batch_size: int | None = None  # None: from the size of a patch
    mirroring: bool = True  # test-time mirroring of the test predictions


MEASURES = ("variance", "std", "bald", "entropy")
"""Measures of `alunet.model.uncertainty`; named here, where reading them loads nothing heavy."""
