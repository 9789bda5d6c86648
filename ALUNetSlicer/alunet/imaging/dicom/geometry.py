"""Frames as one volume: their order, their grid, and what keeps them from being one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.dicom.frames import Frame
from alunet.imaging.grids import Grid

MOST_OFF = 0.1
"""Slices may be off a regular grid by this part of a voxel: positions may have one decimal."""

MOST_DRIFT = 0.5
"""Slices may be beside the first by this part of a pixel: directions may have few digits."""

_SAME_PLACE = 0.01  # of a pixel: two images lie at one place
_SAME_DIRECTION = 1e-3
_SQUARE = 2e-3  # directions with three decimals are square

Array = npt.NDArray[np.float64]


def normal_of(orientation: Sequence[float], where: object) -> Array:
    """Return the unit vector along which slices follow each other: row x column direction.

    Raises:
        InputError: the two are no unit vectors at right angles.
    """
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1).max() > _SQUARE or abs(row @ column) > _SQUARE:
        text = ", ".join(f"{value:g}" for value in orientation)
        raise InputError(
            f"{where} has axes that are not at right angles (ImageOrientationPatient {text}).",
            "Correct it at the source.",
        )
    normal = np.cross(row, column)
    unit: Array = normal / np.linalg.norm(normal)
    return unit


def make_grid(
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    origin: Array,
    axes: Sequence[Array],
) -> Grid:
    """Make a grid from the unit vectors along x, y and z."""
    direction = np.stack(list(axes), axis=1).ravel()
    place = (float(origin[0]), float(origin[1]), float(origin[2]))
    return Grid(size, spacing, place, tuple(float(value) for value in direction))


def stack(frames: Sequence[Frame], where: str) -> tuple[tuple[Frame, ...], Grid]:
    """Sort frames along their normal and give the grid that they fill.

    Args:
        frames: at least one.
        where: what to call them in an error.

    Raises:
        InputError: they differ in size, direction or spacing, slices are missing or lie twice,
            their distances vary, or they are sheared (gantry tilt).
    """
    _check_alike(frames, where)
    first = frames[0]
    normal = normal_of(first.orientation, first.file)
    along = np.array([np.dot(frame.position, normal) for frame in frames])
    order = sorted(
        range(len(frames)),
        key=lambda index: (along[index], str(frames[index].file), frames[index].index),
    )
    frames = [frames[index] for index in order]
    along = along[order]
    step = _step(frames, along, where)
    _check_straight(frames, along, normal, where)
    axes = (np.array(first.orientation[:3]), np.array(first.orientation[3:]), normal)
    size = (*first.size, len(frames))
    return tuple(frames), make_grid(
        size, (*first.spacing, step), np.array(frames[0].position), axes
    )


def groups(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group frames by size, direction and spacing; the largest group comes first."""
    found: list[list[Frame]] = []
    for frame in frames:
        match = next((group for group in found if _alike(group[0], frame)), None)
        if match is None:
            found.append([frame])
        else:
            match.append(frame)
    return sorted(found, key=len, reverse=True)


def _alike(one: Frame, other: Frame) -> bool:
    return (
        one.size == other.size
        and bool(np.allclose(one.orientation, other.orientation, rtol=0, atol=_SAME_DIRECTION))
        and bool(np.allclose(one.spacing, other.spacing, rtol=_SAME_DIRECTION, atol=0))
    )


def _check_alike(frames: Sequence[Frame], where: str) -> None:
    found = groups(frames)
    if len(found) == 1:
        return
    most, odd = found[0][0], found[1][0]
    if most.size != odd.size:
        what = f"sizes ({_pair(most.size)} and {_pair(odd.size)})"
    elif np.allclose(most.orientation, odd.orientation, rtol=0, atol=_SAME_DIRECTION):
        what = f"pixel spacings ({_pair(most.spacing)} and {_pair(odd.spacing)} mm)"
    else:
        what = "directions, as a localizer does"
    counts = " and ".join(str(len(group)) for group in found[:4])
    raise InputError(
        f"{where} holds {len(frames)} images of {len(found)} {what}: {counts} images; "
        f"{odd.file.name} is one of the second kind.",
        "Choose another series, or move the files of one kind out of the folder.",
    )


def _pair(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _step(frames: Sequence[Frame], along: Array, where: str) -> float:
    """Return the spacing between slices; see `stack`."""
    if len(frames) == 1:
        return frames[0].thickness or frames[0].spacing[0]
    steps = np.diff(along)
    twice = int(np.argmin(steps))
    if steps[twice] <= _SAME_PLACE * min(frames[0].spacing):
        raise InputError(
            f"{where} has several images at one place, first {frames[twice].file.name} and "
            f"{frames[twice + 1].file.name} ({along[twice]:.2f} mm along the slices), "
            "and nothing tells them apart.",
            "Export one image for each place: one echo, b-value or time point.",
        )
    _check_steps(frames, along, steps, where)
    return float((along[-1] - along[0]) / (len(frames) - 1))


def _check_steps(frames: Sequence[Frame], along: Array, steps: Array, where: str) -> None:
    usual = float(np.median(steps[steps <= 1.5 * steps.min()]))
    jumps = np.round(steps / usual)
    gaps = np.flatnonzero(jumps > 1)
    if gaps.size and np.abs(steps / usual - jumps).max() <= 2 * MOST_OFF:
        gap, missing = int(gaps[0]), int((jumps - 1).sum())
        raise InputError(
            f"{where} lacks {missing} slice(s): between {along[gap]:.2f} and "
            f"{along[gap + 1]:.2f} mm along the slices, after {frames[gap].file.name} and "
            f"before {frames[gap + 1].file.name}; others are {usual:.4g} mm apart.",
            "Copy or export the whole series again.",
        )
    regular = along[0] + np.arange(len(along)) * (along[-1] - along[0]) / (len(along) - 1)
    if np.abs(along - regular).max() > MOST_OFF * usual:
        raise InputError(
            f"{where} has slices at distances from {steps.min():.4g} to {steps.max():.4g} mm.",
            "Resample it to one distance, or export the slices that have one.",
        )


def _check_straight(frames: Sequence[Frame], along: Array, normal: Array, where: str) -> None:
    places = np.array([frame.position for frame in frames])
    shifts = places - places[0] - np.outer(along - along[0], normal)
    even = np.outer(np.linspace(0, 1, len(frames)), shifts[-1])
    uneven = np.linalg.norm(shifts - even, axis=1)
    drift = float(np.linalg.norm(shifts[-1]))
    limit = MOST_DRIFT * min(frames[0].spacing)
    worst = int(np.argmax(uneven))
    if uneven[worst] > limit:
        raise InputError(
            f"{where} has slices that are shifted against each other, "
            f"{frames[worst].file.name} by {uneven[worst]:.2f} mm.",
            "Check the series at its source: it is no single stack.",
        )
    if drift > limit:
        angle = math.degrees(math.atan2(drift, along[-1] - along[0]))
        raise InputError(
            f"{where} was taken with a tilted gantry: "
            f"slices follow each other at {angle:.2g} degrees to their normal.",
            "Resample it to a grid with right angles, for instance with dcm2niix.",
        )


def by_place(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group frames that lie at one place along their normal, in the order of the places."""
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    along = [float(np.dot(frame.position, normal)) for frame in frames]
    limit = _SAME_PLACE * min(frames[0].spacing)
    found: list[list[Frame]] = []
    before = -np.inf
    for index in sorted(range(len(frames)), key=along.__getitem__):
        if along[index] - before > limit:
            found.append([])
        found[-1].append(frames[index])
        before = along[index]
    return found
