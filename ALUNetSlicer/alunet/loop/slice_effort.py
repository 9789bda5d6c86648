"""The effort of the slices that the oracle annotates: from the current model's proposal to the
reference labels.

``rounds/NNN/effort.json`` holds it by sample; it is written before the labels are, so that a round
that was stopped between knows it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from alunet.imaging.reading import read_labels
from alunet.loop.loop import Loop
from alunet.loop.oracle import read_reference
from alunet.loop.proposal_files import proposal_file
from alunet.loop.proposals import propose
from alunet.loop.round_record import EFFORT_FILE
from alunet.loop.slices import slice_axis
from alunet.project import Case
from alunet.proposals.effort import Effort, effort_of
from alunet.schema import NOT_ANNOTATED
from alunet.storage.files import write_json


def keep_effort(loop: Loop, samples: Sequence[int]) -> None:
    """Measure what annotating some samples costs in the open round, unless that is known.

    Each starts from the newest model's proposal, before the first model from nothing.

    Raises:
        InputError: a case has no reference label, or the model cannot be used.
    """
    folder = loop.folder()
    if (folder / EFFORT_FILE).is_file():
        return
    pool, cases = loop.project.pool, {case.name: case for case in loop.project.cases.all("pool")}
    of_case: dict[str, list[int]] = {}
    for sample in samples:
        of_case.setdefault(pool.case_name(sample), []).append(sample)
    if loop.current():
        propose(loop, samples)
    efforts: dict[str, Any] = {}
    for name, own in sorted(of_case.items()):
        case = cases[name]
        truth, file = read_reference(case), proposal_file(folder, name)
        start = read_labels(file) if file.is_file() else np.zeros_like(truth)
        for sample in own:
            place = pool.raw_slices(sample)
            efforts[str(sample)] = _effort(case, start[place], truth[place]).to_json()
    write_json(folder / EFFORT_FILE, efforts)
    shutil.rmtree(folder / "proposals", ignore_errors=True)


def _effort(case: Case, start: np.ndarray, truth: np.ndarray) -> Effort:
    axis = slice_axis(case)
    rows, columns = (mm for place, mm in enumerate(case.spacing) if place != axis)
    # where the reference says nothing there is nothing to correct
    known = np.where(truth == NOT_ANNOTATED, np.uint8(0), truth).take(0, axis)
    return effort_of(
        np.where(truth == NOT_ANNOTATED, 0, start).take(0, axis), known, (rows, columns)
    )
