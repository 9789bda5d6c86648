"""What a person should know of single cases once they are planned, and what follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from alunet.imaging.reading import grid_of, read_labels
from alunet.pool import CaseGeometry, tile_starts
from alunet.project import Case
from alunet.schema import NOT_ANNOTATED, Emit, Event

THICK = 1.5
"""Voxels so many times as long along an axis in the plane as across it make that axis the thick
one."""

_NAMED = 20  # notes that are said while planning; the status has all
_PLANES = ("sagittal", "coronal", "axial")


def planning_notes(cases: Sequence[Case], patch: tuple[int, int]) -> dict[str, list[str]]:
    """Return what is unusual about planned cases, by name; those without anything are left out.

    Args:
        cases: all of the project.
        patch: rows and columns of a sample.
    """
    planned = [(case, case.geometry) for case in cases if case.geometry is not None]
    planes = {case.name: _plane(case, geometry) for case, geometry in planned}
    most = Counter(planes[case.name] for case, _ in planned if case.role == "pool").most_common(1)
    notes = {}
    for case, geometry in planned:
        usual = most[0][0] if most else planes[case.name]
        found = [_slices(case, geometry, planes[case.name], usual, patch), _hidden(case, geometry)]
        if any(found):
            notes[case.name] = [note for note in found if note]
    return notes


def say(notes: dict[str, list[str]], emit: Emit) -> None:
    """Say the first of the notes."""
    texts = [note for own in notes.values() for note in own]
    for text in texts[:_NAMED]:
        emit(Event("message", {"text": text}))
    if len(texts) > _NAMED:
        more = f"{len(texts) - _NAMED} more notes on cases are in the status of the project."
        emit(Event("message", {"text": more}))


def _plane(case: Case, geometry: CaseGeometry) -> str:
    """The anatomical plane that the slices of a case are nearest to."""
    across = np.array(grid_of(case.images[0]).direction).reshape(3, 3)[:, 2 - geometry.transpose[0]]
    return _PLANES[int(np.abs(across).argmax())]


def _slices(
    case: Case, geometry: CaseGeometry, plane: str, usual: str, patch: tuple[int, int]
) -> str:
    """Say which slices of a case will be asked for, where they are not like those of others."""
    across, *inside = geometry.transpose
    reasons = []
    if plane != usual:
        reasons.append(f"{usual} ones of most cases")
    thick = max(case.spacing[axis] for axis in inside if case.shape[axis] > 1 or axis == inside[0])
    if thick >= THICK * case.spacing[across] and case.shape[across] > 1:
        apart = f"{case.spacing[across]:.3g} mm across it"
        reasons.append(f"although its voxels are {thick:.3g} mm long in that plane, {apart}")
    if not reasons:
        return ""
    what = "asked for" if case.role == "pool" else "segmented"
    said = f"{case.name}: {plane} slices will be {what}, {', '.join(reasons)}."
    return f"{said} {_follows(case, geometry, patch)}"


def _follows(case: Case, geometry: CaseGeometry, patch: tuple[int, int]) -> str:
    """Say what the network gets of each slice."""
    kept = [high - low for low, high in geometry.crop[1:]]
    long = [case.spacing[axis] for axis in geometry.transpose[1:]]
    pixels = geometry.grid_shape[1:]
    tiles = int(np.prod([len(tile_starts(*sides)) for sides in zip(pixels, patch, strict=True)]))
    voxels = f"{kept[0]} x {kept[1]} voxels of {long[0]:.3g} x {long[1]:.3g} mm"
    became = "as they are" if list(pixels) == kept else f"as {pixels[0]} x {pixels[1]} pixels"
    parts = "one tile" if tiles == 1 else f"{tiles} tiles"
    return f"The network gets their {voxels} {became}, in {parts} a slice."


def _hidden(case: Case, geometry: CaseGeometry) -> str:
    """Say how much of a case's reference is beyond the part of the image that is not 0."""
    whole = tuple((0, case.shape[axis]) for axis in geometry.transpose)
    if case.label is None or geometry.crop == whole:
        return ""
    drawn = read_labels(case.label)
    drawn = (drawn > 0) & (drawn != NOT_ANNOTATED)
    total = int(np.count_nonzero(drawn))
    hidden = total - int(np.count_nonzero(drawn[geometry.raw_crop]))
    if not hidden:
        return ""
    where = "are beyond the part of the image that is not 0"
    follows = "no training sees them, and every prediction is background there."
    return f"{case.name}: {hidden:,} of {total:,} voxels of its reference {where}; {follows}"
