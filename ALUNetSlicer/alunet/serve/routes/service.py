"""Health and projects."""

from __future__ import annotations

from fastapi import APIRouter, Response

from alunet.schema import CurvePoint, Health, ProjectInfo, ProjectRequest, RoundInfo, StrategyInfo
from alunet.serve import status
from alunet.serve.projects import describe
from alunet.serve.state import State


def router(state: State) -> APIRouter:
    """Routes of this subject."""
    routes = APIRouter()

    @routes.get("/health")
    def health() -> Health:
        """Version, device, free memory and disk."""
        return state.health()

    @routes.get("/strategies")
    def strategies() -> list[StrategyInfo]:
        """The ways to choose slices."""
        return status.strategies()

    @routes.get("/projects")
    def projects() -> list[ProjectInfo]:
        """All projects, by id."""
        found = []
        for identifier in state.projects.ids():
            with state.projects.open(identifier) as project:
                found.append(describe(identifier, project))
        return found

    @routes.post("/projects", status_code=201)
    def create(request: ProjectRequest, response: Response) -> ProjectInfo:
        """Make a project; the same again finds it (200)."""
        made, fresh = state.projects.create(request)
        response.status_code = 201 if fresh else 200
        return made

    @routes.get("/projects/{project}")
    def project(project: str) -> ProjectInfo:
        """One project and how it stands."""
        with state.projects.open(project) as opened:
            return describe(project, opened, whole=True)

    @routes.get("/projects/{project}/rounds")
    def rounds(project: str) -> list[RoundInfo]:
        """All rounds, by number."""
        with state.projects.open(project) as opened:
            return status.rounds(opened)

    @routes.get("/projects/{project}/curve")
    def curve(project: str) -> list[CurvePoint]:
        """The learning curve: one point a finished round."""
        with state.projects.open(project) as opened:
            return status.curve(opened)

    return routes
