"""Measure a model on the test cases (docs/method.md, 1.2), whichever framework made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alunet.imaging.reading import read_labels_with_spacing
from alunet.model.metrics import Values, mean_over_cases, measure
from alunet.schema import NOT_ANNOTATED, Emit, Event


@dataclass(frozen=True)
class LabelledCase:
    """A test case: its name and the file of its reference label.

    Attributes:
        silent: structures, by value, of which the reference says nothing.
    """

    name: str
    label: Path
    silent: tuple[int, ...] = ()


def evaluate(
    segment: Callable[[str], np.ndarray],
    cases: Sequence[LabelledCase],
    structures: Mapping[str, int],
    emit: Emit,
) -> dict[str, Any]:
    """Measure the test cases: ``{"cases": {case: {metric: {structure: value}}}, "metrics": {metric:
    {…}}}``.

    The latter is the mean over the cases in which a structure is predicted or present; None where
    it is in no case. A structure of which a case's reference says nothing is None there.

    Args:
        segment: gives the segmentation of a case by its name, on the grid of its label:
            `TrainedModel.segment`.
        structures: name -> value in the label maps.
    """
    table: dict[str, dict[str, Values]] = {}
    for index, case in enumerate(cases):
        reference, spacing = read_labels_with_spacing(case.label)
        predicted = segment(case.name)
        predicted[reference == NOT_ANNOTATED] = 0  # the reference says nothing there
        shown = {name: value for name, value in structures.items() if value not in case.silent}
        found = measure(predicted, reference, spacing, shown)
        unknown = dict.fromkeys(structures)
        table[case.name] = {metric: {**unknown, **values} for metric, values in found.items()}
        emit(
            Event(
                "progress",
                {"phase": "evaluate", "done": index + 1, "total": len(cases), "unit": "cases"},
            )
        )
    return {"cases": table, "metrics": mean_over_cases(list(table.values()))}
