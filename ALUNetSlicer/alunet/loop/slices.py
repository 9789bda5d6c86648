"""The slices of a case, and the samples that they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from alunet.errors import InputError
from alunet.project import Case, Project


def pool_case(project: Project, name: str) -> Case:
    """The case of that name, which must be in the pool.

    Raises:
        InputError: there is no such case, it is for evaluation, or it is not planned yet.
    """
    found = [case for case in project.cases.all() if case.name == name]
    if not found and name in {case.name for case in project.cases.all(removed=True)}:
        raise InputError(f"Case {name!r} was removed.", "Restore it first.")
    if not found:
        known = ", ".join(case.name for case in project.cases.all("pool")[:3])
        raise InputError(
            f"There is no case {name!r} in the project.",
            f"Its cases are {known}, …" if known else "",
        )
    if found[0].role != "pool":
        raise InputError(f"Case {name!r} is for evaluation.", "Annotate cases of the pool.")
    pool = project.samples.known_pool()
    if pool is None or name not in pool.cases:
        raise InputError(f"Case {name!r} is not planned yet.", "Plan the project first.")
    return found[0]


def slice_axis(case: Case) -> int:
    """Axis of the image's array (k, j, i) that is sliced."""
    if case.geometry is None:
        raise InputError(f"Case {case.name!r} is not planned yet.", "Plan the project first.")
    return case.geometry.transpose[0]


def has_tiles(project: Project, name: str) -> bool:
    """Whether a slice of the case is more than one sample."""
    return project.samples.has_tiles(name)


def samples_of_slices(project: Project, case: Case, slices: Sequence[int]) -> list[int]:
    """All samples of some slices of a case.

    Raises:
        InputError: a slice is outside the image, or outside the part of it that is not zero.
    """
    ids = project.pool.samples_of(case.name)
    raw, extent = project.pool.slice_raw[ids], case.shape[slice_axis(case)]
    for number in slices:
        if not 0 <= number < extent:
            raise InputError(
                f"{case.name} has no slice {number}.", f"Its slices are 0 to {extent - 1}."
            )
        if number not in raw:
            raise InputError(
                f"Slice {number} of {case.name} is empty in the image.",
                f"Use slices {raw.min()} to {raw.max()}.",
            )
    return [int(sample) for sample in ids[np.isin(raw, list(slices))]]


def slices_of(project: Project, samples: Iterable[int]) -> tuple[int, ...]:
    """Return the slices of some samples, ascending."""
    return tuple(sorted({int(project.pool.slice_raw[sample]) for sample in samples}))
