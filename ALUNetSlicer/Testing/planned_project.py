"""A project that looks planned, without nnU-Net: as if preprocessing had left the images as they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alunet.pool import CaseGeometry, Pool
from alunet.project import Project


def geometry(
    name: str, shape: Sequence[int], transpose: Sequence[int] = (0, 1, 2), low: int = 0
) -> CaseGeometry:
    """A case whose preprocessed grid is its image's, sliced across another axis or without its
    first `low` slices.
    """
    grid = tuple(shape[axis] for axis in transpose)
    crop = ((low, grid[0]), (0, grid[1]), (0, grid[2]))
    return CaseGeometry(name, tuple(shape), tuple(transpose), crop, (grid[0] - low, *grid[1:]))


def drop_latest_columns(database: Any) -> None:
    """Take away what the last versions of the schema added, but for whole tables of others."""
    database.execute("DROP VIEW counted_samples")
    for table in ("learned", "files", "painted"):
        database.execute(f"DROP TABLE {table}")
    files, changes = ("content", "stamp", "notes", "dicom"), ("changed", "changed_by", "outdated")
    own = (*files, *changes, "silent", "unseen", "planning", "learn", "state", "map", "copy")
    sealed = (("versions", ("derived", "voxels", "checksum")), ("annotations", ("checksum",)))
    for table, columns in (("cases", own), ("rounds", ("anew",)), *sealed):
        known = [row[1] for row in database.execute(f"PRAGMA table_info({table})").fetchall()]
        for column in set(columns) & set(known):
            database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")


def plan(
    project: Project,
    patch: Sequence[int] | None = None,
    cases: Sequence[str] | None = None,
    transpose: Sequence[int] = (0, 1, 2),
    low: int = 0,
) -> Project:
    """Plan cases of the pool, all or those that are named; without a patch a sample is a whole
    slice of the first.
    """
    found = [
        geometry(case.name, case.shape, transpose, low)
        for case in project.cases.all("pool")
        if cases is None or case.name in cases
    ]
    for own in found:
        project.cases.set_geometry(own.case, own)
    size = tuple(found[0].grid_shape[1:] if patch is None else patch)
    project.settings.patch = list(size)
    project.samples.set_pool(Pool.build(found, size))
    return project


def suggest(
    project: Project,
    samples: Sequence[int],
    strategy: str = "spread",
    reasons: Sequence[str] | None = None,
) -> None:
    """Suggest samples in round 0."""
    number = len(samples)
    project.rounds.begin(strategy, number)
    project.worklist.suggest(
        0, samples, [0.0] * number, [""] * number if reasons is None else reasons
    )
