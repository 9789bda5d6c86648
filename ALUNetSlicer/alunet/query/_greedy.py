"""Compiled loops of `flqmi`. They trust their arguments; `flqmi` checks them.

Shapes: kernel (n, Q) float32 or float64; multiples (Q,) of its dtype; bonus (n,) float64, the
second term of each row.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = Any  # numba compiles one version for each dtype

_loop = numba.njit(nogil=True, cache=True)


# "reassoc" lets the compiler add in vector lanes; NaN and infinity keep their meaning.
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _gain(row: Array, best: Array, multiples: Array) -> float:
    """``sum_q m_q max(S_q - c_q, 0)``: differences in the kernel's precision, the sum in double."""
    total = 0.0
    for q in range(row.size):
        surplus = row[q] - best[q]
        if surplus > 0:
            total += np.float64(multiples[q]) * np.float64(surplus)
    return total


@_loop
def _cover(row: Array, best: Array) -> None:
    """``c_q = max(c_q, S_q)``."""
    for q in range(row.size):
        if row[q] > best[q]:
            best[q] = row[q]


@_loop
def _before(a: int, b: int, bounds: Array) -> bool:
    """Whether row a is to be taken before row b: larger bound, or the same and smaller position."""
    return bounds[a] > bounds[b] or (bounds[a] == bounds[b] and a < b)


@_loop
def _sift(heap: Array, size: int, at: int, bounds: Array) -> None:
    """Move the entry at `at` down to its place in the binary heap."""
    entry = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _before(heap[child + 1], heap[child], bounds):
            child += 1
        if not _before(heap[child], entry, bounds):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = entry


@_loop
def lazy(kernel: Array, multiples: Array, bonus: Array, budget: int) -> tuple[Array, Array]:
    """Exact greedy with stale upper bounds in a heap (Minoux 1978).

    There is one call of `_gain` only, hence one order of additions. Rounded addition is monotone,
    so an old gain bounds the new one to the last bit, and ties fall as in full sweeps.
    """
    n = kernel.shape[0]
    best = np.zeros(kernel.shape[1], kernel.dtype)
    bounds = np.empty(n)
    fresh = np.zeros(n, np.int64)  # number of picks made when the bound was computed
    heap = np.arange(n)
    rows = np.empty(budget, np.int64)
    gains = np.empty(budget)
    seen, size, picked = 0, n, 0
    while picked < budget:
        top = heap[0] if seen == n else seen
        if seen == n and fresh[top] == picked:
            rows[picked], gains[picked] = top, bounds[top]
            picked += 1
            _cover(kernel[top], best)
            size -= 1
            heap[0] = heap[size]
            _sift(heap, size, 0, bounds)
            continue
        bounds[top] = _gain(kernel[top], best, multiples) + bonus[top]
        fresh[top] = picked
        if seen == n:
            _sift(heap, size, 0, bounds)
            continue
        seen += 1
        if seen == n:
            for at in range(n // 2 - 1, -1, -1):
                _sift(heap, n, at, bounds)
    return rows, gains


@_loop
def naive(kernel: Array, multiples: Array, bonus: Array, budget: int) -> tuple[Array, Array]:
    """Exact greedy by full sweeps: the definition, for tests and measurements."""
    best = np.zeros(kernel.shape[1], kernel.dtype)
    left = np.ones(kernel.shape[0], np.bool_)
    rows = np.empty(budget, np.int64)
    gains = np.full(budget, -1.0)
    for step in range(budget):
        for row in range(kernel.shape[0]):
            if left[row]:
                gain = _gain(kernel[row], best, multiples) + bonus[row]
                if gain > gains[step]:
                    rows[step], gains[step] = row, gain
        left[rows[step]] = False
        _cover(kernel[rows[step]], best)
    return rows, gains


@_loop
def stochastic(kernel: Array, multiples: Array, bonus: Array, draws: Array) -> tuple[Array, Array]:
    """Greedy among random candidates; draws (budget, count) uniform numbers in [0, 1) choose
    them at each step.
    """
    budget, count = draws.shape
    best = np.zeros(kernel.shape[1], kernel.dtype)
    left = np.arange(kernel.shape[0])
    rows = np.empty(budget, np.int64)
    gains = np.full(budget, -1.0)
    for step in range(budget):
        size, place = left.size - step, 0
        for k in range(min(count, size)):
            # Fisher-Yates: the first k + 1 places are a random subset
            other = k + int(draws[step, k] * (size - k))
            left[k], left[other] = left[other], left[k]
            row = left[k]
            gain = _gain(kernel[row], best, multiples) + bonus[row]
            if gain > gains[step] or (gain == gains[step] and row < rows[step]):
                rows[step], gains[step], place = row, gain, k
        left[place] = left[size - 1]
        _cover(kernel[rows[step]], best)
    return rows, gains


# --- of a kernel that is not stored: the caller computes rows, these keep the order ---------------


@_loop
def heapify(bounds: Array) -> Array:
    """A binary heap of all rows, the one to be taken first at its top."""
    heap = np.arange(bounds.size)
    for at in range(heap.size // 2 - 1, -1, -1):
        _sift(heap, heap.size, at, bounds)
    return heap


@_loop
def take_stale(heap: Array, size: int, bounds: Array, fresh: Array, picked: int, out: Array) -> int:
    """Take rows off the top of the heap into `out` while their bounds are stale; returns how
    many.
    """
    count = 0
    while count < out.size and size > 0 and fresh[heap[0]] != picked:
        out[count] = heap[0]
        count += 1
        size -= 1
        heap[0] = heap[size]
        _sift(heap, size, 0, bounds)
    return count


@_loop
def put_back(heap: Array, size: int, bounds: Array, rows: Array) -> None:
    """Put rows into the heap, which grows by their number."""
    for row in rows:
        at = size
        size += 1
        while at > 0:
            parent = (at - 1) // 2
            if not _before(row, heap[parent], bounds):
                break
            heap[at] = heap[parent]
            at = parent
        heap[at] = row


@_loop
def gains_of(kernel: Array, places: Array, best: Array, multiples: Array, out: Array) -> None:
    """What the rows at `places` of a kernel would add to what is covered, without the bonus."""
    for at in range(places.size):
        out[at] = _gain(kernel[places[at]], best, multiples)


@_loop
def take_top(heap: Array, size: int, bounds: Array) -> None:
    """Take the top off a heap of `size` rows."""
    heap[0] = heap[size - 1]
    _sift(heap, size - 1, 0, bounds)


@_loop
def cover(row: Array, best: Array) -> None:
    """Count a row as taken."""
    _cover(row, best)
