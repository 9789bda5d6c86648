"""Greedy maximisation of the facility location variant of submodular mutual information (FLQMI).

    I(B; Q) = sum_{q in Q} m_q max_{b in B} S_bq + eta sum_{b in B} max_{q in Q} S_bq,

with S clipped at 0.

Kothawade et al. 2022 (PRISM), where it is called FLVMI; docs/method.md, 2.10. The sample that adds
most is taken again and again; among equals the one of the smallest position. S stays the array it
is: no copy, nothing of its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError

Optimizer = Literal["lazy", "naive", "stochastic", "published", "submodlib"]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
_PUBLISHED_EXACT = 1000  # candidates below which the published experiments' code was exact


@dataclass(frozen=True)
class Selection:
    """Positions (rows of S) in pick order and what each added."""

    rows: npt.NDArray[np.int64]
    gains: npt.NDArray[np.float64]


def maximise(
    similarity: Floats,
    budget: int,
    *,
    eta: float = 1.0,
    multiplicity: Ints | None = None,
    optimizer: Optimizer = "lazy",
    rng: np.random.Generator | None = None,
    epsilon: float = 0.01,
) -> Selection:
    """Choose `budget` rows of S; all of them, in greedy order, where there are no more.

    Args:
        similarity: (n, Q) float32 or float64, rows = candidates, columns = query elements; values
            below 0 count as 0.
        budget: rows to choose, >= 1.
        eta: weight of the second term, >= 0.
        multiplicity: (Q,) how often each query element was drawn; None for once each.
        optimizer: "lazy", exact greedy that re-evaluates only what can still win; "naive", the same
            by full sweeps; "stochastic", each pick among ``n / budget ln(1 / epsilon)`` random rows
            (Mirzasoleiman et al. 2015); "published", exact below 1000 candidates and stochastic
            from there on, as in the published experiments; "submodlib", that library's lazy greedy
            (its rule among equals is another).
        rng: the random stream of "stochastic".
        epsilon: precision of "stochastic", in (0, 1).

    Raises:
        InputError: S has NaN or infinity, eta not finite or negative, budget below 1, submodlib
            missing.
        ValueError: shapes that do not fit.
    """
    # here, because numba is slow to import and listing strategies needs none
    from alunet.query import _greedy

    kernel, multiples = _checked(similarity, budget, eta, multiplicity)
    bonus = eta * reach(kernel)
    budget = min(budget, len(kernel))
    if optimizer == "published":
        optimizer = "lazy" if len(kernel) < _PUBLISHED_EXACT else "stochastic"
    if optimizer == "submodlib" and budget < len(kernel):
        return _submodlib(kernel, budget, eta, multiples)
    if optimizer == "stochastic" and budget < len(kernel):
        if rng is None or not 0 < epsilon < 1:
            raise ValueError("stochastic greedy needs a random generator and 0 < epsilon < 1")
        count = min(max(int(len(kernel) / budget * np.log(1 / epsilon)), 1), len(kernel))
        return Selection(*_greedy.stochastic(kernel, multiples, bonus, rng.random((budget, count))))
    loop = _greedy.naive if optimizer == "naive" else _greedy.lazy
    return Selection(*loop(kernel, multiples, bonus, budget))


def objective(
    similarity: Floats, rows: Ints, eta: float = 1.0, multiplicity: Ints | None = None
) -> float:
    """The value I of the set `rows`, in double precision; 0 for the empty set."""
    if len(rows) == 0:
        return 0.0
    part = np.maximum(np.asarray(similarity)[rows].astype(np.float64), 0.0)
    multiples = (
        np.ones(part.shape[1]) if multiplicity is None else np.asarray(multiplicity, np.float64)
    )
    return float(part.max(axis=0) @ multiples + eta * part.max(axis=1).sum())


def _checked(
    similarity: Floats, budget: int, eta: float, multiplicity: Ints | None
) -> tuple[Floats, Floats]:
    kernel = np.ascontiguousarray(similarity)
    if kernel.ndim != 2 or 0 in kernel.shape or kernel.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"similarity must be a float matrix with rows and columns, not "
            f"{kernel.dtype} {kernel.shape}"
        )
    multiples = checked_multiples(budget, eta, multiplicity, kernel.shape[1])
    return kernel, multiples.astype(kernel.dtype)


def checked_multiples(
    budget: int, eta: float, multiplicity: Ints | None, columns: int
) -> npt.NDArray[np.float64]:
    """Return how often each column counts; raises as `maximise` where an argument is none."""
    if budget < 1:
        raise InputError(
            f"A budget of {budget} samples selects nothing.", "Give a budget of at least 1."
        )
    if not (np.isfinite(eta) and eta >= 0):
        raise InputError(f"eta is {eta}.", "Give a finite number that is not negative.")
    multiples = np.ones(columns) if multiplicity is None else np.asarray(multiplicity, np.float64)
    if multiples.shape != (columns,) or np.any(multiples < 0) or not np.isfinite(multiples).all():
        raise ValueError("one multiplicity, not negative, for each column of the similarity")
    return multiples


def reach(kernel: Floats, first: int = 0) -> npt.NDArray[np.float64]:
    """``r_x = max(0, max_q S_xq)``; NaN and infinity are seen in the same pass.

    Args:
        first: position of the first row among all candidates.
    """
    found = kernel.max(axis=1).astype(np.float64)
    bad = ~np.isfinite(found) & (found != -np.inf)
    if bad.any():
        raise InputError(
            f"The similarity of candidate {first + int(np.argmax(bad))} is not a finite number.",
            "The network has probably diverged: train the round again, with a lower learning rate.",
        )
    clipped: npt.NDArray[np.float64] = np.maximum(found, 0.0)
    return clipped


def _submodlib(kernel: Floats, budget: int, eta: float, multiples: Floats) -> Selection:
    try:
        from submodlib import FacilityLocationVariantMutualInformationFunction
    except ImportError as error:
        raise InputError(
            "The optimizer 'submodlib' is not installed here.",
            "Its package submodlib-py exists for Linux with Python 3.10 to 3.12 only. The default "
            "optimizer 'lazy' "
            "chooses the same samples.",
        ) from error
    if np.any(multiples != np.floor(multiples)):
        raise ValueError("submodlib knows whole multiplicities only")
    columns = np.repeat(np.maximum(kernel, 0), multiples.astype(np.int64), axis=1)
    function = FacilityLocationVariantMutualInformationFunction(
        n=len(columns), num_queries=columns.shape[1], query_sijs=columns, queryDiversityEta=eta
    )
    picks = function.maximize(
        budget=budget,
        optimizer="LazyGreedy",
        stopIfZeroGain=False,
        stopIfNegativeGain=False,
        verbose=False,
        show_progress=False,
    )
    return Selection(
        np.array([row for row, _ in picks], np.int64),
        np.array([gain for _, gain in picks], np.float64),
    )
