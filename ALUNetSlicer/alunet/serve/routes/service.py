"""Health and projects."""

from __future__ import annotations

from fastapi import APIRouter, Response

from alunet.schema import (
    CurvePoint,
    Health,
    Operations,
    ProjectInfo,
    ProjectRequest,
    RoundInfo,
    StrategyInfo,
)
from alunet.serve import status
from alunet.serve.projects import describe_project
from alunet.serve.routes.declared import serves
from alunet.serve.state import State


def router(state: State) -> APIRouter:
    """Routes of this subject."""
    routes = APIRouter()

    @serves(routes, Operations.health)
    def health() -> Health:
        return state.health()

    @serves(routes, Operations.strategies)
    def strategies() -> list[StrategyInfo]:
        return status.strategies()

    @serves(routes, Operations.projects)
    def projects() -> list[ProjectInfo]:
        return state.projects.listed()

    @serves(routes, Operations.create_project)
    def create(request: ProjectRequest, response: Response) -> ProjectInfo:
        made, fresh = state.projects.create(request)
        response.status_code = 201 if fresh else 200
        return made

    @serves(routes, Operations.project)
    def project(project: str) -> ProjectInfo:
        with state.projects.open(project) as opened:
            return describe_project(project, opened, whole=True)

    @serves(routes, Operations.rounds)
    def rounds(project: str) -> list[RoundInfo]:
        with state.projects.open(project) as opened:
            return status.rounds(opened)

    @serves(routes, Operations.curve)
    def curve(project: str) -> list[CurvePoint]:
        with state.projects.open(project) as opened:
            return status.curve(opened)

    return routes
