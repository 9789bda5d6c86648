"""The best proposal for a slice: the newest model's, or what the drawn slices beside it say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alunet.errors import InputError
from alunet.imaging.reading import read_labels
from alunet.loop.slices import slice_axis
from alunet.model.metrics import DICE, MEAN
from alunet.project import Case, Project
from alunet.proposals.expected import MODEL_UNMEASURED, fit_accuracy
from alunet.proposals.neighbors import Neighbors
from alunet.proposals.proposal import Proposal
from alunet.schema import NOT_ANNOTATED, ProposalSource

LEAST = 0.5
"""Expected Dice below which a slice rather begins empty than from its neighbors."""
_NOT_YET = "There is no proposal for this slice yet."


@dataclass(frozen=True)
class ModelFile:
    """The newest segmentation of a case, and the round of the model that made it."""

    round: int
    file: Path


def propose(
    project: Project, sample: int, source: ProposalSource | None, model: ModelFile | None
) -> tuple[Proposal, int]:
    """Return the proposal for a sample, (k, j, i) of its box, and the round of its model, else 0.

    Without a source the one that is expected to be better: the neighbors' where slices are drawn
    on both sides, by their distance and by how well drawn slices near it are foretold by the
    others; the model's by the mean Dice of its round.

    Args:
        source: where it shall come from; None for the best.
        model: the model's segmentation of the case, where there is one.

    Raises:
        InputError: the source has nothing for this slice.
    """
    if source is ProposalSource.EMPTY:
        empty = np.zeros(project.samples.place(sample).shape, np.uint8)
        return Proposal(empty, None, ProposalSource.EMPTY), 0
    found = None
    if source is not ProposalSource.MODEL:
        found = _of_neighbors(project, sample, source is None)
    if found is None and source is ProposalSource.NEIGHBORS:
        raise InputError("No slice of this case is drawn yet.", "Draw one, or take another source.")
    quality = None if model is None else _quality_of(project, model.round)
    least = LEAST if quality is None else max(quality, LEAST)
    if found is not None and (source is not None or (found.quality or 0) > least):
        return found, 0
    if model is None:
        raise InputError(_NOT_YET, "The next round makes it.")
    place = project.samples.place(sample)
    # the model may have known structures that the project no longer has
    labels = project.cases.structures.current(read_labels(model.file)[place.slices])
    labels = np.where(labels == NOT_ANNOTATED, 0, labels).astype(labels.dtype)
    return Proposal(labels, quality, ProposalSource.MODEL), model.round


def drawn_beside(project: Project, sample: int) -> tuple[Neighbors, int]:
    """Return the slices of a sample's case that are drawn in all of its box, and its own number.

    Its own slice is not among them.
    """
    place = project.samples.place(sample)
    case = _case(project, place.case)
    axis, number = slice_axis(case), int(project.pool.slice_raw[sample])
    box = tuple(slice(None) if own == axis else part for own, part in enumerate(place.slices))
    drawn: dict[int, np.ndarray] = {}
    if place.case in project.annotations.cases():
        labels = np.moveaxis(project.annotations.read(place.case)[box], axis, 0)
        whole = (labels != NOT_ANNOTATED).all(axis=(1, 2))
        drawn = {int(own): labels[own] for own in np.flatnonzero(whole) if own != number}
    mm = (case.spacing[axis], *(side for own, side in enumerate(case.spacing) if own != axis))
    return Neighbors(drawn, (mm[0], mm[1], mm[2]), case.shape[axis]), number


def _of_neighbors(project: Project, sample: int, between: bool) -> Proposal | None:
    """What the drawn slices say; None where none is drawn, or where `between` asks for one on each
    side.
    """
    source, number = drawn_beside(project, sample)
    beside = source.beside(number)
    if not source.drawn or (between and None in beside):
        return None
    quality = fit_accuracy(source, number).quality(source.separation(number))
    if between and quality is None:  # nothing at all is drawn in the case
        return None
    shape = project.samples.place(sample).shape
    return Proposal(source.at(number).reshape(shape), quality, ProposalSource.NEIGHBORS)


def _quality_of(project: Project, number: int) -> float:
    """Mean Dice of a round on the test cases; `MODEL_UNMEASURED` where there are none."""
    for entry in project.rounds.finished():
        if entry.number == number and entry.record is not None:
            metrics = entry.record.get("metrics") or {}
            value = metrics.get(DICE, {}).get(MEAN)
            return MODEL_UNMEASURED if value is None else float(value)
    return MODEL_UNMEASURED


def _case(project: Project, name: str) -> Case:
    return next(case for case in project.cases.all("pool") if case.name == name)
