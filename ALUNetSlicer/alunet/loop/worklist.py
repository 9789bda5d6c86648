"""What a person is asked to annotate: the batch of a round, item by item, and the file that tools
can read.

``rounds/NNN/worklist.json`` is written anew whenever something about it changes; the database is
what counts.
"""

from __future__ import annotations

import colorsys
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.imaging.grids import Grid
from alunet.imaging.reading import grid_of
from alunet.loop.labelling import position
from alunet.loop.proposal_files import proposal_file
from alunet.loop.slices import has_tiles, slice_axis
from alunet.project import Case, Project
from alunet.schema import NOT_ANNOTATED, Status
from alunet.storage.files import write_json

AXES = "kji"
"""Names of the axes of an image's array; i runs fastest in the file."""


@dataclass(frozen=True)
class Item:
    """One suggested sample.

    Attributes:
        rank: place in the batch, from 1.
        sample: its id in the pool.
        case: its case.
        slice: its slice, a voxel index along the slice axis of the image file.
        box: voxel ranges [low, high) along the axes (k, j, i) of the image file.
        in_parts: whether the box is a part of its slice.
        reason: why it was chosen.
        gain: what the strategy says it is worth; None where it says nothing.
        ahead: whether it comes behind the batch, for people who go on while the model trains.
        proposal: the model's segmentation of the case, of a large one for suggested slices alone;
            None where there is no model.
    """

    rank: int
    sample: int
    case: str
    slice: int
    box: tuple[tuple[int, int], ...]
    in_parts: bool
    reason: str
    gain: float | None
    status: Status
    ahead: bool
    proposal: Path | None


@dataclass(frozen=True)
class RoundWorklist:
    """The batch of round `number`, in the order of the picks; `file` is its manifest."""

    number: int
    strategy: str
    budget: int
    items: tuple[Item, ...]
    file: Path

    def open(self) -> list[Item]:
        """Return the items that are neither done nor skipped."""
        return [item for item in self.items if item.status not in (Status.DONE, Status.SKIPPED)]


def make_worklist(
    project: Project, folder: Path, number: int, strategy: str, budget: int
) -> RoundWorklist:
    """The worklist of a round, as it stands now."""
    items = []
    for row in project.worklist.rows(number):
        proposal = proposal_file(folder, row.case)
        item = Item(
            rank=row.rank + 1,
            sample=row.sample,
            case=row.case,
            slice=row.slice,
            box=tuple((low, high) for low, high in row.box),
            in_parts=has_tiles(project, row.case),
            reason=row.reason,
            gain=row.gain,
            status=row.status,
            ahead=row.ahead,
            proposal=proposal if proposal.is_file() else None,
        )
        items.append(item)
    return RoundWorklist(number, strategy, budget, tuple(items), folder / "worklist.json")


def save_worklist(project: Project, worklist: RoundWorklist) -> RoundWorklist:
    """Write the manifest, whole or not at all."""
    # a round of chosen slices has no folder before
    worklist.file.parent.mkdir(parents=True, exist_ok=True)
    write_json(worklist.file, _manifest(project, worklist))
    return worklist


def _manifest(project: Project, worklist: RoundWorklist) -> dict[str, Any]:
    cases = {case.name: case for case in project.cases.all("pool")}
    grids = {name: _grid(project, cases[name]) for name in {item.case for item in worklist.items}}
    ordered = sorted(worklist.items, key=lambda item: (item.case, item.slice, item.sample))
    return {
        "project": project.name,
        "round": worklist.number,
        "strategy": worklist.strategy,
        "budget": worklist.budget,
        "conventions": "Files are relative to the project's folder. Voxel indices count from 0 "
        "along the axes i, j, k "
        "of the image file, ranges exclude their end. Positions are x, y, z in mm, LPS, of voxel "
        "centres.",
        "labels": _label_table(project),
        "items": [_entry(project, item, cases[item.case], grids[item.case]) for item in ordered],
    }


def _grid(project: Project, case: Case) -> Grid:
    """The grid of a case; raises NotAsStored where its image cannot be read."""
    try:
        return grid_of(case.images[0])
    except InputError:
        project.cases.files.check_case(case.name, case.images)  # says what is wrong with it
        raise


def _label_table(project: Project) -> list[dict[str, Any]]:
    colors = project.settings.colors
    table = [
        {"value": value, "name": name, "colour": colors.get(value) or _colour(value)}
        for name, value in sorted(project.labels.items(), key=lambda entry: entry[1])
    ]
    return [*table, {"value": NOT_ANNOTATED, "name": "not annotated", "colour": None}]


def _colour(value: int) -> str:
    """Colours that differ, the same for a value in every project: black, then hues a golden
    angle apart.
    """
    red, green, blue = colorsys.hsv_to_rgb((value - 1) * 0.381966 % 1, 0.75, 0.95 if value else 0.0)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _entry(project: Project, item: Item, case: Case, grid: Grid) -> dict[str, Any]:
    return {
        "rank": item.rank,
        "sample": item.sample,
        "case": item.case,
        "status": item.status.value,
        "ahead": item.ahead,
        "reason": item.reason,
        "gain": item.gain,
        "slice": {"axis": AXES[slice_axis(case)], "index": item.slice},
        "box": {axis: list(extent) for axis, extent in sorted(zip(AXES, item.box, strict=True))},
        "whole slice": not item.in_parts,
        "corners": _corners(item, slice_axis(case), grid),
        "images": [_relative(project, image) for image in case.images],
        "proposal": None if item.proposal is None else _relative(project, item.proposal),
        "annotation": _relative(project, project.annotations.file(item.case)),
    }


def _corners(item: Item, axis: int, grid: Grid) -> list[list[float]]:
    """The centres of the four corner voxels of the box, in the order of a walk around it."""
    first, second = (place for place in range(3) if place != axis)
    ends = [(low, high - 1) for low, high in item.box]
    walk = []
    for row, column in itertools.product((0, 1), (0, 1)):
        index = [low for low, _ in ends]
        index[first], index[second] = ends[first][row], ends[second][column ^ row]
        walk.append([round(value, 6) for value in position(grid, index)])
    return walk


def _relative(project: Project, path: Path) -> str:
    try:
        return Path(os.path.relpath(path, project.root)).as_posix()
    except ValueError:  # another drive on Windows
        return path.as_posix()
