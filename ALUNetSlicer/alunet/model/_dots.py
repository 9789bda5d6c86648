"""The compiled loop of `alunet.model.gradients.gradients_at`, which checks its arguments."""

from __future__ import annotations

from typing import Any

import numba

Array = Any  # numba compiles one version for each dtype


# These three let the compiler add in vector lanes and fuse; NaN and infinity keep their meaning.
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def shifted_dots(
    delta: Array, inputs: Array, of_delta: Array, of_inputs: Array, shift: Array, out: Array
) -> None:
    """``out[b, c] = delta[b, of_delta[c]] . inputs[b, of_inputs[c]]``, the latter from `shift[c]`
    on.

    Args:
        delta: (m, Cout, n) maps, flat.
        inputs: (m, Cin, n + the largest shift) maps, flat.
        of_delta, of_inputs, shift: (d,) which maps, and how far the second is shifted.
        out: (m, d) to fill.
    """
    size = delta.shape[2]
    for sample in range(delta.shape[0]):
        for place in range(len(shift)):
            left = delta[sample, of_delta[place]]
            begin = shift[place]
            right = inputs[sample, of_inputs[place], begin : begin + size]
            total = left[0] * right[0]
            for position in range(1, size):
                total += left[position] * right[position]
            out[sample, place] = total
