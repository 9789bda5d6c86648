"""What the newest model proposes for the slices of a batch.

A small case is segmented as a whole. Of a large one the asked slices alone are, in a label map on
the grid of its image in which all others are open: a slice costs its own passes then, and not those
of hundreds of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alunet.imaging.reading import EXACT_ENDING, read_labels
from alunet.imaging.writing import write_like
from alunet.loop import outputs
from alunet.loop.loop import Loop
from alunet.loop.proposal_files import (
    describe,
    listed,
    proposed,
    slices_in,
    some_proposal,
    whole_proposal,
)
from alunet.model.child import step
from alunet.pool import CaseGeometry
from alunet.project import Case
from alunet.project.importing import counted
from alunet.schema import NOT_ANNOTATED, Emit
from alunet.storage.files import atomic_path

WHOLE_VOXELS = 4_000_000
"""Cases up to this size are segmented as a whole: about half a minute of a core."""


def propose(loop: Loop, samples: Iterable[int]) -> dict[str, dict[str, float]]:
    """Segment the slices of these samples by the newest model, those that are not yet.

    Returns:
        Seconds and memory of the step "predict"; nothing where no slice was missing.

    Raises:
        InputError: as `outputs.predict`.
    """
    folder, pool = loop.folder(), loop.project.samples.pool
    asked: dict[str, set[int]] = {}
    for sample in samples:
        asked.setdefault(pool.case_name(sample), set()).add(int(pool.slice[sample]))
    missing = [name for name in asked if not whole_proposal(folder, name).is_file()]
    shapes = {case.name: case.shape for case in loop.project.cases.all("pool")}
    small = [name for name in missing if np.prod(shapes[name]) <= WHOLE_VOXELS]
    left = {name: asked[name] - set(proposed(folder, name)) for name in missing}
    large = {name: left[name] for name in missing if name not in small and left[name]}
    costs: dict[str, dict[str, float]] = {}
    if small or large:
        with step("predict", loop.emit, costs):
            if small:
                outputs.predict(loop, small, folder / "proposals", EXACT_ENDING, proposals=True)
            if large:
                _propose_some(loop, large)
    return costs


def _propose_some(loop: Loop, asked: dict[str, set[int]]) -> None:
    names = list(asked)
    folder, weights = loop.folder(), loop.newest_weights()
    (folder / "proposals" / "slices").mkdir(parents=True, exist_ok=True)
    describe(folder, loop.project.cases.structures)
    loop.run_child(
        "alunet.loop.proposals:segment_slices",
        weights.with_name("predict.log"),
        cases=[
            _described(case, some_proposal(folder, case.name), sorted(asked[case.name]))
            for case in outputs.preprocessed(loop, names)
        ],
        weights=str(weights),
        scoring=loop.scoring,
        device=loop.device,
        threads=loop.threads,
    )


def _described(case: Case, file: Path, slices: list[int]) -> dict[str, Any]:
    """What the child must know of a case."""
    return {
        "name": case.name,
        "image": str(case.images[0]),
        "geometry": case.geometry.to_json() if case.geometry else "",
        "file": str(file),
        "slices": slices,
    }


# --- inside the child -----------------------------------------------------------------------------


def segment_slices(
    framework: str,
    folder: str,
    cases: Sequence[dict[str, Any]],
    weights: str,
    scoring: dict[str, Any],
    device: str,
    threads: int,
    emit: Emit,
) -> None:
    """Segment slices of `cases` [{"name", "image", "geometry", "file", "slices"}], each case into
    its file, which keeps what it has.
    """
    model = outputs.open_model(framework, folder, weights, scoring, device, threads, emit)
    for case, _ in counted(cases, "predict", emit):
        geometry, file = CaseGeometry.from_json(case["geometry"]), Path(case["file"])
        slices: list[int] = case["slices"]
        known = slices_in(file)
        labels = (
            read_labels(file) if known else np.full(geometry.raw_shape, NOT_ANNOTATED, np.uint8)
        )
        found = model.segment(case["name"], slices)
        first = geometry.crop[0][0]
        across = labels.transpose(geometry.transpose)  # a view: slice, row, column
        across[[first + number for number in slices]] = found.transpose(geometry.transpose)
        write_like(labels, Path(case["image"]), file)
        with atomic_path(listed(file)) as part:
            np.save(part, np.array(sorted({*known, *slices})))
