"""Similarity of candidates to query elements in blocks of bounded memory (docs/method.md, 2.7,
5.3).

A bottleneck gradient comes as the two factors of a 3x3 convolution's weight gradient (`Factors`).
Its inner products are computed in one of two exact ways, the one with fewer multiply-accumulates:

* "gram": ``<g_u, g_q> = sum_{l,l'} (delta_ul . delta_ql') sum_{s in 3x3} (a_{u,l+s} .
  a_{q,l'+s})``, that is ``L^2 (Cout + Cin + 9)`` a pair: Gram matrices over the L positions of the
  map, no gradient is ever formed;
* "direct": a matrix product of the explicit gradients, ``9 Cin Cout`` a pair, formed a few filters
  and one tap of the kernel at a time.

Negative similarities are clipped to 0: FLQMI counts them as 0 in any case (docs/method.md, 2.10).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from alunet.query.model_outputs import Factors

Precision = Literal["fp32", "bf16"]
Method = Literal["gram", "direct"]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
BLOCK_BYTES = 256 * 2**20
# One Gram matrix of a block of pairs on a CPU: 1 to 32 MiB are equally fast there (measured); other
# devices take larger blocks, since each costs a few kernel launches.
GRAM_BYTES = 8 * 2**20


@dataclass(frozen=True)
class _Side:
    """Factors on the device: delta (m, Cout, h, w) and zero-padded inputs (m, Cin, h + 2, w +
    2).
    """

    delta: Tensor
    padded: Tensor

    def __len__(self) -> int:
        return len(self.delta)

    def blocks(self, step: int) -> Iterator[tuple[slice, _Side]]:
        """Consecutive parts of at most `step` samples."""
        for start in range(0, len(self), max(1, step)):
            part = slice(start, start + max(1, step))
            yield part, _Side(self.delta[part], self.padded[part])

    def tap(self, y: int, x: int) -> Tensor:
        """(m, L, Cin): what tap (y, x) of the kernel, 0..2 each, sees at the L positions."""
        height, width = self.delta.shape[2:]
        return self.padded[:, :, y : y + height, x : x + width].flatten(2).transpose(1, 2)


def cheapest(query: Factors) -> Method:
    """The exact way with fewer multiply-accumulates a pair for this layer."""
    _, filters, height, width = query.delta.shape
    channels = query.inputs.shape[1]
    gram = (height * width) ** 2 * (filters + channels + 9)
    return "gram" if gram < 9 * filters * channels else "direct"


class CosineKernel:
    """Exact cosine similarity of 3x3-convolution gradients to those of Q query elements (USIM
    paper, eq. 2).

    Args:
        query: factors of the query elements.
        method: "gram" or "direct"; None takes the cheaper one.
        precision: of the matrix products between samples; "bf16" keeps two to three decimal digits.
        device: torch device.
        block_bytes: bound on temporary memory.
    """

    def __init__(
        self,
        query: Factors,
        *,
        method: Method | None = None,
        precision: Precision = "fp32",
        device: str = "cpu",
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.method: Method = method or cheapest(query)
        self._device, self._bytes = device, block_bytes
        self._query = self._side(query)
        self._dtype = self._query.delta.dtype
        self._product = torch.bfloat16 if precision == "bf16" else self._dtype
        with torch.inference_mode():
            self._length = self._lengths(self._query)

    def rows(self, candidates: Factors) -> Floats:
        """S of m candidates, (m, Q) in the factors' dtype, in 0..1; 0 where a gradient is 0.

        Raises:
            ValueError: the candidates' layer has another shape than the query's.
        """
        if candidates.delta.shape[1:] != self._query.delta.shape[1:]:
            raise ValueError(f"gradients of another layer: {candidates.delta.shape[1:]}")
        side = self._side(candidates)
        with torch.inference_mode():
            dots = self._direct(side) if self.method == "direct" else self._gram(side)
            scale = self._lengths(side)[:, None] * self._length
            cosine = torch.where(scale == 0, torch.zeros_like(dots), dots / scale)  # NaN stays NaN
            return cosine.clamp_min_(0).cpu().numpy()

    def _side(self, factors: Factors) -> _Side:
        """Each sample scaled to largest entries of 1: the cosine stays, products cannot
        underflow.
        """
        delta, inputs = (
            torch.as_tensor(part, device=self._device) for part in (factors.delta, factors.inputs)
        )
        return _Side(_unit(delta), functional.pad(_unit(inputs), (1, 1, 1, 1)))

    def _lengths(self, side: _Side) -> Tensor:
        """(m,) Euclidean lengths of the gradients, from each sample's own Gram matrices."""
        squares = side.delta.new_empty(len(side))
        positions = side.delta[0, 0].numel()
        step = self._bytes // (8 * positions * (positions + side.padded.shape[1]) * 4)
        for part, block in side.blocks(step):
            gram = block.delta.new_zeros(len(block), positions, positions)
            for seen in (block.tap(y, x) for y in range(3) for x in range(3)):
                gram.baddbmm_(seen, seen.transpose(1, 2))
            delta = block.delta.flatten(2)
            squares[part] = (gram * (delta.transpose(1, 2) @ delta)).sum((1, 2))
        return squares.clamp_min_(0).sqrt_()

    def _direct(self, side: _Side) -> Tensor:
        dots = side.delta.new_zeros(len(side), len(self._query))
        filters, channels = side.delta.shape[1], side.padded.shape[1]
        # bytes that one filter's gradient at one tap takes
        column = self._product.itemsize * channels
        groups = -(-filters * column * len(self._query) // (self._bytes // 2))
        share = -(-filters // groups)
        step = max(1, min(self._bytes // 4 // (column * share), len(side)))
        # Two buffers, used over and over: fresh memory of this size costs more than the products
        # that fill it.
        columns, rows = (
            self._query.delta.new_empty(count * share * channels, dtype=self._product)
            for count in (len(self._query), step)
        )
        for tap in ((y, x) for y in range(3) for x in range(3)):
            for first in range(0, filters, share):
                right = self._gradients(self._query, tap, first, share, columns).T
                for part, block in side.blocks(step):
                    left = self._gradients(block, tap, first, share, rows)
                    if self._product == dots.dtype:
                        dots[part].addmm_(left, right)
                    else:
                        dots[part] += left @ right
        return dots

    def _gradients(
        self, side: _Side, tap: tuple[int, int], first: int, share: int, buffer: Tensor
    ) -> Tensor:
        """(m, share * Cin) weight gradients of filters first .. first + share - 1 at one tap, in
        the buffer.
        """
        delta = side.delta[:, first : first + share].flatten(2).to(self._product)
        seen = side.tap(*tap).to(self._product)
        shape = (len(side), delta.shape[1], seen.shape[2])
        result = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
        return torch.bmm(delta, seen, out=result).flatten(1)

    def _gram(self, side: _Side) -> Tensor:
        dots = side.delta.new_zeros(len(side), len(self._query))
        height, width = side.delta.shape[2:]
        limit = min(self._bytes // 4, GRAM_BYTES) if self._device == "cpu" else self._bytes // 4
        pairs = max(1, limit // (4 * (height * width) ** 2))
        step = max(1, int(pairs**0.5))
        for columns, query in self._query.blocks(step):
            for part, block in side.blocks(step):
                shape = (len(block), height, width, len(query), height, width)
                inputs = self._positions(block.tap(1, 1), query.tap(1, 1)).view(shape)
                inputs = _diagonal_sum(_diagonal_sum(inputs, 1, 4), 2, 5)
                delta = self._positions(
                    block.delta.flatten(2).transpose(1, 2), query.delta.flatten(2).transpose(1, 2)
                )
                dots[part, columns] = (inputs * delta.view(shape)).sum((1, 2, 4, 5))
        return dots

    def _positions(self, left: Tensor, right: Tensor) -> Tensor:
        """Inner products of all positions (m, L, C) of one side with all of the other: (m L, Q
        L).
        """
        product = left.flatten(0, 1).to(self._product) @ right.flatten(0, 1).to(self._product).T
        return product.to(self._dtype)


class DotKernel:
    """Inner products of embeddings with those of Q query elements: one matrix product a block.

    Args:
        query: (Q, d) embeddings.
        scale: (d,) factors applied to the embeddings of both sides, or None.
        cosine: divide by both lengths.
        device: torch device.
    """

    def __init__(
        self,
        query: Floats,
        *,
        scale: Floats | None = None,
        cosine: bool = False,
        device: str = "cpu",
    ) -> None:
        self._device, self._cosine = device, cosine
        # In the embeddings' own precision: some devices have no double.
        self._scale = (
            None if scale is None else torch.as_tensor(scale.astype(query.dtype), device=device)
        )
        self._columns = self._embed(query).T.contiguous()

    def rows(self, embeddings: Floats) -> Floats:
        """S of m candidates, (m, Q); negative values clipped to 0."""
        with torch.inference_mode():
            similarity: Floats = (
                (self._embed(embeddings) @ self._columns).clamp_min_(0).cpu().numpy()
            )
            return similarity

    def _embed(self, values: Floats) -> Tensor:
        embedding = torch.as_tensor(values, device=self._device)
        if self._scale is not None:
            embedding = embedding * self._scale
        return functional.normalize(_unit(embedding), eps=1e-30) if self._cosine else embedding


def fisher_scale(fisher: Floats, damping: float) -> npt.NDArray[np.float64]:
    """Factors that make the plain product of d gradients ``(1 / d) g_u^T F^-1 g_q`` (USIM paper,
    eq. 4).

    Args:
        fisher: (d,) Fisher values of the chosen coordinates, > 0.
        damping: added to F, relative to its mean.
    """
    values = np.asarray(fisher, np.float64)
    scale: npt.NDArray[np.float64] = 1.0 / np.sqrt(len(values) * (values + damping * values.mean()))
    return scale


def gather(factors: Factors, coordinates: Ints) -> Floats:
    """(m, d) weight gradients at some coordinates of the flattened (Cout, Cin, 3, 3) weight, and
    no others.
    """
    delta = torch.as_tensor(factors.delta)
    padded = functional.pad(torch.as_tensor(factors.inputs), (1, 1, 1, 1))
    filters, channels, y, x = np.unravel_index(
        coordinates, (delta.shape[1], factors.inputs.shape[1], 3, 3)
    )
    result = delta.new_empty(len(delta), len(coordinates))
    side = _Side(delta, padded)
    with torch.inference_mode():
        for tap in range(9):
            here = np.flatnonzero(3 * y + x == tap)
            seen = side.tap(tap // 3, tap % 3).transpose(1, 2)
            for sample in range(len(delta)):  # one at a time: d L numbers each
                chosen = delta[sample].flatten(1)[filters[here]] * seen[sample][channels[here]]
                result[sample, here] = chosen.sum(1)
    return result.numpy()


def _unit(values: Tensor) -> Tensor:
    """Each sample divided by its largest absolute entry; zeros stay."""
    largest = values.abs().flatten(1).amax(1)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return values / largest.view(-1, *[1] * (values.ndim - 1))


def _diagonal_sum(values: Tensor, left: int, right: int) -> Tensor:
    """``out[i, j] = v[i-1, j-1] + v[i, j] + v[i+1, j+1]`` along two axes, zero outside."""
    count = values.shape[left] - 1
    total = values.clone()
    low = values.narrow(left, 0, count).narrow(right, 0, count)
    high = values.narrow(left, 1, count).narrow(right, 1, count)
    total.narrow(left, 1, count).narrow(right, 1, count).add_(low)
    total.narrow(left, 0, count).narrow(right, 0, count).add_(high)
    return total
