"""Compiled loops of `centres`. They trust their arguments; `centres` checks them.

Shapes: values (n, d) float32 or float64; other (m, d); nearest (n,) float64. Each row is added up
by the same code in the same order, in double, of differences: equal rows have a distance of exactly
0 and equal distances to a third.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = Any  # numba compiles one version for each dtype


# "reassoc" lets the compiler add in vector lanes; NaN and infinity keep their meaning.
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _square(left: Array, right: Array) -> float:
    total = 0.0
    for j in range(left.size):
        difference = np.float64(left[j]) - np.float64(right[j])
        total += difference * difference
    return total


@numba.njit(nogil=True, cache=True)
def squares_to(values: Array, centre: Array) -> Array:
    """(n,) squared distances of all rows to one centre (d,)."""
    result = np.empty(values.shape[0])
    for row in range(values.shape[0]):
        result[row] = _square(values[row], centre)
    return result


@numba.njit(nogil=True, cache=True)
def squares_between(values: Array, other: Array, which: Array) -> Array:
    """(n,) squared distance of row i to row ``which[i]`` of `other`."""
    result = np.empty(values.shape[0])
    for row in range(values.shape[0]):
        result[row] = _square(values[row], other[which[row]])
    return result


@numba.njit(nogil=True, cache=True)
def shorten(values: Array, centre: Array, nearest: Array) -> None:
    """``nearest_i = min(nearest_i, |values_i - centre|^2)``; rows at 0 or below are left alone,
    they cannot change.
    """
    for row in range(values.shape[0]):
        if nearest[row] > 0:
            square = _square(values[row], centre)
            if square < nearest[row]:
                nearest[row] = square
