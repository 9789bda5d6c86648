"""Cases that leave a project, come back or change their role, and annotations taken back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header

from alunet.errors import InputError
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.project import Project
from alunet.project.case_changes import CaseRecord
from alunet.schema import Code, Operations
from alunet.schema import Header as Names
from alunet.schema.changes import (
    CaseChange,
    ChangedCase,
    EraseRequest,
    TakeBackRequest,
    TakenBack,
)
from alunet.schema.names import composed
from alunet.serve.copies import forget_copies
from alunet.serve.problems import Refused
from alunet.serve.routes.declared import serves
from alunet.serve.routes.work import check_author, check_sample, digest_of
from alunet.serve.state import State

Key = Annotated[str, Header(alias=Names.KEY, max_length=100)]


def router(state: State) -> APIRouter:
    """Routes of this subject."""
    routes = APIRouter()
    _add_cases(routes, state)
    _add_samples(routes, state)
    return routes


def _add_cases(routes: APIRouter, state: State) -> None:
    @serves(routes, Operations.change_case)
    def change(project: str, case: str, request: CaseChange) -> ChangedCase:
        check_author(request.author)
        if request.state not in (None, "present", "removed"):
            raise InputError(f"A case cannot be '{request.state[:20]}'.", "Use present, removed.")
        with state.projects.open(project) as opened:
            case = _record(opened, case).name
            changes, says = opened.case_changes, []
            with opened.together():
                if request.state is not None:
                    set_state = changes.remove if request.state == "removed" else changes.restore
                    says += set_state(case, request.author)
                if request.role is not None:
                    says += changes.set_role(case, request.role, request.author)
            AnnotationLoop(opened).follow()
            record = _record(opened, case)
        return ChangedCase(case, record.role, record.state, list(dict.fromkeys(says)))

    @serves(routes, Operations.erase_case)
    def erase(project: str, case: str, request: EraseRequest, key: Key = "") -> ChangedCase:
        check_author(request.author)
        with state.projects.open(project) as opened:
            answer = opened.requests.answer(key, "erasure")
        if answer is not None:
            return ChangedCase(**answer)
        with state.projects.open(project) as opened:
            role = _record(opened, case).role
        with state.projects.own(project) as opened:
            case = _record(opened, case).name
            erased = opened.erasing.erase(
                case,
                request.author,
                lambda uploads: forget_copies(state.settings.root, uploads),
            )
            answer = {"name": erased.name, "role": role, "state": "erased", "says": erased.says}
            opened.requests.keep(key, "erasure", answer)  # a digest would tell the name
            AnnotationLoop(opened).follow()
        return ChangedCase(**answer)


def _add_samples(routes: APIRouter, state: State) -> None:
    @serves(routes, Operations.take_back)
    def take_back(project: str, sample: int, request: TakeBackRequest, key: Key = "") -> TakenBack:
        check_author(request.author)
        digest = digest_of("take back", sample, request.author, request.undo)
        with state.projects.open(project) as opened:
            check_sample(opened, sample)
            parts = opened.taking_back
            if request.undo:
                (found,) = parts.undo([sample], request.author, key=key, digest=digest)
            else:
                (found,) = parts.take_back(
                    [sample],
                    request.author,
                    base=request.base_version,
                    key=key,
                    digest=digest,
                )
            AnnotationLoop(opened).follow()
            says = parts.says([sample])
        return TakenBack(sample, found.status.value, found.version, says)


def _record(project: Project, name: str) -> CaseRecord:
    """The row of a case that is in the project or was removed."""
    for record in project.case_changes.records():
        if composed(record.name) == composed(name) and record.state != "erased":
            return record
    raise Refused(Code.NOT_FOUND, f"There is no case '{name[:150]}'.", "See the list of cases.")
