"""Which cases a study learns from and which it tests on: all cases of a patient are on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.imaging.dataset import DatasetDescription
from alunet.imaging.patients import (
    Patients,
    PatientsUnclear,
    by_patient,
    group_cases,
    guess_patients,
    same_patients,
)
from alunet.simulation.config import BY_CASE, splits
from alunet.storage.files import write_json

Group = str | Mapping[str, Sequence[str]]
"""How cases group: a pattern that captures the patient, "none", or a table {patient: cases}."""


@dataclass(frozen=True)
class Split:
    """The patients of a study's cases, and the side that each case is on.

    Attributes:
        pool: cases of the data set.
        test: cases of the test set; None where the test cases are those of a fold.
        patients: of all these cases.
    """

    pool: tuple[str, ...]
    test: tuple[str, ...] | None
    patients: Patients

    @classmethod
    def of(
        cls, pool: DatasetDescription, test: DatasetDescription | None, group: Group | None
    ) -> Split:
        """Return the split of a data set, and of its test set if there is one.

        Args:
            pool: the data set.
            test: the test set.
            group: how their cases group; None: as the data sets say.

        Raises:
            PatientsUnclear: nothing says how cases group, and their names look like several cases
                of one patient.
            InputError: the grouping does not fit the cases, or a patient is in both sets.
        """
        names, others = _names(pool), None if test is None else _names(test)
        if group is not None:
            patients = group_cases([*names, *(others or ())], group, "--group")
        else:
            patients = _said(pool) | ({} if test is None else _said(test))
            _check_unsaid(names, others, patients)
            patients = {name: patients.get(name, name) for name in [*names, *(others or ())]}
        split = cls(names, others, patients)
        split._check_sides()
        return split

    def _check_sides(self) -> None:
        here = {self.patients[name].casefold() for name in self.pool}
        both = [name for name in self.test or () if self.patients[name].casefold() in here]
        if both:
            count = len({self.patients[name] for name in both})
            who = "1 patient is" if count == 1 else f"{count} patients are"
            raise InputError(
                f"{who} in the data set and in the test set, e.g. '{self.patients[both[0]]}' "
                f"(case '{both[0]}').",
                "A test case must not be of a patient in the pool: leave the patient out of one "
                "of them.",
            )

    @property
    def is_by_case(self) -> bool:
        """Whether each case is another patient."""
        return len(set(self.patients.values())) == len(self.patients)

    def tests(self, folds: Sequence[int]) -> dict[int, list[str]]:
        """Return the test cases by fold; with a test set there is one "fold", number 0.

        Raises:
            InputError: such a fold is not there, or there are too few patients.
        """
        if self.test is None:
            return splits(self.pool, folds, None if self.is_by_case else self.patients)
        if tuple(folds) != (0,):
            raise InputError("Folds and a test set are given.", "Give either --fold or --test.")
        return {0: list(self.test)}

    def __str__(self) -> str:
        """Return the split for `study.json`: the same words for the same patients."""
        if self.is_by_case:
            return BY_CASE
        lines = "\n".join(f"{case}\t{patient}" for case, patient in sorted(self.patients.items()))
        found = hashlib.sha256(lines.encode("utf-8")).hexdigest()[:16]
        return (
            f"by patient ({len(set(self.patients.values()))} patients, {len(self.patients)} "
            f"cases, {found})"
        )

    def save(self, out: Path, folds: Sequence[int]) -> None:
        """Write `splits.json`: who is on which side in each fold."""
        groups = by_patient(self.patients)
        content: dict[str, Any] = {"split": str(self), "patients": groups, "folds": {}}
        for fold, tests in self.tests(folds).items():
            content["folds"][str(fold)] = self._sides(set(tests))
        write_json(out / "splits.json", content)

    def _sides(self, tests: set[str]) -> dict[str, Any]:
        pool = [name for name in self.pool if name not in tests]
        return {
            "test patients": sorted({self.patients[name] for name in tests}),
            "test cases": sorted(tests),
            "pool patients": sorted({self.patients[name] for name in pool}),
            "pool cases": pool,
        }


def _names(description: DatasetDescription) -> tuple[str, ...]:
    return tuple(name for name, _, _ in description.cases)


def _said(description: DatasetDescription) -> Patients:
    """Return what a data set says of its cases, of which some may be left out."""
    said = description.patients or {}
    return {name: said[name] for name in _names(description) if name in said}


def _check_unsaid(pool: Sequence[str], test: Sequence[str] | None, said: Patients) -> None:
    """Raise PatientsUnclear where names alone suggest that the split could part a patient's
    cases.
    """
    if test is not None:
        found = same_patients(pool, test)
        if found and not said.keys() >= {*pool, *test}:
            raise PatientsUnclear(*found)
    elif not said:
        guess = guess_patients(pool)
        if guess:
            first = next(cases for cases in guess.groups.values() if len(cases) > 1)
            raise PatientsUnclear(guess, (first[0], first[1]))
