"""Cases of a project: described, and what jobs made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alunet.imaging.reading import EXACT_ENDING
from alunet.loop.proposal_files import proposed, some_proposal, whole_proposal
from alunet.project import Case, Project
from alunet.schema import CaseInfo, Code
from alunet.schema.names import composed
from alunet.serve.problems import Refused


def find(project: Project, name: str) -> Case:
    """The case of that name; raises Refused where there is none."""
    for case in project.cases.all():
        if composed(case.name) == composed(name):
            return case
    raise Refused(Code.NOT_FOUND, f"There is no case '{name[:150]}'.", "See the list of cases.")


def describe_case(project: Project, name: str) -> CaseInfo:
    """One case as clients see it."""
    return _describe(project, find(project, name), project.annotations.cases())


def describe_cases(project: Project) -> list[CaseInfo]:
    """All cases, by name, also those that were removed."""
    annotated = {own.name: own.annotated for own in project.case_changes.records()}
    return [_describe(project, case, annotated) for case in project.cases.all(removed=True)]


def _describe(project: Project, case: Case, annotated: dict[str, int]) -> CaseInfo:
    proposal = newest_output(project, case.name, "proposals")
    return CaseInfo(
        name=case.name,
        role=case.role,
        channels=len(case.images),
        shape=list(case.shape),
        spacing=list(case.spacing),
        has_label=case.label is not None,
        annotated=annotated.get(case.name, 0),
        proposal=None if proposal is None else proposal[0],
        state=case.state,
    )


def newest_output(project: Project, case: str, what: str) -> tuple[int, Path] | None:
    """The newest file of a case that jobs made, and the round of the model that made it.

    Args:
        what: folder below that of the round: "proposals", or "uncertainty/MEASURE".
    """
    for number, folder in _newest_rounds(project):
        file = folder / what / f"{case}{EXACT_ENDING}"
        if file.is_file():
            return number, file
    return None


def newest_proposal(project: Project, case: str, number: int) -> tuple[int, Path] | None:
    """The newest label map with a proposal for a slice, and the round of the model that made it.

    Args:
        number: of the slice in the preprocessed image.
    """
    for made, folder in _newest_rounds(project):
        if whole_proposal(folder, case).is_file():
            return made, whole_proposal(folder, case)
        if number in proposed(folder, case):
            return made, some_proposal(folder, case)
    return None


def _newest_rounds(project: Project) -> Iterator[tuple[int, Path]]:
    """The newest model's round and the folder of what it was asked, then those before."""
    for folder in sorted(project.rounds_dir.glob("[0-9][0-9][0-9]*"), reverse=True):
        yield int(folder.name) - 1, folder
