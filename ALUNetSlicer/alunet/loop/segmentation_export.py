"""Annotations as segmentations of 3D Slicer, with the structures' names and colors."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alunet.imaging.writing import WrittenSegment, write_segments
from alunet.loop.outputs import all_or_none, annotated_cases
from alunet.project import Project
from alunet.schema import NOT_ANNOTATED, SEGMENTATION_ENDING

_GOLDEN = 0.618034


def export_segmentations(
    project: Project, names: Sequence[str], folder: Path, colors: Mapping[str, str] | None = None
) -> list[Path]:
    """Write what is annotated, each case into ``folder/NAME.seg.nrrd`` on its image's grid.

    A voxel that is not annotated belongs to no structure, as one of the background does: a file for
    training is written by `alunet.loop.outputs.export_labels`, which tells them apart.

    Args:
        names: of annotated cases; none of them: all that are annotated.
        colors: #rrggbb of structures by name; without: those of the project, and for the others
            one by their number.

    Raises:
        InputError: a case is unknown or not annotated, nothing is annotated, or the files cannot be
            written.
    """
    cases = annotated_cases(project, names)
    segments = _segments(project, colors or {})
    targets = [Path(folder) / f"{case.name}{SEGMENTATION_ENDING}" for case in cases]
    with all_or_none(targets) as (parts, targets):
        for case, part in zip(cases, parts, strict=True):
            labels = project.annotations.read(case.name)
            shown = np.where(labels == NOT_ANNOTATED, 0, labels).astype(labels.dtype)
            write_segments(shown, case.images[0], part, segments)
    return targets


def _segments(project: Project, colors: Mapping[str, str]) -> list[WrittenSegment]:
    known, own = project.cases.structures, project.settings.colors
    pairs = [pair for pair in zip(known.names, known.numbers, strict=True) if pair[1]]
    return [
        WrittenSegment(
            f"ALUNet_{number}", name, number, colors.get(name) or own.get(number) or _color(number)
        )
        for name, number in pairs
    ]


def _color(number: int) -> str:
    parts = colorsys.hsv_to_rgb(0.05 + number * _GOLDEN % 1, 0.75, 0.95)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
