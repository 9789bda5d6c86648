"""How large the query set is: the elbow of the sorted uncertainties (docs/method.md, 2.8)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Elbow = Literal["chord", "kneedle"]


def query_size(
    uncertainty: npt.NDArray[np.floating[Any]], budget: int, elbow: Elbow = "chord"
) -> tuple[int, int]:
    """Size Q of the query set and the elbow's index.

    ``Q = min(max(elbow, 5 budget), n)``; where the curve has no elbow (fewer than 3 samples, all
    equal, Kneedle finds none) the index is 0, so that the floor 5 budget holds.

    Args:
        uncertainty: (n,) weighted uncertainties in any order, finite.
        budget: samples to be chosen.
        elbow: "chord", the point farthest below the chord of the sorted curve, or "kneedle",
            Satopaa et al. 2011 as in kneed 0.8.5 with sensitivity 10, which the published
            experiments used.
    """
    curve = np.sort(np.asarray(uncertainty, np.float64))[::-1]
    difference = difference_curve(curve)
    index = (
        0
        if difference is None
        else chord(difference)
        if elbow == "chord"
        else kneedle(difference) or 0
    )
    return min(max(index, 5 * budget), len(curve)), index


def difference_curve(curve: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """``D_i = 1 - Y_i - X_i`` of a descending curve, both axes scaled to 0..1; None where it is
    flat or too short.

    D is sqrt(2) times the point's distance below the chord from (0, 1) to (1, 0).
    """
    if len(curve) < 3 or curve[0] == curve[-1]:
        return None
    height = (curve - curve[-1]) / (curve[0] - curve[-1])
    difference: npt.NDArray[np.float64] = 1.0 - height - np.arange(len(curve)) / (len(curve) - 1)
    return difference


def chord(difference: npt.NDArray[np.float64]) -> int:
    """Index of the largest difference, the smallest one on ties."""
    return int(np.argmax(difference))


def kneedle(difference: npt.NDArray[np.float64], sensitivity: float = 10.0) -> int | None:
    """Kneedle's knee (convex, decreasing, offline) as kneed 0.8.5 finds it; None where there is
    none.

    Every later local maximum replaces the candidate, even a lower one, so that noise decides much
    of the result: it is here for comparison with the published runs, not for use.
    """
    padded = np.concatenate([difference[:1], difference, difference[-1:]])
    maximum = (difference >= padded[:-2]) & (difference >= padded[2:])
    minimum = (difference <= padded[:-2]) & (difference <= padded[2:])
    step = sensitivity / (len(difference) - 1)
    candidate, threshold = None, 0.0
    for i in range(int(np.argmax(maximum)), len(difference) - 1):
        if maximum[i]:
            candidate, threshold = i, difference[i] - step
        if minimum[i]:
            threshold = 0.0
        if difference[i + 1] < threshold:
            return candidate
    return None
