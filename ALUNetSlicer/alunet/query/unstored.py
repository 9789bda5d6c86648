"""FLQMI where the kernel is larger than the memory: its rows are computed when they are asked.

A row is one product of a candidate's embedding with those of the query elements. Lazy greedy asks
for every row once, and then again for those few alone that can still win; of these as many are kept
as fit.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.query.flqmi import Floats, Ints, Optimizer, Selection, checked_multiples, reach
from alunet.query.model_outputs import Factors

E = TypeVar("E", Factors, npt.NDArray[np.floating[Any]])
E_contra = TypeVar("E_contra", Factors, npt.NDArray[np.floating[Any]], contravariant=True)
BLOCK = 256
"""Rows that are computed at a time. Always as many: libraries add in another order for other
shapes, and a row has to be the same whenever it is computed."""
_FIRST_LOOK = 32  # rows that are looked at again after a pick; twice as many each time
KEPT_BYTES = 2 << 30


class Kernel(Protocol[E_contra]):
    """Similarity of embeddings to a fixed query set."""

    def rows(self, candidates: E_contra) -> Floats:
        """(m, Q) similarities."""
        ...


class Embeddings(Generic[E]):
    """The embeddings of all candidates, written in blocks, read in any order.

    Args:
        first: of some candidates; says what one looks like.
        count: of all.
    """

    def __init__(self, first: E, count: int) -> None:
        self._parts: list[Floats] = [_empty_like(part, count) for part in _parts(first)]
        self._factors = isinstance(first, Factors)

    def __len__(self) -> int:
        return len(self._parts[0])

    @property
    def nbytes(self) -> int:
        """Memory of all."""
        return sum(part.nbytes for part in self._parts)

    def write(self, rows: Ints, values: E) -> None:
        """Keep the embeddings of the candidates at `rows`."""
        for whole, own in zip(self._parts, _parts(values), strict=True):
            whole[rows] = own

    def read(self, rows: Ints) -> E:
        """Return those of the candidates at `rows`."""
        found = [part[rows] for part in self._parts]
        return Factors(*found) if self._factors else found[0]  # type: ignore[return-value]


def _parts(values: Factors | Floats) -> list[Floats]:
    return [values.delta, values.inputs] if isinstance(values, Factors) else [values]


def _empty_like(part: Floats, count: int) -> Floats:
    found: Floats = np.empty((count, *part.shape[1:]), part.dtype)
    return found


def embedding_bytes(values: Factors | Floats) -> int:
    """Return the memory of one embedding."""
    return sum(part.nbytes for part in _parts(values)) // len(_parts(values)[0])


class ComputedRows(Generic[E]):
    """A similarity matrix (n, Q) of which those rows are kept that will probably be asked again.

    Args:
        kernel: computes rows.
        embeddings: of the candidates.
        columns: Q.
        memory: bytes that embeddings and kept rows may take; two blocks of rows are kept at least.

    Attributes:
        bounds: (n,) the larger, the sooner a candidate is asked again; whoever asks sets them.
        kept: the rows that are kept, see `places`.
        computed: how many rows were computed.
    """

    def __init__(
        self,
        kernel: Kernel[E],
        embeddings: Embeddings[E],
        columns: int,
        memory: int | None = None,
    ) -> None:
        self._kernel: Kernel[E] = kernel
        self._embeddings: Embeddings[E] = embeddings
        self.shape = (len(embeddings), columns)
        self.bounds = np.full(len(embeddings), np.inf)
        room = KEPT_BYTES if memory is None else min(KEPT_BYTES, memory - embeddings.nbytes)
        size = max(2 * BLOCK, min(room // (4 * columns), len(embeddings)))
        self.kept = np.empty((size, columns), np.float32)
        self._place = np.full(len(embeddings), -1)  # of each candidate among the kept rows
        self._owner = np.full(size, -1)
        self._free = np.arange(size)
        self._least = -np.inf  # rows of smaller bounds were thrown out
        self.computed = 0

    def __len__(self) -> int:
        return self.shape[0]

    def described(self) -> str:
        """Say what was done, for the record of a round."""
        stored, own = 4 * self.shape[0] * self.shape[1], self._embeddings.nbytes
        return (
            f"not stored ({stored >> 20} MiB): {self.computed} rows computed for "
            f"{self.shape[0]} candidates from embeddings of {own >> 20} MiB"
        )

    def block(self, rows: Ints) -> npt.NDArray[np.float32]:
        """Compute at most `BLOCK` rows."""
        filled = np.resize(rows, BLOCK)  # the first ones again, until there are as many
        self.computed += len(rows)
        found = self._kernel.rows(self._embeddings.read(filled))[: len(rows)]
        return np.ascontiguousarray(found, np.float32)

    def places(self, rows: Ints) -> npt.NDArray[np.int64]:
        """Return where at most `BLOCK` rows are in `kept`, computing those that are not."""
        missing = rows[self._place[rows] < 0]
        if len(missing):
            self._keep(missing, self.block(missing), asked=rows)
        return self._place[rows]

    def offer(self, rows: Ints, block: Floats) -> None:
        """Keep those of at most `BLOCK` computed rows that are likely to be asked again."""
        likely = np.flatnonzero(self.bounds[rows] > self._least)
        self._keep(rows[likely], block[likely], asked=rows[likely])

    def _keep(self, rows: Ints, block: Floats, asked: Ints) -> None:
        if len(self._free) < len(rows):
            self._make_room(asked)
        places, self._free = self._free[: len(rows)], self._free[len(rows) :]
        self.kept[places] = block
        self._owner[places], self._place[rows] = rows, places

    def _make_room(self, asked: Ints) -> None:
        """Throw out half of the kept rows, those of the smallest bounds."""
        used = np.flatnonzero(self._owner >= 0)
        values = self.bounds[self._owner[used]]
        values[np.isin(self._owner[used], asked)] = np.inf
        half = len(self.kept) // 2
        gone = used[np.argsort(values, kind="stable")[: max(0, half - len(self._free))]]
        self._least = max(self._least, float(self.bounds[self._owner[gone]].max()))
        self._place[self._owner[gone]], self._owner[gone] = -1, -1
        self._free = np.concatenate([self._free, gone])


def fits(
    shape: tuple[int, int], embedded: Factors | Floats, memory: int | None, optimizer: Optimizer
) -> bool:
    """Whether a similarity matrix fits into the memory; false where the embeddings do instead.

    Args:
        shape: (n, Q).
        embedded: embeddings of some candidates.
        memory: bytes; None for any number.

    Raises:
        InputError: neither does, or the optimizer is none that can compute rows when it asks them.
    """
    stored, embeddings = 4 * shape[0] * shape[1], shape[0] * embedding_bytes(embedded)
    if memory is None or stored <= memory:
        return True
    if optimizer in ("lazy", "naive") and embeddings + 8 * BLOCK * shape[1] <= memory:
        return False
    raise InputError(
        f"Comparing {shape[0]} samples with {shape[1]} takes {stored >> 20} MiB, or "
        f"{embeddings >> 20} MiB for their gradients alone; {memory >> 20} MiB may be used.",
        "Let fewer samples be candidates, or end other programs.",
    )


def maximise_computed(
    similarity: ComputedRows[E], budget: int, *, eta: float, multiplicity: Ints | None = None
) -> Selection:
    """Choose what `flqmi.maximise` chooses with the optimizer "lazy", but for rounding.

    Args, Raises: as there.
    """
    from alunet.query import _greedy  # numba is slow to import

    n, columns = similarity.shape
    multiples = checked_multiples(budget, eta, multiplicity, columns).astype(np.float32)
    best = np.zeros(columns, np.float32)
    bonus = _first_look(similarity, best, multiples, eta)
    bounds, fresh = similarity.bounds, np.zeros(n, np.int64)
    heap, size = _greedy.heapify(bounds), n
    budget = min(budget, n)
    rows, gains = np.empty(budget, np.int64), np.empty(budget)
    picked, looks = 0, _FIRST_LOOK
    while picked < budget:
        out = np.empty(looks, np.int64)
        stale = out[: _greedy.take_stale(heap, size, bounds, fresh, picked, out)]
        if not len(stale):
            top = heap[0]
            rows[picked], gains[picked] = top, bounds[top]
            _greedy.cover(similarity.kept[similarity.places(heap[:1])[0]], best)
            _greedy.take_top(heap, size, bounds)
            bounds[top] = -np.inf  # it is never asked again
            picked, looks, size = picked + 1, _FIRST_LOOK, size - 1
            continue
        found = np.empty(len(stale))
        _greedy.gains_of(similarity.kept, similarity.places(stale), best, multiples, found)
        bounds[stale], fresh[stale] = found + bonus[stale], picked
        _greedy.put_back(heap, size - len(stale), bounds, stale)
        looks = min(2 * looks, BLOCK)
    return Selection(rows, gains)


def _first_look(
    similarity: ComputedRows[E], best: Floats, multiples: Floats, eta: float
) -> npt.NDArray[np.float64]:
    """Set the bounds to what each candidate would add first; returns its second term."""
    from alunet.query import _greedy

    n = len(similarity)
    bonus, places = np.empty(n), np.arange(BLOCK)
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n))
        block, found = similarity.block(rows), np.empty(len(rows))
        bonus[rows] = eta * reach(block, start)
        _greedy.gains_of(block, places[: len(rows)], best, multiples, found)
        similarity.bounds[rows] = found + bonus[rows]
        similarity.offer(rows, block)
    return bonus
