"""Class weights, weighted uncertainty and weighted draws (docs/method.md, 2.3, 2.6, 2.9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


def class_weights(voxels: Ints | Floats, smoothing: float | None = None) -> npt.NDArray[np.float64]:
    """Weights inverse to how much of each class is annotated; (K,), 0 for the background, sum 1.

    ``w_c = (1 / (N_c + k)) / sum_c' 1 / (N_c' + k)`` over the foreground, ``k = max(1, 0.01 mean
    N_c)``: a class of which nothing is annotated gets the largest weight, and a finite one. Equal
    weights where no class is annotated.

    Args:
        voxels: (K,) annotated voxels N_c of each class, background first.
        smoothing: k; None for the rule above, `usual_smoothing`.

    Raises:
        InputError: no foreground class; a negative count.
    """
    counts = np.asarray(voxels, np.float64)[1:]
    if len(counts) == 0:
        raise InputError(
            "There is no foreground class.", "Name at least one structure besides the background."
        )
    if np.any(counts < 0):
        raise InputError(f"Negative voxel counts: {voxels}.")
    k = usual_smoothing(voxels) if smoothing is None else smoothing
    if k == 0 and np.any(counts == 0):
        raise InputError("A class without annotated voxels needs smoothing above 0.")
    inverse = 1.0 / (counts + k)
    return np.concatenate([[0.0], inverse / inverse.sum()])


def usual_smoothing(voxels: Ints | Floats, share: float = 0.01) -> float:
    """``k = max(1, share * mean N_c)`` over the foreground; a share of 0 leaves the paper's 1 /
    N_c, give a voxel.
    """
    return max(1.0, share * float(np.asarray(voxels, np.float64)[1:].mean()))


def per_case_class_weights(voxels: Ints, sizes: Ints) -> npt.NDArray[np.float64]:
    """Weights inverse to the *shares* of the classes, added up over the cases, as in the published
    experiments' code.

    ``w_c = (1 / v_c) / sum_c' 1 / v_c'``, ``v_c = sum over annotated cases of N_c / voxels of the
    case``: a voxel of a small scan counts more than one of a large scan. A class of which nothing
    is annotated stops the published code (division by zero); here 1 % of the mean share is added to
    all classes then, and only then.

    Args:
        voxels: (M, K) annotated voxels of each class in each case, background first; M may be 0.
        sizes: (M,) voxels of each case, annotated or not.
    """
    shares = (np.asarray(voxels, np.float64) / np.asarray(sizes, np.float64)[:, None]).sum(axis=0)
    absent = bool(np.any(shares[1:] == 0))
    return class_weights(
        shares, smoothing=(0.01 * float(shares[1:].mean()) or 1.0) if absent else 0.0
    )


def weighted_uncertainty(per_class: Floats, weights: Floats) -> npt.NDArray[np.float64]:
    """``u(x) = sum_{c>=1} w_c u_c(x)``: (n, K) and (K,) to (n,)."""
    return np.asarray(per_class, np.float64) @ np.asarray(weights, np.float64)


def draw_with_replacement(
    weights: Floats, count: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """`count` independent draws of positions in proportion to `weights`; uniform where all are 0.

    Raises:
        InputError: a weight is negative or not finite.
    """
    return rng.choice(len(weights), count, replace=True, p=_probabilities(weights)).astype(np.int64)


def draw_without_replacement(
    weights: Floats, count: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """At most `count` different positions, drawn one after the other in proportion to `weights`;
    ascending.

    One exponential key per position, the smallest keys win: the same distribution as drawing in
    sequence, in one pass (Efraimidis and Spirakis 2006). Positions of weight 0 are never drawn:
    there may be fewer than `count` others, and all of them are the answer then. Uniform where all
    weights are 0.

    Raises:
        InputError: a weight is negative or not finite.
    """
    chance = _probabilities(weights)
    # for every position, so that one zero does not shift the others' luck
    keys = rng.exponential(size=len(chance))
    keys = np.divide(keys, chance, out=np.full(len(chance), np.inf), where=chance > 0)
    count = min(count, int(np.count_nonzero(np.isfinite(keys))))
    if count == 0:
        return np.zeros(0, np.int64)
    return np.sort(np.argpartition(keys, count - 1)[:count]).astype(np.int64)


def _probabilities(weights: Floats) -> npt.NDArray[np.float64]:
    values = np.asarray(weights, np.float64)
    if not np.isfinite(values).all() or np.any(values < 0):
        worst = values[~np.isfinite(values) | (values < 0)][0]
        raise InputError(f"Sampling weights must be finite and not negative; one is {worst}.")
    total = values.sum()
    return np.full(len(values), 1.0 / len(values)) if total == 0 else values / total
