"""Colors that can be told apart, also by people who see red and green alike.

Distances are ΔE*ab of 1976: the distance in CIELAB, of sRGB under D65.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator

import numpy as np

Color = tuple[float, float, float]
"""(r, g, b) from 0 to 1."""
APART = 20.0
"""Two structures of a project differ by so much at least: 2.3 can be seen side by side, and labels
are seen through half-transparent, in gray images.
"""
_SAFE = ("e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7", "882255", "44aa99")
"""Okabe and Ito's colors, and two of Tol's: all differ for people who see red and green alike."""
_GOLDEN = 0.618034
_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], float
)
_WHITE = _TO_XYZ.sum(axis=1)
_DEUTERANOPIA = np.array(
    [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]], float
)
"""Machado, Oliveira and Fernandes 2009, on linear sRGB."""


def difference(one: Color, other: Color) -> float:
    """Return the distance of two colors, ΔE*ab."""
    return float(np.linalg.norm(_lab(_linear(one)) - _lab(_linear(other))))


def apart_from(wanted: Color, given: Iterable[Color], number: int) -> Color:
    """Return a color that is at least `APART` from those given: the one that is wanted where it is,
    else a color that is safe for color-blind people, else any.

    Args:
        number: of the structure; the same one gets the same colors offered.
    """
    given = list(given)
    if least_difference(wanted, given) >= APART:
        return wanted
    for blind in (True, False):
        for color in _candidates(number):
            if least_difference(color, given) >= APART and not (
                blind and least_difference(color, given, True) < APART
            ):
                return color
    return max(_candidates(number), key=lambda color: least_difference(color, given))


def _candidates(number: int) -> Iterator[Color]:
    for color in _SAFE:
        red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (0, 2, 4))
        yield red, green, blue
    for step in range(60):
        hue = 0.05 + (number + step) * _GOLDEN % 1
        yield colorsys.hsv_to_rgb(hue % 1, (0.75, 0.45, 1.0)[step % 3], (0.95, 0.6)[step % 2])


def least_difference(color: Color, given: list[Color], blind: bool = False) -> float:
    """Distance to the nearest one; as people see it who have no cones for green."""
    see = (
        (lambda one: _lab(_DEUTERANOPIA @ _linear(one)))
        if blind
        else lambda one: _lab(_linear(one))
    )
    return min((float(np.linalg.norm(see(color) - see(other))) for other in given), default=np.inf)


def _linear(color: Color) -> np.ndarray:
    values = np.asarray(color, float)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    ratio = (_TO_XYZ @ np.clip(linear, 0, 1)) / _WHITE
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
