"""The simulated annotator: the only part of ALUNet that sees hidden labels (docs/method.md,
1.4).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from alunet.errors import InputError
from alunet.imaging.reading import read_labels
from alunet.pool import Pool
from alunet.project import Case, Project
from alunet.schema import NOT_ANNOTATED


class Oracle:
    """Answers with the reference labels that were imported with the images of `project`."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.cases: dict[str, Case] = {case.name: case for case in project.cases.all("pool")}
        missing = [name for name, case in self.cases.items() if case.label is None]
        if missing:
            raise InputError(
                f"{len(missing)} cases have no reference label, e.g. '{missing[0]}'.",
                "A simulation needs a label for every case: add them or leave these cases out.",
            )

    def reveal(self, ids: np.ndarray, round_number: int) -> None:
        """Annotate the samples `ids` with their reference labels; what is annotated already is
        left alone.
        """
        pool = self.project.pool
        wanted = ids[~self.project.samples.labelled()[ids]]
        for index in np.unique(pool.case[wanted]):
            name = pool.cases[index]
            truth = self._truth(name)
            entries = [
                (int(i), truth[pool.raw_slices(int(i))]) for i in wanted[pool.case[wanted] == index]
            ]
            self.project.annotations.annotate(name, entries, round=round_number, author="oracle")

    def counts(self, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        """Voxels of each structure, background first, nearest to each tile of `pool`, and those of
        them on its border: (n, K) int64.

        A voxel in several overlapping tiles counts for the one whose centre is nearest. The border
        of a class is the class minus its erosion by a ball of radius 1.
        """
        numbers = list(self.project.labels.values())
        classes = len(numbers)
        place = np.full(NOT_ANNOTATED + 1, NOT_ANNOTATED, np.uint8)
        place[numbers] = range(classes)
        voxels = np.zeros((len(pool), classes), np.int64)
        border = np.zeros((len(pool), classes), np.int64)
        for name in filter(self.cases.__contains__, pool.cases):
            truth = place[self._truth(name)]
            edge = _border(truth, classes)
            for ids in _slices(pool, name):
                for sample, nearest in _owned(pool, ids):
                    part, on_edge = truth[pool.raw_slices(sample)], edge[pool.raw_slices(sample)]
                    voxels[sample] = np.bincount(part[nearest], minlength=classes)[:classes]
                    border[sample] = np.bincount(part[nearest & on_edge], minlength=classes)[
                        :classes
                    ]
        return voxels, border

    def _truth(self, name: str) -> np.ndarray:
        case = self.cases[name]
        self.project.cases.files.check_case(name, [case.label] if case.label else [])
        return read_reference(case)


def read_reference(case: Case) -> np.ndarray:
    """Return the reference label of a case as annotations hold it, uint8 (k, j, i).

    Where it says nothing of a structure that the project got later, its background is open.

    Raises:
        InputError: the case has none.
    """
    if case.label is None:
        raise InputError(
            f"Case '{case.name}' has no reference label.", "Add one, or leave the case out."
        )
    labels = read_labels(case.label).astype(np.uint8, copy=False)
    return np.where(labels == 0, np.uint8(NOT_ANNOTATED), labels) if case.silent else labels


def _border(truth: np.ndarray, classes: int) -> np.ndarray:
    from scipy import ndimage  # slow to load, and people who label by hand never need it

    ball = ndimage.generate_binary_structure(3, 1)  # radius 1
    border = np.zeros(truth.shape, bool)
    for value in range(1, classes):
        mask = truth == value
        if mask.any():
            border |= mask & ~ndimage.binary_erosion(mask, ball)
    return border


def _slices(pool: Pool, case: str) -> Iterator[np.ndarray]:
    """The samples of each slice of a case."""
    ids = pool.samples_of(case)
    for number in np.unique(pool.slice[ids]):
        yield ids[pool.slice[ids] == number]


def _owned(pool: Pool, ids: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each sample of one slice, the voxels of its raw box whose nearest tile centre is its
    own (ties: lower id).
    """
    centres = pool.raw_box[ids].mean(axis=2)
    for place, sample in enumerate(ids):
        box = pool.raw_box[sample]
        if len(ids) == 1:
            yield int(sample), np.ones(tuple(box[:, 1] - box[:, 0]), bool)
            continue
        grid = np.stack(
            np.meshgrid(*[np.arange(low, high) + 0.5 for low, high in box], indexing="ij"), -1
        )
        distances = ((grid[..., None, :] - centres) ** 2).sum(-1)
        inside = np.stack([_within(pool.raw_box[other], box) for other in ids], -1)
        yield int(sample), np.where(inside, distances, np.inf).argmin(-1) == place


def _within(other: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Which voxels of `box` lie in `other`, as a boolean array of the shape of `box`."""
    places = [np.arange(low, high) for low, high in box]
    masks = [
        (place >= low) & (place < high) for place, (low, high) in zip(places, other, strict=True)
    ]
    return masks[0][:, None, None] & masks[1][None, :, None] & masks[2][None, None, :]
