"""The structures of a project, and how they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, Query

from alunet.loop.annotation_loop import AnnotationLoop
from alunet.project import Project
from alunet.project.changes import Asked, Change
from alunet.schema import (
    Code,
    Operations,
    StructureChange,
    StructureEdit,
    StructureInfo,
    StructureRequest,
    to_json,
)
from alunet.schema import Header as Names
from alunet.serve.problems import Refused
from alunet.serve.routes.declared import serves
from alunet.serve.routes.work import check_author, digest_of
from alunet.serve.state import State

Key = Annotated[str, Header(alias=Names.KEY, max_length=100)]


def router(state: State) -> APIRouter:
    """Routes of this subject."""
    routes = APIRouter()

    def changed(project: str, asked: Asked, change: Callable[[Project], Change]) -> StructureChange:
        with state.projects.own(project) as opened:
            done = opened.structures.answered(asked) or change(opened)
            AnnotationLoop(opened).structures_changed()
            return StructureChange(opened.structures.all(), done.again, list(done.notes))

    @serves(routes, Operations.structures)
    def structures(project: str) -> list[StructureInfo]:
        with state.projects.open(project) as opened:
            return opened.structures.all()

    @serves(routes, Operations.add_structure)
    def add(project: str, request: StructureRequest, key: Key = "") -> StructureChange:
        asked = _asked(request.author, key, "add", to_json(request))

        def change(opened: Project) -> Change:
            return opened.structures.add(request.name, request.earlier, request.color, asked)

        return changed(project, asked, change)

    @serves(routes, Operations.edit_structure)
    def edit(
        project: str, structure: int, request: StructureEdit, key: Key = ""
    ) -> StructureChange:
        asked = _asked(request.author, key, "edit", [structure, to_json(request)])

        def change(opened: Project) -> Change:
            name = _name(opened, structure)
            return opened.structures.edit(name, request.name, request.color, asked)

        return changed(project, asked, change)

    @serves(routes, Operations.remove_structure)
    def remove(
        project: str,
        structure: int,
        author: Annotated[str, Query(min_length=1, max_length=100)],
        voxels: Annotated[str | None, Query(max_length=200)] = None,
        key: Key = "",
    ) -> StructureChange:
        asked = _asked(author, key, "remove", [structure, voxels])

        def change(opened: Project) -> Change:
            return opened.structures.remove(_name(opened, structure), voxels, asked)

        return changed(project, asked, change)

    return routes


def _name(project: Project, number: int) -> str:
    """The name of a structure by its number."""
    found = [one.name for one in project.structures.all() if one.number == number]
    if not found:
        raise Refused(
            Code.NOT_FOUND, f"The project has no structure {number}.", "See its structures."
        )
    return found[0]


def _asked(author: str, key: str, what: str, content: object) -> Asked:
    check_author(author)
    return Asked(author, key, digest_of(what, content))
